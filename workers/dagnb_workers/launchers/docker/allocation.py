"""The allocation of containers: which one to lend, start or end next. Pure.

Input is the present state of all containers of a user, the requests of all runs, and the limits;
output is what to do now. The fleet calls `allocate` after every change, so nothing is remembered
between calls, and a decision that has become wrong is corrected by the next call.

States of a container
---------------------
    from        to          when
    (none)      starting    `start`: there is room for it
    starting    lent        it is ready, and a run is waiting for it
    starting    idle        it is ready; it was started to be kept warm, or its run is over
    idle        lent        `lend`: a run requests a container of the same spec
    lent        idle        the supervisor in it has ended well: the run is over, or its worker left
    idle        ending      `end`: room is needed; or it was idle for too long
    any         ending      it failed, its process ended, or its run was stopped
    ending      (none)      the engine says that it is gone

All states count against the limits, "ending" too: the memory is used until the engine says that the
container is gone. A lent container is *expected* until its worker has registered in the run, and
*resting* while that worker has nothing to do.

    +----------+  ready   +------+   lend    +------+
    | starting |--------->| idle |---------->| lent |
    +----------+          |      |<----------|      |
         |                +------+  returns  +------+
         | failed             | end              | died
         +--------------------+------------------+---------> ending ---> gone

Requests
--------
A request is a number of containers of one spec for one run; containers that are expected already
are subtracted first. A request without a run keeps containers warm for the next run: no container
is lent to it, and no run has to return one for it.

Order of decisions
------------------
1. Requests take turns: each gets its first container before any gets its second, in the order in
   which runs asked. So a run with a thousand ready tasks does not starve the others.
2. A run that holds as many containers as its launcher allows gets none. Its own resting containers
   are asked to return (`end_when_idle`), because they may be of the wrong spec.
3. An idle container of the spec is lent, the one that was used last, because its caches are warm.
   If there is none, a container of the spec is taken that is being started for no run. This is the
   cheapest way: milliseconds instead of a start.
4. Otherwise a container is started, if number and memory allow.
5. Otherwise idle containers of other specs are ended: the smallest one whose end leaves enough
   room, or else the largest ones first. So as few warm containers as possible are lost.
6. If that is not enough, the resting containers of all runs are asked to return.

Step 5 starts nothing: a later call starts the container, when those that end are gone. Otherwise
the limits would be exceeded for as long as the engine takes to end them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dagnb_workers.launchers.docker.spec import Spec


class ContainerState(StrEnum):
    """The states of a container: see the table above."""

    STARTING = "starting"
    IDLE = "idle"
    LENT = "lent"
    ENDING = "ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """A container as the allocation sees it.

    run, kind: for which it is lent or being started; '' for none. is_expected: whether its worker
    has yet to register in the run. is_resting: whether its worker has nothing to do, or leaves
    soon. idle_since: seconds of a monotonic clock.
    """

    name: str
    spec: Spec
    state: ContainerState
    run: str = ""
    kind: str = ""
    is_expected: bool = False
    is_resting: bool = False
    idle_since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """A run needs `n` containers of this spec, for ready tasks of this kind.

    run '': for no run; `n` more containers are kept warm.
    """

    run: str
    kind: str
    spec: Spec
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of all containers together: number, and megabytes of memory.

    per_run: run -> containers that it may hold; a run that is missing may hold `cap`.
    """

    cap: int
    memory_mb: int
    per_run: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A decision: what to do now.

    lend: (name of a container, request that gets it). start: a request for each container to start.
    end: names of containers to end now. end_when_idle: names of lent containers whose workers must
    leave when they are idle.
    """

    lend: tuple[tuple[str, ContainerRequest], ...] = ()
    start: tuple[ContainerRequest, ...] = ()
    end: tuple[str, ...] = ()
    end_when_idle: tuple[str, ...] = ()


def allocate(
    containers: Iterable[ContainerFacts], requests: Sequence[ContainerRequest], limits: Limits
) -> Allocation:
    """Returns what to do next, never more than the limits allow. O(requested * containers)."""
    allocator = _Allocator({container.name: container for container in containers}, limits)
    # Counted before anything is lent: containers lent below must not be subtracted, too.
    missing = [(request, request.n - allocator.n_expected(request)) for request in requests]
    for turn in range(max((n for _, n in missing), default=0)):
        for request, n in missing:
            if turn >= n:
                continue
            if allocator.may_hold_more(request.run):
                allocator.serve(request)
            else:
                allocator.ask_back(request.run)

    return Allocation(
        lend=tuple(allocator.lend),
        start=tuple(allocator.start),
        end=tuple(allocator.end),
        end_when_idle=tuple(dict.fromkeys(allocator.end_when_idle)),
    )


class _Allocator:
    """The containers as they will be when the decision that is being made has been carried out.

    starting: containers that the decision starts. They have no name yet, so they cannot be lent or
    ended, but they count against the limits.
    """

    def __init__(self, containers: dict[str, ContainerFacts], limits: Limits) -> None:
        self.containers, self.limits = containers, limits
        self.starting: list[ContainerFacts] = []
        self.lend: list[tuple[str, ContainerRequest]] = []
        self.start: list[ContainerRequest] = []
        self.end: list[str] = []
        self.end_when_idle: list[str] = []

    def n_expected(self, request: ContainerRequest) -> int:
        """Returns how many containers will register in the run for this kind."""
        wanted = (request.run, request.kind)
        present = self._in_states(ContainerState.STARTING, ContainerState.LENT)
        return sum(c.is_expected and (c.run, c.kind) == wanted for c in present)

    def may_hold_more(self, run: str) -> bool:
        """Returns whether the run may have one more container; '', for no run, always may."""
        present = [c for c in self._all() if c.state is not ContainerState.ENDING]
        n = sum(container.run == run for container in present)
        return not run or n < self.limits.per_run.get(run, self.limits.cap)

    def serve(self, request: ContainerRequest) -> None:
        """Provide one container for the request, or make room for one."""
        if request.run and (warm := self._find_warm(request.spec)):
            self.lend.append((warm.name, request))
            self.containers[warm.name] = replace(
                warm,
                state=ContainerState.LENT,
                run=request.run,
                kind=request.kind,
                is_expected=True,
            )
        elif self._has_room(request.spec):
            self.start.append(request)
            self.starting.append(
                ContainerFacts(
                    name="", spec=request.spec, state=ContainerState.STARTING, run=request.run
                )
            )
        else:
            self._make_room(request)

    def ask_back(self, run: str | None = None) -> None:
        """Ask resting containers to return: those of one run, or of all runs."""
        for container in self._in_states(ContainerState.LENT):
            if container.is_resting and run in (None, container.run):
                self.end_when_idle.append(container.name)

    def _find_warm(self, spec: Spec) -> ContainerFacts | None:
        """Returns the idle container of this spec that was used last; else one that is starting.

        One that is starting for a run does not count.
        """
        idle = [c for c in self._in_states(ContainerState.IDLE) if c.spec == spec]
        if idle:
            return max(idle, key=lambda container: container.idle_since)
        starting = self._in_states(ContainerState.STARTING)
        return next((c for c in starting if c.spec == spec and not c.run), None)

    def _has_room(self, spec: Spec, without: Iterable[str] = ()) -> bool:
        """Returns whether one more of this spec fits, as if those in `without` were gone."""
        gone = set(without)
        present = [c for c in self._all() if c.name not in gone]
        used_mb = sum(container.spec.memory_mb for container in present)
        has_memory = used_mb + spec.memory_mb <= self.limits.memory_mb
        return len(present) < self.limits.cap and has_memory

    def _make_room(self, request: ContainerRequest) -> None:
        """End idle containers until one of the request's spec will fit, or none is left."""
        # Containers that are ending already will leave room, too, so fewer others have to end.
        leaving = [container.name for container in self._in_states(ContainerState.ENDING)]
        idle = [c for c in self._in_states(ContainerState.IDLE) if c.spec != request.spec]
        # A request for no run must not end warm containers in vain.
        without_idle = [*leaving, *(container.name for container in idle)]
        if not request.run and not self._has_room(request.spec, without_idle):
            return

        while idle and not self._has_room(request.spec, leaving):
            chosen = self._choose_to_end(idle, request.spec, leaving)
            idle.remove(chosen)
            leaving.append(chosen.name)
            self.end.append(chosen.name)
            self.containers[chosen.name] = replace(chosen, state=ContainerState.ENDING)
        if not self._has_room(request.spec, leaving):
            self.ask_back()

    def _choose_to_end(
        self, idle: list[ContainerFacts], spec: Spec, leaving: list[str]
    ) -> ContainerFacts:
        """Returns the smallest container that is large enough, else the largest; oldest first."""
        enough = [c for c in idle if self._has_room(spec, [*leaving, c.name])]
        if enough:
            return min(enough, key=lambda c: (c.spec.memory_mb, c.idle_since, c.name))
        return min(idle, key=lambda c: (-c.spec.memory_mb, c.idle_since, c.name))

    def _all(self) -> tuple[ContainerFacts, ...]:
        return (*self.containers.values(), *self.starting)

    def _in_states(self, *states: ContainerState) -> list[ContainerFacts]:
        return [c for c in self.containers.values() if c.state in states]
