"""Which instance staffs which worker: queues of ready tasks, members of a queue, instances. Pure.

A *queue* belongs to one pinned worker, or to a pool of floating workers with equal resources. A
*member* is one worker of it:

    FREE --route--> INVOKED --adopt--> ACTIVE --release--> FREE

Members are numbered from 1 and made when they are first asked for; a free one is asked for again,
the lowest number first, so that names of workers stay few. A queue is staffed by instances of its
*kind* only.

What would break without the surprising lines:

- `route` counts invoked members, not active ones: an active member is busy with the tasks that it
  has, so it does not help those that are queued. The cap holds for both together.
- An entry of a queue is (priority, text of the position, position): a sorted set of Redis orders
  equal scores by text, and the machine must take the same task as the scripts do.
- `urgent` is a heap with stale entries, because deleting the entry of one member would cost a
search. An entry counts only while its nonce is that of the invocation that made it.

The twin of this file is scripts/roster.lua: the same verbs.
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
    """One queue: its ready tasks, the most urgent first, and its members.

    ready: sorted (priority, text of the position, position). free: heap of numbers of members.
    highest: number of members ever made; each is free, invoked or active.
    """

    info: Queue
    ready: list[tuple[int, str, int]] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    highest: int = 0
    n_invoked: int = 0
    n_active: int = 0

    __repr__ = brief


class Roster:
    """Queues, their members, and the instances that hold one.

    Every method is a part of an atomic step.
    """

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        """Make a roster without ready tasks and without members."""
        self.queues = list(map(QueueState, queues))
        self.names: dict[Member, str] = {}  # a cache: names are asked for in every step
        self.invoked: dict[Member, tuple[int, str]] = {}  # member -> (priority, nonce)
        # kind -> heap of invoked members, stale entries among them
        self.urgent: dict[str, list[tuple[int, str, str, Member]]] = {}
        self.n_wanted: dict[str, int] = {}  # kind -> number of invoked members
        self.nonces: dict[Member, str] = {}  # of active members
        self.held: dict[str, Member] = {}  # instance -> the member that it staffs
        self.kinds: dict[str, str] = {}  # of leased instances; '' is left out
        self.touched: set[int] = set()  # queues that `route` must look at

    def name(self, member: Member) -> str:
        """Returns the worker's name."""
        name = self.names.get(member)
        if name is None:
            name = self.names[member] = self.queues[member[0]].info.worker(member[1])
        return name

    def kind(self, member: Member) -> str:
        """Returns the kind of instances that may staff it."""
        return self.queues[member[0]].info.kind

    def wanted(self) -> dict[str, int]:
        """Returns kind -> number of members that are asked for; kinds without any are left out."""
        return {kind: n for kind, n in self.n_wanted.items() if n}

    def adopt(self, instance: str, member: Member | None = None) -> Member | None:
        """Make the instance staff an invoked member: this one, or the most urgent of its kind.

        Returns the member, None when there is none.
        """
        if member is None:
            member = self._most_urgent(self.kinds.get(instance, ""))
            if member is None:
                return None
        _, nonce = self.invoked.pop(member)
        queue = self.queues[member[0]]
        self.n_wanted[queue.info.kind] -= 1
        queue.n_invoked -= 1
        queue.n_active += 1
        self.nonces[member] = nonce
        self.held[instance] = member
        return member

    def release(self, instance: str) -> Member | None:
        """Free the worker of an instance. Returns the member, None when it had none."""
        member = self.held.pop(instance, None)
        if member is not None:
            queue = self.queues[member[0]]
            queue.n_active -= 1
            heapq.heappush(queue.free, member[1])
            del self.nonces[member]
        return member

    def push(self, task: int, queue: int, priority: int) -> None:
        """Put a ready task in its queue."""
        insort(self.queues[queue].ready, (priority, str(task), task))
        self.touched.add(queue)

    def withdraw(self, task: int, queue: int, priority: int) -> None:
        """Remove from its queue a task that another instance has committed already."""
        _remove(self.queues[queue].ready, (priority, str(task), task))

    def goes_before(self, queue: int, priority: int) -> bool:
        """Returns whether a pinned worker has a ready task that is more urgent than this priority.

        False in a pool, where another member takes such a task.
        """
        state = self.queues[queue]
        return not state.info.is_pool and bool(state.ready) and state.ready[0][0] < priority

    def take(self, queue: int, want: int, prefer: list[tuple[int, str, int]]) -> list[int]:
        """Take up to `want` ready tasks, the most urgent first, and no more than a fair share.

        The share is that of one member among those that are active or asked for, at least one task.
        In a pool, tasks that this step made ready (`prefer`) come first: the instance that takes
        them holds one of their inputs, which then need not be fetched.
        """
        state = self.queues[queue]
        if want > 1:
            n_members = state.n_active + state.n_invoked
            want = min(want, max(1, len(state.ready) // n_members))
        taken = []
        if prefer and state.info.is_pool:
            taken = list(islice((entry for entry in prefer if _remove(state.ready, entry)), want))
        rest = state.ready[: want - len(taken)]
        if rest:
            del state.ready[: len(rest)]
        return [task for _, _, task in taken + rest]

    def route(self, fresh: str, serial: int) -> tuple[list[Member], int]:
        """Ask for a member for each ready task that no invoked member will take, within the cap.

        Returns the members that were asked for, and the next serial number of a nonce.
        """
        members: list[Member] = []
        # Queues are visited in order: otherwise the nonces would differ from those of the scripts.
        for number in sorted(self.touched):
            queue = self.queues[number]
            cap = queue.info.cap
            while len(queue.ready) > queue.n_invoked and queue.n_invoked + queue.n_active < cap:
                serial += 1
                member = (number, self._free_member(queue))
                queue.n_invoked += 1
                self._invoke(member, queue.ready[0][0], f"{fresh}:{serial}")
                members.append(member)
        self.touched.clear()
        return members, serial

    def clear(self) -> None:
        """Forget ready tasks, invocations and kinds, because the run is over.

        Active members stay: their instances have yet to learn of it.
        """
        for queue in self.queues:
            queue.ready.clear()
            queue.n_invoked = 0
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

    def _free_member(self, queue: QueueState) -> int:
        if queue.free:
            return heapq.heappop(queue.free)
        queue.highest += 1
        return queue.highest


def _remove(ready: list[tuple[int, str, int]], entry: tuple[int, str, int]) -> bool:
    """Take an entry out of a sorted list. Returns False when it is not there."""
    position = bisect_left(ready, entry)
    if position == len(ready) or ready[position] != entry:
        return False
    del ready[position]
    return True
