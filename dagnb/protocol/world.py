"""The world of a worker: everything that it may ask for outside itself.

Two worlds exist: the runtime (asyncio and a store) and the virtual one (simulated time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Commit, Failure, Offer, Reply

Inputs = TypeVar("Inputs")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Missing:
    """Upstream values of an offer that the store no longer holds."""

    task: int
    inputs: tuple[int, ...]

    __repr__ = brief


class World(Protocol[Inputs, Value]):
    """The acts of a worker. Each act takes time, and the world records its spans."""

    async def register(self) -> Reply:
        """Report that this instance is here, and ask for work."""
        ...

    async def wait_work(self) -> None:
        """Return when there may be work again.

        The hint may be wrong: only the reply to `register` counts.
        """
        ...

    async def fetch(self, offer: Offer) -> Inputs | Missing:
        """Return the values of the upstream tasks, or those that the store has lost."""
        ...

    async def run(self, offer: Offer, inputs: Inputs) -> Value | Failure:
        """Call the user's function."""
        ...

    async def store(self, offer: Offer, value: Value) -> Commit | Failure:
        """Store a large result; a small one becomes part of the commit."""
        ...

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        """Commit results and get the next tasks, in one round trip."""
        ...

    async def fail(self, failure: Failure) -> Reply:
        """Report a failed attempt and get the next tasks."""
        ...

    async def lost(self, missing: Missing) -> Reply:
        """Have missing upstream values computed again, and get the next tasks; the task waits."""
        ...
