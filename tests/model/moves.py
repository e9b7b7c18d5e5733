"""The moves of a world: steps of instances, of supervisors and agents, faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.model.configuration import Fault
from tests.model.world import Act, Instance, Move, Phase, World

_CALLING = (Phase.NEW, Phase.IDLE, Phase.COMMIT, Phase.FAIL, Phase.LOSE)


def moves(world: World) -> Iterator[Move]:
    """Returns all moves. A run that is over has none: invariants.py tries to change it then."""
    if world.is_over:
        return
    for instance in world.instances:
        if instance.phase in (Phase.DEAD, Phase.LEFT):
            yield from _endings(world, instance)
            continue
        if is_calling(world, instance):
            yield from _calls(world, instance)
        yield from _own_steps(world, instance)
        yield from _failure_reporter(world, instance)
        yield from _given_back(world, instance)
    yield from _arrivals(world)
    yield from _starts(world)
    yield from _losses(world)
    yield from _of_time(world)


def is_calling(world: World, instance: Instance) -> bool:
    """Whether its next step is a call: the bytes of a small result ride along with the commit."""
    return instance.phase in _CALLING or (
        instance.phase is Phase.RUN and world.configuration.is_small
    )


def _calls(world: World, instance: Instance) -> Iterator[Move]:
    after = world.copy()
    act = after.call(instance)
    assert act.reply is not None
    after.put(instance, after.receive(instance, act.reply))
    yield Move(f"{instance.name} {act.kind} -> {act.reply.status}", None, act, after.tidy())
    if world.may(Fault.LATE):
        again = after.copy(Fault.LATE)
        again.flying = (*again.flying, instance)
        yield Move(
            f"{instance.name} {act.kind} -> {act.reply.status}, sent twice",
            Fault.LATE,
            act,
            again.tidy(),
        )
    if world.may(Fault.LOST_REPLY):
        after = world.copy(Fault.LOST_REPLY)
        act = after.call(instance)
        after.put(instance, _repeating(instance))
        yield Move(f"{instance.name} {act.kind}, reply lost", Fault.LOST_REPLY, act, after.tidy())
    if world.may(Fault.CRASH):
        after = world.copy(Fault.CRASH)
        after.flying = (*after.flying, instance)
        after.put(instance, _dying(instance))
        yield Move(f"{instance.name} dies while it calls", Fault.CRASH, None, after.tidy())


def _repeating(instance: Instance) -> Instance:
    """It will repeat the call, not begin anew: it has finished its task and it does not sleep."""
    phase = {Phase.IDLE: Phase.NEW, Phase.RUN: Phase.COMMIT}.get(instance.phase, instance.phase)
    return instance._replace(phase=phase)


def _dying(instance: Instance) -> Instance:
    return Instance(instance.name, Phase.DEAD, instance.task, kind=instance.kind)


def _own_steps(world: World, instance: Instance) -> Iterator[Move]:
    if instance.phase is Phase.IDLE and world.hints.get(instance.kind):
        after = world.copy()
        after.hints[instance.kind] -= 1
        after.put(instance, instance._replace(phase=Phase.NEW))
        yield Move(f"{instance.name} wakes for a hint", None, None, after.tidy())
    if instance.phase is Phase.FETCH:
        after = world.copy()
        after.put(instance, after.fetch(instance))
        yield Move(
            f"{instance.name} fetches the inputs of {instance.task}", None, None, after.tidy()
        )
    if instance.phase is Phase.RUN and not world.configuration.is_small:
        after = world.copy()
        after.blobs.add((instance.task, instance.token))
        after.put(instance, instance._replace(phase=Phase.COMMIT))
        yield Move(f"{instance.name} stores {instance.task}", None, None, after.tidy())


def _failure_reporter(world: World, instance: Instance) -> Iterator[Move]:
    if instance.phase is Phase.RUN and world.may(Fault.RAISE):
        for delay_s in world.configuration.delays:
            after = world.copy(Fault.RAISE)
            after.put(
                instance,
                instance._replace(phase=Phase.FAIL, delay_s=delay_s, inputs=(), missing=()),
            )
            yield Move(
                f"{instance.name}: {instance.task} raises, delay {delay_s}",
                Fault.RAISE,
                None,
                after.tidy(),
            )
    if world.may(Fault.CRASH):
        after = world.copy(Fault.CRASH)
        after.put(instance, _dying(instance))
        yield Move(f"{instance.name} dies", Fault.CRASH, None, after.tidy())
    if world.may(Fault.SUSPECT) and instance.name in world.machine.leases:
        after = world.copy(Fault.SUSPECT)
        yield Move(
            f"{instance.name} is taken for dead",
            Fault.SUSPECT,
            after.expire(instance),
            after.tidy(),
        )


def _given_back(world: World, instance: Instance) -> Iterator[Move]:
    """The supervisor gives back what waits behind a task that takes long."""
    running = world.machine.running.get(instance.name, [])
    if len(running) > 1 and instance.task in running[:-1]:
        after = world.copy()
        yield Move(
            f"{instance.name} is slow at {instance.task}: the rest is given back",
            None,
            after.give_back(instance),
            after.tidy(),
        )


def _endings(world: World, instance: Instance) -> Iterator[Move]:
    """Report instances that are gone, by proof or by the lease, if they are still known."""
    if instance.name not in world.machine.leases:
        return
    after = world.copy()
    yield Move(f"lease of {instance.name} ends", None, after.expire(instance), after.tidy())
    if instance.phase is Phase.DEAD:
        after = world.copy()
        yield Move(f"{instance.name} is seen dead", None, after.dead(instance), after.tidy())


def _arrivals(world: World) -> Iterator[Move]:
    for number, caller in enumerate(world.flying):
        after = world.copy()
        after.flying = world.flying[:number] + world.flying[number + 1 :]
        act = after.call(caller)
        act.is_late = True
        yield Move(f"late {act.kind} of {caller.name} arrives", None, act, after.tidy())


def _starts(world: World) -> Iterator[Move]:
    """Start an instance in the place of one that is gone; a bound one only when asked for."""
    missing = Counter(world.configuration.staff) - Counter(i.kind for i in world.instances)
    if not missing:
        return
    names = {i.name for i in world.instances}
    name = next(f"i{n}" for n in range(99) if f"i{n}" not in names)
    if not world.configuration.is_bound:
        for kind in missing:
            after = world.copy()
            after.instances = (*world.instances, Instance(name, kind=kind))
            yield Move(f"{name} starts", None, None, after.tidy())
        return
    roster = world.machine.roster
    for member, (_, nonce) in sorted(roster.invoked.items()):
        after = world.copy()
        bound = roster.name(member), nonce
        after.instances = (*world.instances, Instance(name, bound=bound, kind=roster.kind(member)))
        yield Move(f"{name} starts for {roster.name(member)}", None, None, after.tidy())


def _losses(world: World) -> Iterator[Move]:
    if world.may(Fault.VANISH):
        for blob in sorted(world.blobs):
            after = world.copy(Fault.VANISH)
            after.blobs.discard(blob)
            yield Move(f"result of {blob[0]} vanishes", Fault.VANISH, None, after.tidy())
    if world.may(Fault.HINT):
        for kind, hints in world.hints.items():
            for other in (hints - 1, hints + 1):
                if 0 <= other <= world.configuration.staff.count(kind):
                    after = world.copy(Fault.HINT)
                    after.hints[kind] = other
                    yield Move(f"{other} hints instead of {hints}", Fault.HINT, None, after.tidy())
    if world.may(Fault.CANCEL):
        after = world.copy(Fault.CANCEL)
        after.machine.cancel("", now=0.0)
        yield Move("cancel", Fault.CANCEL, after.settle(Act("cancel", Instance(""))), after.tidy())


def _of_time(world: World) -> Iterator[Move]:
    for task, at in world.machine.due.items():
        if at > 0.0:
            after = world.copy()
            after.machine.due[task] = 0.0
            yield Move(f"back-off of {task} ends", None, None, after.tidy())
    if world.configuration.kinds and any(at <= 0.0 for at in world.machine.due.values()):
        after = world.copy()
        yield Move("whoever starts instances looks", None, after.demand(), after.tidy())
    if world.machine.start_by is not None and world.machine.start_by > 0.0:
        after = world.copy()
        after.machine.start_by = -1.0
        yield Move("nobody took part in time", None, None, after.tidy())
    if world.may(Fault.DEADLINE):
        after = world.copy(Fault.DEADLINE)
        after.machine.deadline_at = -1.0
        yield Move("the deadline passes", Fault.DEADLINE, None, after.tidy())
