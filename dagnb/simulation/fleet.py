"""Where virtual instances come from and go to: all at submission, or a container each when a task finds nobody.

Containers are idle (warm) after an instance left, for as long as the pool keeps them alive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagnb.graph.brief import brief
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.costs import StartCost
from dagnb.planning.planner import Pool
from dagnb.protocol.messages import Charge, Death, RunState
from dagnb.protocol.worker import Worker
from dagnb.simulation.kernel import Bell, Sleep
from dagnb.simulation.world import VirtualWorld

if TYPE_CHECKING:
    from dagnb.simulation.universe import Universe

_INVOKERS = 16
"""of a fan-out that the caller does not invoke itself, so many at a time (Wukong's invoker processes)"""
_OWN_INVOCATIONS = 10
"""a caller invokes fewer than so many itself (Wukong's max_task_fanout)"""


class InstanceLeft(Exception):  # noqa: N818  # no error: how an instance that rested long enough leaves its worker's code
    """The instance gives its container back."""


@dataclass(slots=True)
class _Rest:
    """An instance that waits for work. is_over: nobody need wake it any more."""

    bell: Bell
    is_leaving: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """A container at work for the run: from its demand to its return, seconds."""

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
    """The containers or processes of one simulated run. used: those that served it, in order of their return."""

    universe: Universe
    pool: Pool
    used: list[Used] = field(default_factory=list)
    n_started: int = 0
    _idle: list[_Idle] = field(default_factory=list)
    _at_work: dict[str, Resources] = field(default_factory=dict)
    _coming: Counter[str] = field(default_factory=Counter)
    _waking: Counter[str] = field(default_factory=Counter)
    _resting: dict[str, dict[str, _Rest]] = field(default_factory=dict)
    _lacking: set[str] = field(default_factory=set)

    __repr__ = brief

    def open(self) -> None:
        """Begin: whoever is there at once, or for whom the first tasks ask."""
        self._idle = [
            _Idle(resources, 0.0) for resources, n in self.pool.warm.items() for _ in range(n)
        ]
        steps = len(self.universe.plan.steps)
        hints = self.universe.machine.take_hints()
        if not self.pool.eager:
            self.hint(hints)
            return
        for _ in range(min(self.pool.cap if self.pool.cap is not None else steps, steps)):
            self._start("", DEFAULT, is_warm=False)

    def hint(self, hints: Mapping[str, Sequence[str]]) -> float:
        """Wake who rests; start containers for whom is still wanted. Returns how long the caller invokes."""
        n = 0
        for kind, names in hints.items():
            self._wake(kind, len(names))
            n += self._look(kind)
        if not self.pool.single or not n:
            return 0.0
        costs = self.universe.costs
        return n * costs.invocation_s if n < _OWN_INVOCATIONS else costs.commit_s

    def came(self, kind: str) -> None:
        """An instance that was started has registered."""
        self._coming[kind] -= 1

    async def rest(self, instance: str, kind: str) -> None:
        """Until a hint wakes the instance. Raises Left when it has waited long enough."""
        machine = self.universe.machine
        if machine.state is not RunState.RUNNING or machine.roster.n_wanted.get(kind):
            return
        if self._lacking - {kind}:
            raise InstanceLeft  # somebody else needs the room
        rest = _Rest(Bell(self.universe.kernel))
        self._resting.setdefault(kind, {})[instance] = rest
        if not self.pool.eager and self.pool.linger_s < float("inf"):
            self.universe.kernel.later(
                self.pool.linger_s, lambda: self._send_away(kind, instance, rest)
            )
        await rest.bell
        if rest.is_leaving:
            raise InstanceLeft
        self._waking[kind] -= 1

    def close(self) -> None:
        """The run is over: everybody wakes."""
        for kind in list(self._resting):
            self._wake(kind, len(self._resting[kind]))

    # ---- parts ----

    def _wake(self, kind: str, n: int) -> None:
        resting = self._resting.get(kind, {})
        for instance in list(resting)[:n]:
            rest = resting.pop(instance)
            rest.is_over = True
            self._waking[kind] += 1
            rest.bell.ring()

    def _send_away(self, kind: str, instance: str, rest: _Rest) -> None:
        if rest.is_over:
            return
        rest.is_leaving = rest.is_over = True
        del self._resting[kind][instance]
        rest.bell.ring()

    def _look(self, kind: str) -> int:
        """Start for whom nobody is coming, as far as there is room. Returns how many were asked for."""
        if self.pool.eager:
            return 0
        wanted = self.universe.machine.roster.n_wanted.get(kind, 0)
        missing = wanted - self._coming[kind] - self._waking[kind]
        resources = self.universe.layout.resources[kind]
        self._lacking.discard(kind)
        for number in range(max(0, missing)):
            if not self._serve(kind, resources, self._wait_s(number, missing)):
                self._lacking.add(kind)
                break
        return max(0, missing)

    def _wait_s(self, number: int, n: int) -> float:
        """How long the invocation of this one of n waits for those before it."""
        if not self.pool.single:
            return 0.0
        before = number + 1 if n < _OWN_INVOCATIONS else number // _INVOKERS + 1
        return before * self.universe.costs.invocation_s

    def _serve(self, kind: str, resources: Resources, wait_s: float) -> bool:
        now, keep_s = self.universe.kernel.now, self.pool.keep_alive_s
        self._idle = (
            [idle for idle in self._idle if now - idle.since <= keep_s]
            if self._idle
            else self._idle
        )
        warm = next((idle for idle in reversed(self._idle) if idle.resources == resources), None)
        if warm is not None:
            self._idle.remove(warm)
        elif not self._make_room(kind, resources):
            return False
        self._start(kind, resources, is_warm=warm is not None, wait_s=wait_s)
        return True

    def _make_room(self, kind: str, resources: Resources) -> bool:
        """Whether one more fits; idle containers of other resources end, who rests for others is hurried."""
        while not self._fits(resources):
            if self._idle:
                self._idle.pop(0)
                continue
            for other, resting in self._resting.items():
                if other != kind:
                    for instance, rest in list(resting.items()):
                        self._send_away(other, instance, rest)
            return False
        return True

    def _fits(self, resources: Resources) -> bool:
        held = [idle.resources for idle in self._idle]
        if self.pool.cap is not None and len(held) + len(self._at_work) >= self.pool.cap:
            return False
        if self.pool.memory_mb is None:
            return True
        memory = sum(self.pool.memory_of(r) for r in (*held, *self._at_work.values(), resources))
        return memory <= self.pool.memory_mb

    def _start(
        self, kind: str, resources: Resources, *, is_warm: bool, wait_s: float = 0.0
    ) -> None:
        name, costs = f"v{self.n_started}", self.universe.costs
        series = costs.start_series
        start = (
            series[self.n_started]
            if self.n_started < len(series)
            else costs.start(resources, is_warm=is_warm)
        )
        self.n_started += 1
        self._at_work[name] = resources
        self._coming[kind] += 1
        self.universe.kernel.spawn(self._live(name, kind, resources, start, is_warm, wait_s))

    async def _live(
        self,
        name: str,
        kind: str,
        resources: Resources,
        start: StartCost,
        is_warm: bool,
        wait_s: float,
    ) -> None:
        """One instance, from its demand to its end."""
        universe, begin = self.universe, self.universe.kernel.now
        await Sleep(wait_s + start.total_s)
        world = VirtualWorld(universe, name, kind, ("warm" if is_warm else "cold", start))
        try:
            await Worker(world).work()
        except InstanceLeft:
            universe.machine.dead(
                Death(instance=name, task=None, charge=Charge.LOSS, error=""),
                now=universe.kernel.now,
                fresh="sim",
            )
            universe.settle()
        end = universe.kernel.now
        del self._at_work[name]
        self.used.append(Used(resources, begin + wait_s, end, is_warm))
        self._idle.append(_Idle(resources, end))
        if universe.machine.state is RunState.RUNNING:
            for other in list(universe.machine.roster.n_wanted):
                self._look(other)
