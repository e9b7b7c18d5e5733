"""The parts that systems have in common: a graph as plain calls, and an adapter that runs it.

A graph is neutral: a list of calls of plain functions, in an order in which each call follows those
that it reads. The clock starts when an adapter begins to make its own calls from it (`@task` calls,
`delayed`, `remote`, `submit`), and ends when the client has the value of the last call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an earlier call. call: its position."""

    call: int


@dataclass(frozen=True, slots=True)
class Given:
    """A large value of the client's that several calls read: what some systems `put` or `scatter`."""

    value: Any


@dataclass(frozen=True)
class Pipelines:
    """The same steps for each item, then one call with all results: as a map over items sees it."""

    items: tuple[Any, ...]
    steps: tuple[Callable[..., Any], ...]
    merge: Callable[..., Any]

    def graph(self) -> Graph:
        """Returns the calls, one a step and item. Any result is accepted."""
        make, ends = Builder(), []
        for item in self.items:
            value = item
            for step in self.steps:
                value = make.call(step, value)
            ends.append(value)
        make.call(self.merge, *ends)
        return Graph(make.calls, is_checked=False, pipelines=self)


@dataclass(frozen=True)
class Graph:
    """Calls as (function, arguments); the last one gives the result.

    expected: the result; `approximately` for one that rounding makes differ by the order of sums.
    pipelines: the same work in another form, where it has one.
    """

    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]
    expected: Any = None
    approximately: bool = False
    is_checked: bool = True
    pipelines: Pipelines | None = None

    def check(self, value: Any) -> None:
        """Raise ArithmeticError for a wrong result."""
        if not self.is_checked:
            return
        is_right = value == self.expected
        if self.approximately:
            is_right = abs(value - self.expected) <= 1e-6 * abs(self.expected)
        if not is_right:
            raise ArithmeticError(f"the result is {value!r}, not {self.expected!r}")


class Builder:
    """Collects the calls of a graph."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Ref:
        """Returns the reference to one more call."""
        self.calls.append((function, arguments))
        return Ref(len(self.calls) - 1)

    def graph(self, expected: Any, *, approximately: bool = False) -> Graph:
        """Returns the graph of all calls so far."""
        return Graph(self.calls, expected, approximately)


def edges(graph: Graph) -> tuple[list[set[int]], list[list[int]]]:
    """Returns the calls that each call reads, and those that read it."""
    upstream: list[set[int]] = []
    downstream: list[list[int]] = [[] for _ in graph.calls]
    for position, (_, arguments) in enumerate(graph.calls):
        upstream.append({argument.call for argument in arguments if type(argument) is Ref})
        for call in upstream[-1]:
            downstream[call].append(position)
    return upstream, downstream


class System(Protocol):
    """A running system with two workers of one thread each. Its constructor starts it."""

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        ...

    def tidy(self) -> None:
        """Drop what runs have left, after the clock has stopped."""
        ...

    def roots(self) -> dict[str, int]:
        """Returns role -> pid of processes that are not below the client. May be empty."""
        ...

    def close(self) -> None:
        """End the system."""
        ...


def filled(arguments: Iterable[Any], values: Any, given: Callable[[Any], Any]) -> list[Any]:
    """Returns arguments with values[call] for each Ref and given(value) for each Given."""
    made = []
    for argument in arguments:
        kind = type(argument)
        if kind is Ref:
            made.append(values[argument.call])
        elif kind is Given:
            made.append(given(argument.value))
        else:
            made.append(argument)
    return made


def plain(value: Any) -> Any:
    """Returns the value itself: for systems without a `put` of their own."""
    return value


def as_in_a_notebook(module: ModuleType) -> None:
    """Make the functions of a module look like those of a cell, in place.

    All systems then send them by value, as they do with what a user types. A process pool finds
    them by name in `__main__`, so they are put there.
    """
    main = sys.modules["__main__"]
    for name, thing in list(vars(module).items()):
        if callable(thing) and getattr(thing, "__module__", "") == module.__name__:
            thing.__module__ = "__main__"
            setattr(main, name, thing)
