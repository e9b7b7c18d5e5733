"""Who staffs which worker: queues of ready tasks, members of a queue, instances that hold one. Pure.

A *queue* belongs to one pinned worker or to a pool of floating ones; a *member* is one worker of it: FREE, INVOKED
(asked for) or ACTIVE (held by an instance). Nobody needs to know whether a worker is active: `route` decides.
A queue is staffed by instances of its *kind* only.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import islice

from dagnb.graph.brief import brief
from dagnb.protocol.messages import Queue

Member = tuple[int, int]
"""(queue, number of the member, from 1)"""


@dataclass(slots=True)
class QueueState:
    """One queue: ready tasks as (priority, text of the position, position), smallest first, and counts of members."""

    queue: Queue
    ready: list[tuple[int, str, int]] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    highest: int = 0
    n_invoked: int = 0
    n_active: int = 0

    __repr__ = brief


class Roster:
    """Queues, members and who holds them. Every method is one part of an atomic step."""

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        """Nothing is ready, nobody is asked for."""
        self.lines = [QueueState(queue) for queue in queues]
        self.names: dict[Member, str] = {}  # asked for again and again
        self.invoked: dict[Member, tuple[int, str]] = {}
        self.urgent: dict[
            str, list[tuple[int, str, str, Member]]
        ] = {}  # kind -> heap of invoked, and stale ones
        self.n_wanted: dict[str, int] = {}
        self.nonces: dict[Member, str] = {}
        self.held: dict[str, Member] = {}
        self.kinds: dict[str, str] = {}  # of leased instances; '' is left out
        self.touched: set[int] = set()

    def name(self, member: Member) -> str:
        """The worker's name."""
        name = self.names.get(member)
        if name is None:
            name = self.names[member] = self.lines[member[0]].queue.worker(member[1])
        return name

    def kind(self, member: Member) -> str:
        """Which instances may staff it."""
        return self.lines[member[0]].queue.kind

    def wanted(self) -> dict[str, int]:
        """kind -> how many members are asked for."""
        return {kind: n for kind, n in self.n_wanted.items() if n}

    def push(self, task: int, queue: int, priority: int) -> None:
        """A task is ready."""
        insort(self.lines[queue].ready, (priority, str(task), task))
        self.touched.add(queue)

    def withdraw(self, task: int, queue: int, priority: int) -> None:
        """A ready task is no longer: somebody committed it already."""
        _remove(self.lines[queue].ready, (priority, str(task), task))

    def route(self, fresh: str, serial: int) -> tuple[list[Member], int]:
        """Ask for a member for each ready task that no asked-for member will take, within the cap. Who was asked."""
        asked: list[Member] = []
        for queue in sorted(self.touched):
            line = self.lines[queue]
            while (
                len(line.ready) > line.n_invoked and line.n_invoked + line.n_active < line.queue.cap
            ):
                serial += 1
                member = (queue, self._free_member(line))
                line.n_invoked += 1
                self._invoke(member, line.ready[0][0], f"{fresh}:{serial}")
                asked.append(member)
        self.touched.clear()
        return asked, serial

    def adopt(self, instance: str, member: Member | None = None) -> Member | None:
        """Make the instance staff an invoked member: this one, or the most urgent of its kind. None: there is none."""
        if member is None:
            member = self._most_urgent(self.kinds.get(instance, ""))
            if member is None:
                return None
        _, nonce = self.invoked.pop(member)
        line = self.lines[member[0]]
        self.n_wanted[line.queue.kind] -= 1
        line.n_invoked -= 1
        line.n_active += 1
        self.nonces[member] = nonce
        self.held[instance] = member
        return member

    def release(self, instance: str) -> Member | None:
        """The instance no longer staffs its worker; the worker is free."""
        member = self.held.pop(instance, None)
        if member is not None:
            line = self.lines[member[0]]
            line.n_active -= 1
            heapq.heappush(line.free, member[1])
            del self.nonces[member]
        return member

    def take(self, queue: int, want: int, prefer: list[tuple[int, str, int]]) -> list[int]:
        """Up to `want` ready tasks: in a pool those just made ready here come first, for their inputs are at hand."""
        line = self.lines[queue]
        taken = []
        if prefer and line.queue.is_pool:
            taken = list(islice((entry for entry in prefer if _remove(line.ready, entry)), want))
        rest = line.ready[: want - len(taken)]
        if rest:
            del line.ready[: len(rest)]
        return [task for _, _, task in taken + rest]

    def clear(self) -> None:
        """The run is over: nothing is ready, nobody is asked for, it does not matter who is of which kind."""
        for line in self.lines:
            line.ready.clear()
            line.n_invoked = 0
        self.invoked.clear()
        self.urgent.clear()
        self.n_wanted.clear()
        self.kinds.clear()
        self.touched.clear()

    def _invoke(self, member: Member, priority: int, nonce: str) -> None:
        kind = self.kind(member)
        self.invoked[member] = (priority, nonce)
        self.n_wanted[kind] = self.n_wanted.get(kind, 0) + 1
        heapq.heappush(
            self.urgent.setdefault(kind, []), (priority, f"{member[0]}/{member[1]}", nonce, member)
        )

    def _most_urgent(self, kind: str) -> Member | None:
        heap = self.urgent.get(kind, [])
        while heap:
            priority, _, nonce, member = heap[0]
            if self.invoked.get(member) == (priority, nonce):
                return member
            heapq.heappop(heap)  # adopted since
        return None

    def _free_member(self, line: QueueState) -> int:
        if line.free:
            return heapq.heappop(line.free)
        line.highest += 1
        return line.highest


def _remove(ready: list[tuple[int, str, int]], entry: tuple[int, str, int]) -> bool:
    """Take an entry out of a sorted list; False: it is not there."""
    at = bisect_left(ready, entry)
    if at == len(ready) or ready[at] != entry:
        return False
    del ready[at]
    return True
