"""The laws of every step: its changes, its answers, and that repeating it changes nothing."""

from __future__ import annotations

from collections import Counter

from dagnb.protocol.messages import Charge, Reply, Status, TaskState
from tests.model.invariants import expect, runs_before
from tests.model.moves import is_calling
from tests.model.snapshot import form_of
from tests.model.world import Act, Instance, Move, Phase, World

_STARTED = (TaskState.READY, TaskState.RUNNING)


def check_step(before: World, move: Move) -> None:
    """Raises ViolationError naming the first law that was broken."""
    act, after = move.act, move.world
    if act is None:
        return
    _results(before, after, act)
    _starts(before, after)
    _charges(before, after, act)
    _retries(before, after, act)
    _takings(before, after, act)
    _askings(before, after)
    _in_order(before, after)
    _discarded(after, act)
    _demand(after, act)
    _given_back(before, after, act)
    if act.reply is not None:
        _answer(before, after, act)
        _alone(before, after, act.instance.name, act.reply)


def check_repetition(before: World, after: World, act: Act) -> None:
    """I11: a call repeated at once changes nothing.

    An instance that was to wait gets what it made ready, as by any call. Not so for a report of
    lost inputs that is out of date: it may hand out the very task it names, and be true again.
    """
    if act.kind == "lost" and act.instance.task not in before.machine.running.get(
        act.instance.name, ()
    ):
        return
    again = after.copy()
    if act.kind == "dead":
        expect(not again.dead(act.instance).is_news, "I11 repetition", "a known death is news")
        expect(again.key() == after.key(), "I11 repetition", "a known death changes something")
    if act.reply is None or act.is_late:
        return
    again.call(act.instance)
    if act.reply.status is Status.IDLE:
        after = after.copy()
        after.call(Instance(act.instance.name, kind=act.instance.kind))
    expect(
        again.key() == after.key(),
        "I11 repetition",
        f"{act.kind} of {act.instance.name} again changes something",
    )


def check_end(world: World) -> None:
    """I6: no call changes a run that is over, and each is answered with STOP."""
    form = form_of(world.machine), dict(world.machine.results)
    for instance in (*world.instances, *world.flying, Instance("new")):
        if is_calling(world, instance):
            after = world.copy()
            act = after.call(instance)
            assert act.reply is not None
            expect(
                act.reply.status is Status.STOP,
                "I6 terminal",
                f"{act.kind} is answered {act.reply.status}",
            )
            expect(
                (form_of(after.machine), after.machine.results) == form,
                "I6 terminal",
                f"{act.kind} after the end",
            )
            _discarded(after, act)
    for instance in world.instances:
        for step in (World.expire, World.dead, World.give_back):
            after = world.copy()
            step(after, instance)
            expect(
                (form_of(after.machine), after.machine.results) == form,
                "I6 terminal",
                f"{step.__name__} after the end",
            )
    after = world.copy()
    expect(not after.machine.cancel("", now=0.0), "I6 terminal", "cancel after the end is news")
    pulses = after.machine.heartbeat(["i0"], now=0.0, fresh="f", lease_s=1.0)
    expect(
        set(pulses.values()) == {Status.STOP}, "I6 terminal", "a heartbeat after the end goes on"
    )
    expect(
        (form_of(after.machine), after.machine.results) == form,
        "I6 terminal",
        "cancel, heartbeat after the end",
    )


def _is_kept(after: World, act: Act, task: int) -> bool:
    """Returns whether the instance keeps the result, and no other one will ask for it."""
    if act.kind != "complete" or act.instance.task != task:
        return False
    reader = after.configuration.reader(task)
    machine = after.machine
    if after.is_over or machine.states[reader] is TaskState.DONE:
        return reader >= 0
    return reader in machine.running.get(act.instance.name, ())


def _results(before: World, after: World, act: Act) -> None:
    """I2: a committed result stays what it is, unless its bytes are gone. I5: it has bytes."""
    old, new = before.machine, after.machine
    for task, address in old.results.items():
        if new.results.get(task) == address:
            continue
        is_lost = (task, address.token) not in before.blobs
        expect(
            is_lost,
            "I2 overwritten",
            f"the result of {task} was {address.token}, is {new.results.get(task)}",
        )
    for task, address in new.results.items():
        if old.results.get(task) != address:
            expect(
                (task, address.token) in after.blobs or _is_kept(after, act, task),
                "I5 result",
                f"{task} is done without its bytes",
            )


def _starts(before: World, after: World) -> None:
    """I1: a task becomes ready only when all its upstream tasks are done, or one is found lost."""
    lost = after.was_lost - before.was_lost
    for task, state in enumerate(after.machine.states):
        if before.machine.states[task] in (*_STARTED, TaskState.RETRYING) or state not in _STARTED:
            continue
        upstream = after.configuration.upstream[task]
        absent = [
            u
            for u in upstream
            if after.machine.states[u] is not TaskState.DONE
            and u not in lost
            and not runs_before(after, u, task)
        ]
        expect(not absent, "I1 inputs", f"{task} became {state.word} before {absent}")


