"""The instances of a simulated run, and the processes or containers that they run in.

Two kinds of pools (`Pool` in dagnb/planning/planner.py):

    eager        processes: all start at the submission and stay until the run is over
    not eager    containers: one starts when a task has no instance that could take it

The states of a container:

    state     event                                             next state
    (none)    a hint, and no idle container fits                at work, after a cold start
    at work   its instance has nothing to do                    waiting
    waiting   a hint                                            at work
    waiting   linger_s is over, or another kind lacks room      idle
    idle      a hint for its resources                          at work, after a warm start
    idle      keep_alive_s is over, or its room is needed       (none)
    any       the run is over                                   idle

The caps of the pool (number, memory) count containers at work, waiting and idle. If a kind of
container lacks room, idle ones end first, then waiting ones of other kinds are dismissed; their
room is used when they have left (`_run_instance` looks for missing instances at its end).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagnb.graph.brief import brief
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import Pool, StartCost
from dagnb.protocol.messages import Charge, Death, RunState
from dagnb.protocol.worker import MOST_TASKS, Worker
from dagnb.simulation.environment import Condition, Sleep
from dagnb.simulation.world import VirtualWorld

if TYPE_CHECKING:
    from dagnb.simulation.simulated_run import SimulatedRun

_OWN_INVOCATIONS = 10
"""A worker invokes fewer instances than this by itself (Wukong's max_task_fanout)."""

_INVOKERS = 16
"""Invokers that start the instances of larger fan-outs in parallel (Wukong's invoker processes)."""


class InstanceLeft(Exception):  # noqa: N818  # no error: it ends the worker's code from inside
    """Raised in a worker's `wait_work` when its instance has waited long enough."""


@dataclass(slots=True)
class _Waiting:
    """An instance without work. is_settled: it was woken or dismissed already."""

    condition: Condition
    is_dismissed: bool = False
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """The time for which a container was held for the run, from its invocation, seconds."""

    resources: Resources
    begin_s: float
    end_s: float
    is_warm: bool


@dataclass(slots=True)
class _Idle:
    resources: Resources
    since: float


@dataclass(slots=True)
class VirtualFleet:
    """The containers or processes of one simulated run.

    uses: of containers that have left, in order of their leaving.
    By kind: _starting, number of instances that have not registered yet; _waking, of those woken
    that have not asked for work yet; _waiting, instances without work. _lacks_room: kinds that need
    a container and have no room.
    """

    simulated: SimulatedRun
    pool: Pool
    uses: list[ContainerUse] = field(default_factory=list)
    n_started: int = 0
    _idle: list[_Idle] = field(default_factory=list)
    _at_work: dict[str, Resources] = field(default_factory=dict)
    _starting: Counter[str] = field(default_factory=Counter)
    _waking: Counter[str] = field(default_factory=Counter)
    _waiting: dict[str, dict[str, _Waiting]] = field(default_factory=dict)
    _lacks_room: set[str] = field(default_factory=set)

    __repr__ = brief

    def open(self) -> None:
        """Starts all instances of an eager pool, else those that the first tasks need."""
        for resources, n in self.pool.warm.items():
            self._idle += [_Idle(resources, 0.0) for _ in range(n)]

        # An eager pool needs no hints, but they are taken: else the next step would deliver them.
        hints = self.simulated.machine.take_hints()
        if not self.pool.eager:
            self.hint(hints)
            return
        n_steps = len(self.simulated.plan.steps)
        n_instances = n_steps if self.pool.cap is None else min(self.pool.cap, n_steps)
        for _ in range(n_instances):
            self._start("", DEFAULT, is_warm=False)

    def hint(self, hints: Mapping[str, Sequence[str]]) -> float:
        """Wakes waiting instances, then starts those that are still missing.

        Returns the seconds for which the caller is busy with invocations.
        """
        n_invoked = 0
        for kind, names in hints.items():
            self._wake(kind, len(names))
            n_invoked += self._start_missing(kind)
        if not self.pool.single or not n_invoked:
            return 0.0
        costs = self.simulated.costs
        if n_invoked < _OWN_INVOCATIONS:
            return n_invoked * costs.invocation_s
        return costs.commit_s  # one message to the invokers

    def registered(self, kind: str) -> None:
        """Notes that an instance which was started has registered."""
        self._starting[kind] -= 1

    async def wait(self, instance: str, kind: str) -> None:
        """Waits until a hint wakes the instance. Raises InstanceLeft when its wait is over."""
        machine = self.simulated.machine
        # The state counts, not the hint, which may have come while the instance was still busy.
        if machine.state is not RunState.RUNNING or machine.roster.n_wanted.get(kind):
            return
        if self._lacks_room - {kind}:
            raise InstanceLeft  # another kind of container needs the room

        waiting = _Waiting(Condition(self.simulated.environment))
        self._waiting.setdefault(kind, {})[instance] = waiting
        if not self.pool.eager and self.pool.linger_s < float("inf"):
            self.simulated.environment.later(
                self.pool.linger_s, lambda: self._dismiss(kind, instance, waiting)
            )
        await waiting.condition
        if waiting.is_dismissed:
            raise InstanceLeft
        self._waking[kind] -= 1

    def close(self) -> None:
        """Wakes every instance, because the run is over."""
        for kind in list(self._waiting):
            self._wake(kind, len(self._waiting[kind]))

    def _wake(self, kind: str, n: int) -> None:
        instances = self._waiting.get(kind, {})
        for instance in list(instances)[:n]:
            waiting = instances.pop(instance)
            waiting.is_settled = True
            self._waking[kind] += 1
            waiting.condition.notify()

    def _dismiss(self, kind: str, instance: str, waiting: _Waiting) -> None:
        # The end of linger_s comes for every instance, also for one that has work again.
        if waiting.is_settled:
            return
        waiting.is_dismissed = waiting.is_settled = True
        del self._waiting[kind][instance]
        waiting.condition.notify()

    def _start_missing(self, kind: str) -> int:
        """Starts the instances that a kind still needs, as far as there is room.

        Returns how many were needed.
        """
        if self.pool.eager:
            return 0
        n_wanted = self.simulated.machine.roster.n_wanted.get(kind, 0)
        n_missing = max(0, n_wanted - self._starting[kind] - self._waking[kind])
        resources = self.simulated.layout.resources[kind]
        self._lacks_room.discard(kind)
        for position in range(n_missing):
            invoked_after_s = self._invoked_after_s(position, n_missing)
            if not self._start_warm_or_cold(kind, resources, invoked_after_s):
                self._lacks_room.add(kind)
                break
        return n_missing

    def _invoked_after_s(self, position: int, n: int) -> float:
        """Returns the seconds until the instance at this position, of n, has been invoked."""
        if not self.pool.single:
            return 0.0
        # Invocations follow one another: by the caller itself, or by each invoker.
        if n < _OWN_INVOCATIONS:
            return (position + 1) * self.simulated.costs.invocation_s
        return (position // _INVOKERS + 1) * self.simulated.costs.invocation_s

    def _start_warm_or_cold(self, kind: str, resources: Resources, wait_s: float) -> bool:
        """Starts an instance in an idle container or a new one. Returns False without room."""
        if self._idle:
            now, keep_s = self.simulated.environment.now, self.pool.keep_alive_s
            self._idle = [idle for idle in self._idle if now - idle.since <= keep_s]

        # The container that was used last, so that the others reach the end of their keep-alive.
        for idle in reversed(self._idle):
            if idle.resources == resources:
                self._idle.remove(idle)
                self._start(kind, resources, is_warm=True, wait_s=wait_s)
                return True

        if not self._make_room(kind, resources):
            return False
        self._start(kind, resources, is_warm=False, wait_s=wait_s)
        return True

    def _make_room(self, kind: str, resources: Resources) -> bool:
        """Ends idle containers until one more fits. Returns False if it does not fit then.

        Waiting containers of other kinds are dismissed in that case: they leave later, at this same
        moment of virtual time.
        """
        while not self._fits(resources):
            if self._idle:
                self._idle.pop(0)
                continue
            for other, instances in self._waiting.items():
                if other != kind:
                    for instance, waiting in list(instances.items()):
                        self._dismiss(other, instance, waiting)
            return False
        return True

    def _fits(self, resources: Resources) -> bool:
        n_containers = len(self._idle) + len(self._at_work)
        if self.pool.cap is not None and n_containers >= self.pool.cap:
            return False
        if self.pool.memory_mb is None:
            return True
        containers = [*(idle.resources for idle in self._idle), *self._at_work.values(), resources]
        return sum(map(self.pool.memory_of, containers)) <= self.pool.memory_mb

    def _start(
        self, kind: str, resources: Resources, *, is_warm: bool, wait_s: float = 0.0
    ) -> None:
        name, costs = f"v{self.n_started}", self.simulated.costs
        # A replay knows what the n-th start of the real run took; else all have the same cost.
        if self.n_started < len(costs.start_series):
            start = costs.start_series[self.n_started]
        else:
            start = costs.start(resources, is_warm=is_warm)
        self.n_started += 1
        self._at_work[name] = resources
        self._starting[kind] += 1
        process = self._run_instance(name, kind, resources, start, is_warm, wait_s)
        self.simulated.environment.start(process)

    async def _run_instance(
        self,
        name: str,
        kind: str,
        resources: Resources,
        start: StartCost,
        is_warm: bool,
        wait_s: float,
    ) -> None:
        """Runs one instance from the demand for it until it leaves."""
        simulated, asked_at = self.simulated, self.simulated.environment.now
        await Sleep(wait_s + start.total_s)
        world = VirtualWorld(simulated, name, kind, ("warm" if is_warm else "cold", start))
        try:
            most_tasks = MOST_TASKS if self.pool.batches else 1
            await Worker(world, most_tasks).work()
        except InstanceLeft:
            # The instance holds no task. Its lease never runs out in virtual time, so the state
            # machine has to be informed, as a supervisor would do.
            death = Death(instance=name, task=None, charge=Charge.LOSS, error="")
            simulated.machine.dead(death, now=simulated.environment.now, fresh="sim")
            simulated.deliver_hints()

        end = simulated.environment.now
        del self._at_work[name]
        self.uses.append(ContainerUse(resources, asked_at + wait_s, end, is_warm))
        self._idle.append(_Idle(resources, end))
        # There may be room now for kinds that had to wait.
        if simulated.machine.state is RunState.RUNNING:
            for wanted_kind in list(simulated.machine.roster.n_wanted):
                self._start_missing(wanted_kind)
