"""Tasks and graphs that the benchmarks share. A module of its own, so that it travels as the user's modules do."""

from __future__ import annotations

from dagnb import task
from dagnb.graph.task import Node


@task
def increment(number: int) -> int:
    """One more."""
    return number + 1


@task
def total(numbers: list[int]) -> int:
    """Their sum."""
    return sum(numbers)


def chain(length: int) -> Node[int]:
    """increment of increment of ... 0"""
    node = increment(0)
    for _ in range(length - 1):
        node = increment(node)  # type: ignore[arg-type]  # a node stands for its value
    return node


def fan(width: int) -> Node[int]:
    """`width` increments, summed by one task."""
    return total([increment(i) for i in range(width)])  # type: ignore[misc,list-item]  # nodes stand for values