def _charges(before: World, after: World, act: Act) -> None:
    """I7: an attempt that ended badly is charged once, to its budget. I8: it has a cause."""
    due = _due_charges(before, act)
    charged = {
        (task, charge): spent[charge] - before.machine.spent.get(task, {}).get(charge, 0)
        for task, spent in after.machine.spent.items()
        for charge in Charge
    }
    actual = {key for key, n in charged.items() if n}
    expect(
        all(n in (0, 1) for n in charged.values()), "I7 budgets", f"{act.kind} charges {charged}"
    )
    expect(actual <= due, "I7 budgets", f"{act.kind} charges {actual}, should charge {due}")
    expect(
        actual == due or (after.is_over and bool(actual)),
        "I7 budgets",
        f"{act.kind} charges {actual}, should {due}",
    )
    for task, state in enumerate(after.machine.states):
        if state is TaskState.FAILED and before.machine.states[task] is not state:
            expect(
                task in {t for t, _ in actual},
                "I8 cause",
                f"{task} failed in {act.kind}, which did not charge it",
            )


def _retries(before: World, after: World, act: Act) -> None:
    """I7: a task without a retry failed; one that backs off waits, unless it is committed."""
    for task, at in before.machine.due.items():
        waits = at <= 0.0 or after.machine.states[task] not in _STARTED
        expect(waits, "I7 budgets", f"{task} did not wait for its time")
    if act.kind != "fail" or before.machine.spent.get(act.instance.task) == after.machine.spent.get(
        act.instance.task
    ):
        return
    state, delay_s = after.machine.states[act.instance.task], act.instance.delay_s
    if delay_s is None:
        expect(
            state is TaskState.FAILED,
            "I7 budgets",
            f"{act.instance.task} must not be retried and is {state.word}",
        )
    elif delay_s > 0.0:
        expect(
            state not in _STARTED,
            "I7 budgets",
            f"{act.instance.task} is {state.word}, not backing off",
        )


def _takings(before: World, after: World, act: Act) -> None:
    """I9: work is taken from its owner only by himself, by his end, or by a commit."""
    if after.is_over:
        return
    for task, owner in before.machine.owner.items():
        if owner != act.instance.name and after.machine.owner.get(task) != owner:
            committed = act.kind == "complete" and act.instance.task == task
            expect(
                committed,
                "I9 owner",
                f"{act.kind} of {act.instance.name} takes {task} from {owner}",
            )


def _askings(before: World, after: World) -> None:
    """I3: nobody is asked for without a task to take."""
    for old, new in zip(before.machine.roster.queues, after.machine.roster.queues, strict=True):
        thrifty = new.n_invoked <= max(old.n_invoked, len(new.ready))
        expect(
            thrifty,
            "I3 thrift",
            f"{new.info.name}: {new.n_invoked} asked for, {len(new.ready)} ready",
        )


def _in_order(before: World, after: World) -> None:
    """I18: a pinned worker takes no task while a more urgent one of its tasks is ready."""
    machine = after.machine
    for name, (queue, _) in machine.roster.held.items():
        state = machine.roster.queues[queue]
        if state.info.is_pool or not state.ready:
            continue
        old = before.machine.running.get(name, [])
        taken = [task for task in machine.running.get(name, []) if task not in old]
        late = [task for task in taken if machine.records[task].priority > state.ready[0][0]]
        expect(not late, "I18 order", f"{name} takes {late} before {state.ready[0][2]}")


def _due_charges(before: World, act: Act) -> set[tuple[int, Charge]]:
    machine, instance = before.machine, act.instance
    if before.is_over or machine.is_overdue(0.0):
        return set()
    running = machine.running.get(instance.name, [])
    if act.kind == "fail":
        counts = instance.task in running and instance.attempt == machine.attempt(instance.task)
        return {(instance.task, Charge.EXCEPTION)} if counts else set()
    if act.kind == "dead":
        charged = (
            running if before.configuration.in_containers else {instance.task}.intersection(running)
        )
        return {(task, Charge.CRASH) for task in charged}
    if act.kind == "expire":
        return {(task, Charge.LOSS) for task in running}
    return set()


def _demand(after: World, act: Act) -> None:
    """I15: whoever starts instances sees all that is due, and counts right."""
    if act.kind != "demand":
        return
    machine = after.machine
    overdue = [task for task, at in machine.due.items() if at <= 0.0]
    expect(not overdue, "I15 demand", f"{overdue} are due and not ready")
    wanted = Counter(machine.submission.queues[queue].kind for queue, _ in machine.roster.invoked)
    expect(act.wanted == wanted, "I15 demand", f"{act.wanted} are wanted, in truth {dict(wanted)}")


