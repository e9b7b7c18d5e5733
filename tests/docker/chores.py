"""Functions for tasks of tests: they stand apart, because a container has no pytest."""

from __future__ import annotations


def after(text: str) -> str:
    """What comes after the gate."""
    return f"{text} and on"


def squared(value: int) -> int:
    """A small task."""
    return value * value


def greedy(text: str) -> int:
    """More than any container here may have."""
    return len(text) + len(bytearray(400 << 20))
