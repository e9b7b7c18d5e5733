"""The world around a machine: instances that act as workers do, the store's bytes, all faults.

Time stands still: a lease ends, a back-off ends, a deadline passes when a move says so. A call is
atomic, and what its caller does not learn is a move of its own: the reply may be lost, the caller
may die before, during or after, a call
may arrive once more, or only when its caller is long dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import (
    HELD,
    Address,
    Charge,
    Commit,
    Death,
    Failure,
    Reply,
    RunState,
    Status,
)
from tests.model.configuration import FAULTS, Configuration, Fault
from tests.model.snapshot import Plain, copy_of, form_of

LEASE_S = 10.0
ERROR = "{}"


class Phase(StrEnum):
    """Where an instance is; its next step follows from it."""

    NEW = "new"
    IDLE = "idle"
    FETCH = "fetch"
    RUN = "run"
    COMMIT = "commit"
    FAIL = "fail"
    LOSE = "lose"
    LEFT = "left"
    DEAD = "dead"


_AFTER = {
    Status.REFUSED: Phase.LEFT,
    Status.STOP: Phase.LEFT,
    Status.IDLE: Phase.IDLE,
    Status.FENCED: Phase.NEW,
}
_GONE = (Phase.LEFT, Phase.DEAD)


class Instance(NamedTuple):
    """One process. token: of its attempt. inputs: (upstream task, token), as offered.

    behind: the other tasks that were offered with this one. kept: tasks whose results it keeps.
    """

    name: str
    phase: Phase = Phase.NEW
    task: int = -1
    attempt: int = 0
    token: str = ""
    inputs: tuple[tuple[int, str], ...] = ()
    missing: tuple[int, ...] = ()
    delay_s: float | None = 0.0
    bound: tuple[str, str] | None = None
    kind: str = ""
    behind: tuple[int, ...] = ()
    may_claim: bool = True
    kept: tuple[int, ...] = ()


class Blobs(set[tuple[int, str]]):
    """The bytes in the store, by (task, token); asked by the machine."""

    def __call__(self, task: int, address: Address) -> bool:
        """See HasBlob."""
        return (task, address.token) in self


@dataclass(slots=True)
class Act:
    """One step of the machine, as the laws want to see it.

    is_late: the call was sent long ago. is_news: answer of `dead`. wanted: that of `demand`.
    discarded: (task, token) to throw away.
    """

    kind: str
    instance: Instance
    reply: Reply | None = None
    is_late: bool = False
    is_news: bool = True
    wanted: dict[str, int] = field(default_factory=dict)
    discarded: list[tuple[int, str]] = field(default_factory=list)


class Move(NamedTuple):
    """One thing that may happen next. fault None: it happens by itself sooner or later."""

    label: str
    fault: Fault | None
    act: Act | None
    world: World


class World:
    """One state of everything. hints: kind -> number. was_lost: tasks that lost a result once."""

    __slots__ = (
        "blobs",
        "budget",
        "configuration",
        "flying",
        "hints",
        "instances",
        "machine",
        "was_lost",
    )

    def __init__(self, configuration: Configuration) -> None:
        """The moment after `submit`."""
        self.configuration = configuration
        self.blobs = Blobs()
        self.machine = Machine(configuration.submission(), 0.0, "f", self.blobs)
        staff = () if configuration.is_bound else configuration.staff
        self.instances = tuple(Instance(f"i{n}", kind=kind) for n, kind in enumerate(staff))
        self.flying: tuple[Instance, ...] = ()
        self.budget = tuple(configuration.faults.get(fault, 0) for fault in FAULTS)
        self.hints = dict.fromkeys(configuration.staff, 0) if configuration.with_hints else {}
        self.was_lost: frozenset[int] = frozenset()
        self.settle(Act("submit", Instance("")))

    def copy(self, fault: Fault | None = None) -> World:
        """A world that shares nothing that changes, with one fault less to spend."""
        world = object.__new__(World)
        world.configuration = self.configuration
        world.blobs = Blobs(self.blobs)
        world.machine = copy_of(self.machine, world.blobs)
        world.instances, world.flying, world.hints = self.instances, self.flying, self.hints.copy()
        world.was_lost, world.budget = self.was_lost, self.budget
        if fault is not None:
            world.budget = tuple(
                n - (kind is fault) for n, kind in zip(self.budget, FAULTS, strict=True)
            )
        return world

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.machine.state is not RunState.RUNNING

    def may(self, fault: Fault) -> bool:
        """Whether this fault is left to happen."""
        return self.budget[FAULTS.index(fault)] > 0

    def put(self, before: Instance, after: Instance) -> None:
        """One instance goes on."""
        self.instances = tuple(after if i is before else i for i in self.instances)

    # ---- steps of the machine -------------------------------------------------------------------

    def call(self, caller: Instance) -> Act:
        """The call that the instance makes in its phase."""
        machine, want = self.machine, self.configuration.want
        task = caller.task
        if caller.phase in (Phase.NEW, Phase.IDLE):
            reply = machine.register(
                caller.name,
                now=0.0,
                fresh="f",
                lease_s=LEASE_S,
                want=want,
                worker=caller.bound,
                kind=caller.kind,
            )
            return self.settle(Act("register", caller, reply))
        if caller.phase is Phase.FAIL:
            failure = Failure(
                task=task, attempt=caller.attempt, error=ERROR, delay_s=caller.delay_s
            )
            return self.settle(
                Act(
                    "fail",
                    caller,
                    machine.fail(caller.name, failure, now=0.0, fresh="f", want=want),
                )
            )
        if caller.phase is Phase.LOSE:
            reply = machine.lost(caller.name, task, caller.missing, now=0.0, fresh="f", want=want)
            return self.settle(Act("lost", caller, reply))
        is_kept = self.keeps(caller)
        if self.configuration.is_small and not is_kept:
            self.blobs.add((task, caller.token))
        commit = Commit(task=task, address=Address(caller.token, 1, 0), is_kept=is_kept)
        return self.settle(
            Act(
                "complete",
                caller,
                machine.complete(caller.name, [commit], now=0.0, fresh="f", want=want),
            )
        )

    def keeps(self, instance: Instance) -> bool:
        """Returns whether it keeps its task's result: it is offered the reader, too, now or next."""
        reader = self.configuration.reader(instance.task)
        if reader >= 0 and instance.may_claim and len(self.configuration.awaited(reader)) == 1:
            return True
        return reader in instance.behind

    def expire(self, instance: Instance) -> Act:
        """The lease ends, and the next heartbeat of somebody else, or a waiting client, notices."""
        self.machine.leases[instance.name] = -1.0
        others = [
            i.name for i in self.instances if i.phase not in _GONE and i.name != instance.name
        ]
        alive = [name for name in others if name in self.machine.leases]
        if alive:
            self.machine.heartbeat(alive, now=0.0, fresh="f", lease_s=LEASE_S)
        else:
            self.machine.reap(now=0.0, fresh="f")
        return self.settle(Act("expire", instance))

    def dead(self, instance: Instance) -> Act:
        """The supervisor saw it end; it knows the task the instance was at, if any."""
        task = (
            HELD
            if self.configuration.in_containers
            else instance.task
            if instance.task >= 0
            else None
        )
        death = Death(
            instance=instance.name, task=task, charge=Charge.CRASH, error=ERROR, delay_s=0.0
        )
        is_news = self.machine.dead(death, now=0.0, fresh="f")
        return self.settle(Act("dead", instance, is_news=is_news))

    def give_back(self, instance: Instance) -> Act:
        """The supervisor sees that its task takes long, with others waiting behind it."""
        self.machine.give_back(instance.name, instance.task, instance.attempt, now=0.0, fresh="f")
        return self.settle(Act("give_back", instance))

    def demand(self) -> Act:
        """Whoever starts instances looks."""
        demand = self.machine.demand(now=0.0, fresh="f")
        return self.settle(Act("demand", Instance(""), wanted=demand.wanted))

    def settle(self, act: Act) -> Act:
        """Do as the store does after each step: throw bytes away, pass on hints for sleepers."""
        machine = self.machine
        act.discarded = [(task, address.token) for task, address in machine.discarded]
        self.blobs.difference_update(act.discarded)
        for kind, names in machine.take_hints().items():
            if kind in self.hints:
                self.hints[kind] = min(
                    self.hints[kind] + len(names), self.configuration.staff.count(kind)
                )
        lost = [event.task for event in machine.events if event.kind == "lost"]
        if lost:
            self.was_lost = self.was_lost.union(lost)
        return act

    def tidy(self) -> World:
        """Drop what has no future: instances that are gone for good, bytes without an address."""
        flying = {i.name for i in self.flying}
        self.instances = tuple(
            i
            for i in self.instances
            if i.phase not in _GONE or i.name in self.machine.leases or i.name in flying
        )
        named = {(task, address.token) for task, address in self.machine.results.items()}
        for instance in (*self.instances, *self.flying):
            named.add((instance.task, instance.token))
            named.update(instance.inputs)
        self.blobs.intersection_update(named)
        return self

    # ---- steps of instances ---------------------------------------------------------------------

    def receive(self, instance: Instance, reply: Reply) -> Instance:
        """What an instance is at after a reply."""
        status = reply.status
        if status is Status.TASKS:
            return self.begin(instance, reply)
        if status is Status.NO_BLOB:
            return instance._replace(phase=Phase.RUN, behind=(), may_claim=False)
        return Instance(instance.name, _AFTER[status], kind=instance.kind)

    def begin(self, instance: Instance, reply: Reply) -> Instance:
        """The first offer is taken up under a token of its own; small inputs came along with it."""
        offer = reply.offers[0]
        used = {i.token for i in (*self.instances, *self.flying) if i.task == offer.task}
        used.update(token for task, token in self.blobs if task == offer.task)
        used.update(
            address.token for task, address in self.machine.results.items() if task == offer.task
        )
        used.update(
            token
            for i in (*self.instances, *self.flying)
            for task, token in i.inputs
            if task == offer.task
        )
        token = next(str(n) for n in range(99) if str(n) not in used)
        inputs = tuple((i.task, i.address.token) for i in offer.inputs)
        offered = [each.task for each in reply.offers]
        kept = (*instance.kept, instance.task) if self.keeps(instance) else instance.kept
        begun = Instance(
            instance.name,
            Phase.FETCH,
            offer.task,
            offer.attempt,
            token,
            inputs,
            kind=instance.kind,
            behind=tuple(offered[1:]),
            kept=tuple(u for u in kept if self.configuration.reader(u) in offered),
        )
        return self.fetch(begun) if self.configuration.is_small else begun

    def fetch(self, instance: Instance) -> Instance:
        """Read the inputs; what was not offered is missing too."""
        readable = {task for task, token in instance.inputs if (task, token) in self.blobs}
        readable.update(instance.kept)
        upstream = self.configuration.upstream[instance.task]
        missing = tuple(task for task in upstream if task not in readable)
        if missing:
            # The task will wait, so what was kept for it is lost as well.
            missing = tuple(u for u in upstream if u in missing or u in instance.kept)
        # What it kept for this task is the task's own from now on.
        kept = tuple(u for u in instance.kept if u not in upstream)
        return instance._replace(
            phase=Phase.LOSE if missing else Phase.RUN, missing=missing, inputs=(), kept=kept
        )

    # ---- canonical form -------------------------------------------------------------------------

    def key(self) -> tuple[Plain, ...]:
        """Returns a key that two states share only if they behave alike."""
        machine = self.machine
        results = {task: address.token for task, address in machine.results.items()}
        rows = sorted(
            ((self._row(i, results), i) for i in self.instances), key=lambda pair: pair[0]
        )
        numbers: dict[tuple[int, str], int] = {}
        for named in self._named(results, [instance for _, instance in rows]):
            numbers.setdefault(named, len(numbers))
        return (
            form_of(machine),
            tuple((task, numbers[task, token]) for task, token in sorted(results.items())),
            tuple(sorted(numbers[blob] for blob in self.blobs if blob in numbers)),
            tuple(row for row, _ in rows),
            tuple(numbers[named] for named in self._named({}, [instance for _, instance in rows])),
            self.budget,
            tuple(self.hints.values()),
            tuple(sorted(self.was_lost)),
        )

    def _named(
        self, results: dict[int, str], instances: Iterable[Instance]
    ) -> Iterator[tuple[int, str]]:
        yield from sorted(results.items())
        for instance in instances:
            for each in (instance, *(f for f in self.flying if f.name == instance.name)):
                if each.token:
                    yield each.task, each.token
                yield from each.inputs

    def _row(self, instance: Instance, results: dict[int, str]) -> tuple[Plain, ...]:
        machine, name = self.machine, instance.name
        calls = (self._call(f, results) for f in self.flying if f.name == name)
        return (
            self._call(instance, results),
            machine.leases.get(name, -9.0),
            (instance.kind, machine.roster.kinds.get(name, "")),
            machine.roster.held.get(name, (-1, -1)),
            tuple(machine.running.get(name, ())),
            tuple(task for task in sorted(machine.owner) if machine.owner[task] == name),
            tuple(calls),
        )

    def _call(self, instance: Instance, results: dict[int, str]) -> tuple[Plain, ...]:
        (
            _,
            phase,
            task,
            attempt,
            token,
            inputs,
            missing,
            delay_s,
            bound,
            _,
            behind,
            may_claim,
            kept,
        ) = instance
        return (
            phase.value,
            task,
            attempt,
            self._standing(task, token, results),
            tuple((u, self._standing(u, t, results)) for u, t in inputs),
            missing,
            behind,
            may_claim,
            kept,
            -1.0 if delay_s is None else delay_s,
            () if bound is None else (bound[0], int(self.is_current(bound))),
        )

    def _standing(self, task: int, token: str, results: dict[int, str]) -> int:
        return 2 * (results.get(task) == token) + ((task, token) in self.blobs) if token else 4

    def is_current(self, bound: tuple[str, str]) -> bool:
        """Whether the member the instance was started for still waits for just this instance."""
        roster = self.machine.roster
        return any(
            (roster.name(member), nonce) == bound for member, (_, nonce) in roster.invoked.items()
        )
