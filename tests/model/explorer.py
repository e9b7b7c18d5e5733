"""A breadth-first walk through all states of a configuration: shortest counterexample first."""

from __future__ import annotations

import gc
import marshal
import time
from array import array
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b

from tests.model.configuration import FAULTS, Configuration
from tests.model.invariants import ViolationError, check_state
from tests.model.laws import check_end, check_repetition, check_step
from tests.model.moves import moves
from tests.model.world import Phase, World


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What was found. steps: the way to the violation, empty when there is none."""

    configuration: str
    n_states: int
    n_transitions: int
    seconds: float
    violation: ViolationError | None = None
    steps: tuple[str, ...] = ()

    def story(self) -> str:
        """The violation and the way there, for people."""
        if self.violation is None:
            return (
                f"{self.configuration}: {self.n_states} states, "
                f"{self.n_transitions} transitions, no violation"
            )
        way = "\n".join(f"  {number}. {step}" for number, step in enumerate(self.steps, 1))
        return f"{self.configuration}: {self.violation}\n{way}"


class Explorer:
    """The graph of states. `edges` holds moves that happen by themselves, unlike faults."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.numbers: dict[bytes, int] = {}
        self.parents = array("q")
        self.labels: list[str] = []
        self.edges = (array("q"), array("q"))
        self.ends: set[int] = set()
        self.n_transitions = 0

    def explore(self) -> Exploration:
        """All of it, or until something is violated."""
        began = time.perf_counter()
        gc_was_on = gc.isenabled()
        gc.disable()  # nothing here is cyclic, and there is much of it
        violation, steps = None, []
        try:
            self._walk()
            self._check_progress()
        except _FoundError as found:
            violation, steps = found.violation, [*self._way(found.number), *found.last]
        finally:
            if gc_was_on:
                gc.enable()
        return Exploration(
            configuration=self.configuration.name,
            n_states=len(self.labels),
            n_transitions=self.n_transitions,
            seconds=time.perf_counter() - began,
            violation=violation,
            steps=tuple(steps),
        )

    def _walk(self) -> None:
        first = World(self.configuration)
        self._number(first, -1, "submit")
        queue = deque([(0, first)])
        while queue:
            number, world = queue.popleft()
            self._check_sleep(number, world)
            for move in moves(world):
                try:
                    check_step(world, move)
                    known = len(self.labels)
                    child = self._number(move.world, number, move.label)
                    if child == known:
                        check_state(move.world)
                        if move.act is not None:
                            check_repetition(world, move.world, move.act)
                        self._meet(child, move.world, queue)
                except ViolationError as violation:
                    raise _FoundError(violation, number, [move.label]) from violation
                self.n_transitions += 1
                if move.fault is None and child != number:
                    self.edges[0].append(number)
                    self.edges[1].append(child)

    def _meet(self, number: int, world: World, queue: deque[tuple[int, World]]) -> None:
        if world.is_over:
            check_end(world)
            self.ends.add(number)
        else:
            queue.append((number, world))

    def _number(self, world: World, parent: int, label: str) -> int:
        digest = blake2b(marshal.dumps(world.key(), 2), digest_size=12).digest()
        number = self.numbers.setdefault(digest, len(self.labels))
        if number == len(self.labels):
            self.parents.append(parent)
            self.labels.append(label)
        return number

    def _check_sleep(self, number: int, world: World) -> None:
        """I13: without faults, no instance sleeps when its kind is asked for and no hint comes."""
        intact = world.budget == tuple(self.configuration.faults.get(fault, 0) for fault in FAULTS)
        if not self.configuration.with_hints or not intact or world.machine.due:
            return
        asleep = {i.kind for i in world.instances if i.phase is Phase.IDLE}
        waking = {i.kind for i in world.instances if i.phase is Phase.NEW}
        coming = {kind for kind, n in world.hints.items() if n}
        if (asleep - waking - coming) & world.machine.roster.wanted().keys():
            raise _FoundError(
                ViolationError("I13 hints", "one sleeps, a worker is asked for, and no hint"),
                number,
                [],
            )

    def _check_progress(self) -> None:
        """Liveness: without more faults every way ends with the run: no dead end, no circle."""
        sources, targets = self.edges
        n_out = array("q", bytes(8 * len(self.labels)))
        incoming: list[list[int]] = [[] for _ in self.labels]
        for source, target in zip(sources, targets, strict=True):
            n_out[source] += 1
            incoming[target].append(source)
        settled = [number for number, n in enumerate(n_out) if n == 0]
        stuck = min((number for number in settled if number not in self.ends), default=None)
        if stuck is not None:
            raise _FoundError(
                ViolationError("liveness", "the run goes on and nothing more happens"), stuck, []
            )
        n_settled = 0
        while settled:
            n_settled += 1
            for source in incoming[settled.pop()]:
                n_out[source] -= 1
                if n_out[source] == 0:
                    settled.append(source)
        if n_settled < len(self.labels):
            circle = next(number for number, n in enumerate(n_out) if n > 0)
            raise _FoundError(
                ViolationError("liveness", "steps without faults may go on for ever"), circle, []
            )

    def _way(self, number: int) -> list[str]:
        way = []
        while number > 0:
            way.append(self.labels[number])
            number = self.parents[number]
        return way[::-1]


class _FoundError(Exception):
    """A violation, and where."""

    def __init__(self, violation: ViolationError, number: int, last: list[str]) -> None:
        super().__init__(str(violation))
        self.violation, self.number, self.last = violation, number, last


def explore(configuration: Configuration) -> Exploration:
    """Every reachable state of a configuration."""
    return Explorer(configuration).explore()