def _given_back(before: World, after: World, act: Act) -> None:
    """I16: what comes behind the task is ready again, uncharged; a late or second call is void.

    Readers of the task, or of what was given back, wait for it again.
    """
    if act.kind != "give_back":
        return
    name, task = act.instance.name, act.instance.task
    running = before.machine.running[name]
    kept = running[: running.index(task) + 1]
    expect(
        after.machine.running[name] == kept,
        "I16 give back",
        f"{name} keeps {after.machine.running[name]} instead of {kept}",
    )
    for other in running[len(kept) :]:
        state = after.machine.states[other]
        due = TaskState.WAITING if _absent(after, other) else TaskState.READY
        expect(state is due, "I16 give back", f"{other} is {state.name}")
        expect(other not in after.machine.owner, "I16 give back", f"{other} has an owner")
    for late in (act.instance, act.instance._replace(attempt=act.instance.attempt - 1)):
        again = after.copy()
        again.give_back(late)
        expect(again.key() == after.key(), "I16 give back", f"{late} again changes something")
    stale = before.copy()
    stale.give_back(act.instance._replace(attempt=act.instance.attempt - 1))
    expect(stale.key() == before.key(), "I16 give back", "a report of an earlier attempt counts")


def _absent(world: World, task: int) -> set[int]:
    states = world.machine.states
    return {u for u in world.configuration.upstream[task] if states[u] is not TaskState.DONE}


def _alone(before: World, after: World, name: str, reply: Reply) -> None:
    """I17: a task that was charged before is taken alone."""
    # What an instance runs already may have been charged since.
    is_new = not before.machine.running.get(name)
    charged = [offer.task for offer in reply.offers if offer.task in after.machine.spent]
    expect(
        not (is_new and charged and len(reply.offers) > 1),
        "I17 alone",
        f"{charged} were charged before, and come with others",
    )


def _discarded(after: World, act: Act) -> None:
    """I10: a result that was not taken is thrown away, one that was never is."""
    results = {(task, address.token) for task, address in after.machine.results.items()}
    expect(
        results.isdisjoint(act.discarded),
        "I10 bytes",
        f"{act.discarded} are thrown away and wanted",
    )
    if act.kind != "complete" or act.reply is None or act.reply.status is Status.NO_BLOB:
        return
    mine = act.instance.task, act.instance.token
    # The last check before the end may find the bytes of this very result gone.
    expect(
        mine in results or mine in act.discarded or mine not in after.blobs,
        "I10 bytes",
        f"{mine} is forgotten, not thrown away",
    )


def _answer(before: World, after: World, act: Act) -> None:
    """I12: the reply tells the truth, and nobody gets work without a lease."""
    reply, machine, name = act.reply, after.machine, act.instance.name
    assert reply is not None
    status = reply.status
    if act.kind != "register":
        known = name in before.machine.leases
        expect(known or name not in after.machine.leases, "I12 reply", f"{act.kind} gives a lease")
        expect(
            known or status is not Status.TASKS, "I12 reply", f"{name} has no lease and gets tasks"
        )
        expect(
            not known or status is not Status.FENCED,
            "I12 reply",
            f"{name} has a lease and is fenced",
        )
    if status is not Status.NO_BLOB:
        expect(
            (status is Status.STOP) == after.is_over,
            "I12 reply",
            f"{act.kind} is answered {status}: {machine.state}",
        )
    running = machine.running.get(name, [])
    expect(
        status is not Status.IDLE or not running,
        "I12 reply",
        f"{name} is told to wait and runs {running}",
    )
    expect(
        [offer.task for offer in reply.offers] == (running if status is Status.TASKS else []),
        "I12 reply",
        "wrong offers",
    )
    if status is Status.TASKS:
        held = machine.roster.held.get(name)
        expect(
            held is not None and reply.worker == machine.roster.name(held),
            "I12 reply",
            f"{name} is not {reply.worker}",
        )
        expect(bool(running), "I12 reply", "tasks, but none")
    for offer in reply.offers:
        expect(
            offer.attempt == machine.attempt(offer.task),
            "I12 reply",
            f"attempt of {offer.task} is {offer.attempt}",
        )
        results = [
            (u, machine.results[u])
            for u in machine.records[offer.task].upstream
            if u in machine.results
        ]
        expect(
            [(i.task, i.address) for i in offer.inputs] == results,
            "I12 reply",
            f"inputs of {offer.task} are not the results",
        )
    bound = act.instance.bound
    if (
        bound is not None
        and not before.is_current(bound)
        and name not in before.machine.roster.held
    ):
        expect(
            status in (Status.REFUSED, Status.STOP),
            "I12 reply",
            f"{name} is let in, though nobody asks for it",
        )
    if status is Status.REFUSED:
        expect(
            bound is not None and not before.is_current(bound),
            "I12 reply",
            f"{name} is refused, though it is asked for",
        )
    if status is Status.NO_BLOB:
        expect(
            act.instance.phase is Phase.COMMIT or before.keeps(act.instance),
            "I12 reply",
            "bytes that came along are missing",
        )
