"""Invariants: they hold in every state of the world. Laws of every step are in laws.py."""

from __future__ import annotations

from collections import Counter

from dagnb.protocol.messages import Charge, RunState, TaskState
from tests.model.configuration import FAULTS, Fault
from tests.model.world import Phase, World

_STARTED = (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)
_SETTLED = (TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED)
_LOST_FOR_GOOD = (TaskState.FAILED, TaskState.SKIPPED)


class ViolationError(AssertionError):
    """An invariant does not hold; `invariant` is its name."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


def expect(holds: bool, invariant: str, what: str) -> None:
    """Raises ViolationError."""
    if not holds:
        raise ViolationError(invariant, what)


def check_state(world: World) -> None:
    """Raises ViolationError naming the first invariant that does not hold."""
    _edges(world)
    _errors(world)
    _ending(world)
    if world.is_over:
        return
    _inputs(world)
    _orders(world)
    _owners(world)
    _queues(world)
    _members(world)
    _kinds(world)
    _awaited(world)


def runs_before(world: World, task: int, other: int) -> bool:
    """Returns whether one instance runs both, this task first."""
    machine = world.machine
    running = machine.running.get(machine.owner.get(task, ""), [])
    return other in running[running.index(task) :] if task in running else False


def _inputs(world: World) -> None:
    """I1: a task that started has all inputs, or lost some since. WAITING waits for a task to come.

    A result is lost when a task reports it, or the last check before the end finds it so.
    `was_lost` remembers it.
    """
    states = world.machine.states
    for task, upstream in enumerate(world.configuration.upstream):
        state = states[task]
        if state in _STARTED:
            absent = [
                u
                for u in upstream
                if states[u] is not TaskState.DONE
                and u not in world.was_lost
                and not runs_before(world, u, task)
            ]
            expect(not absent, "I1 inputs", f"{task} is {state.word} before {absent}")
        elif state is TaskState.WAITING:
            expect(
                any(states[u] is not TaskState.DONE for u in upstream) or awaits_turn(world, task),
                "I3 wake-up",
                f"{task} waits for nothing",
            )
            hopeless = [u for u in upstream if states[u] in _LOST_FOR_GOOD]
            expect(not hopeless, "I3 wake-up", f"{task} waits for {hopeless}, which never come")
        elif state is TaskState.SKIPPED:
            expect(
                any(states[u] in _LOST_FOR_GOOD for u in upstream),
                "I8 cause",
                f"{task} skipped without a cause",
            )
        else:
            expect(
                state in _SETTLED, "I6 terminal", f"{task} is {state.word} in a run that goes on"
            )


def awaits_turn(world: World, task: int) -> bool:
    """Returns whether the worker of the task holds its order, and the task before has not passed."""
    predecessor = world.configuration.predecessor(task)
    if predecessor < 0:
        return False
    return world.machine.records[predecessor].edges[-1][1] not in world.machine.bits


def _orders(world: World) -> None:
    """I19: a held order is kept, and no task waits for one before it that ended in any way.

    An attempt that failed and is tried again at once may let the next task pass or not.
    """
    machine = world.machine
    for task, state in enumerate(machine.states):
        predecessor = world.configuration.predecessor(task)
        if predecessor < 0:
            continue
        before = machine.states[predecessor]
        if awaits_turn(world, task):
            ended = before in (*_SETTLED, TaskState.RETRYING)
            expect(not ended, "I19 order", f"{task} waits for {predecessor}: {before.word}")
            started = state in (*_STARTED, TaskState.DONE, TaskState.FAILED)
            expect(not started, "I19 order", f"{task} is {state.word} before {predecessor}")
        else:
            ended = before in (*_SETTLED, TaskState.RETRYING)
            again = predecessor in machine.spent or predecessor in world.was_lost
            expect(ended or again, "I19 order", f"{task} need not wait for {predecessor}")


def _edges(world: World) -> None:
    """I4: the bit of an edge is set exactly while its upstream task is done; counts hold.

    The bit of an order stays set: see I19.
    """
    machine = world.machine
    for task, record in enumerate(machine.records):
        done = machine.states[task] is TaskState.DONE
        expect(
            done == (task in machine.results),
            "I4 edges",
            f"{task}: result without DONE, or DONE without result",
        )
        for edge in record.edges:
            is_order = world.configuration.predecessor(edge[0]) == task
            expect(
                is_order or (edge[1] in machine.bits) == done,
                "I4 edges",
                f"bit of {task} -> {edge[0]} is wrong",
            )
            n_set = sum(bit in machine.bits for bit in range(edge[2], edge[2] + edge[3]))
            expect(
                machine.n_set.get(edge[2], 0) == n_set,
                "I4 edges",
                f"{edge[0]} has {n_set} bits set, counted otherwise",
            )


def _owners(world: World) -> None:
    """I9: owner and running are inverse; an owner has a lease and staffs the queue of its task."""
    machine = world.machine
    names = {i.name for i in world.instances}
    for task, state in enumerate(machine.states):
        owner = machine.owner.get(task)
        expect(
            (state is TaskState.RUNNING) == (owner is not None),
            "I9 owner",
            f"{task} is {state.word}, owner {owner}",
        )
        expect(
            (state is TaskState.RETRYING) == (task in machine.due),
            "I9 owner",
            f"{task} is {state.word}: back-off",
        )
        if owner is None:
            continue
        expect(
            machine.running.get(owner, []).count(task) == 1,
            "I9 owner",
            f"{owner} does not know that it runs {task}",
        )
        expect(owner in machine.leases, "I3 wake-up", f"{task} runs on {owner}, which has no lease")
        member = machine.roster.held.get(owner)
        expect(
            member is not None and member[0] == machine.records[task].queue,
            "I9 owner",
            f"{task} runs on {owner}, which staffs {member}",
        )
    n_running = sum(len(tasks) for tasks in machine.running.values())
    expect(
        n_running == len(machine.owner), "I9 owner", f"{machine.running} against {machine.owner}"
    )
    strangers = (
        machine.leases.keys() | machine.roster.held.keys() | machine.running.keys()
    ) - names
    expect(not strangers, "I9 owner", f"{strangers} are gone")


def _queues(world: World) -> None:
    """I3: READY tasks alone are queued, once; members are asked for as far as the cap allows."""
    machine = world.machine
    ready = sorted(t for t, state in enumerate(machine.states) if state is TaskState.READY)
    queued = sorted(
        (task, queue)
        for queue, each in enumerate(machine.roster.queues)
        for _, _, task in each.ready
    )
    expect(
        [task for task, _ in queued] == ready,
        "I3 wake-up",
        f"queues hold {queued}, ready are {ready}",
    )
    misplaced = [task for task, queue in queued if machine.records[task].queue != queue]
    expect(not misplaced, "I3 wake-up", f"{misplaced} are in the wrong queue")
    for queue in machine.roster.queues:
        staff, cap = queue.n_invoked + queue.n_active, queue.info.cap
        expect(staff <= cap, "I3 cap", f"{staff} members of {queue.info.name}, cap {cap}")
        enough = len(queue.ready) <= queue.n_invoked or staff == cap
        expect(
            enough,
            "I3 wake-up",
            f"{queue.info.name}: {len(queue.ready)} ready, "
            f"{queue.n_invoked} asked for, {staff} in all",
        )
    expect(not machine.roster.touched, "I3 wake-up", "a queue was changed and nobody was asked for")


def _members(world: World) -> None:
    """I3: a member is free, asked for or held, once; its instance has a lease and is awake."""
    roster = world.machine.roster
    for number, queue in enumerate(roster.queues):
        invoked = [member for queue, member in roster.invoked if queue == number]
        held = [member for queue, member in roster.held.values() if queue == number]
        expect(
            queue.n_invoked == len(invoked),
            "I3 members",
            f"{queue.n_invoked} asked for, in truth {invoked}",
        )
        expect(
            queue.n_active == len(held), "I3 members", f"{queue.n_active} active, in truth {held}"
        )
        members = Counter((*queue.free, *invoked, *held))
        expect(
            members == Counter(range(1, queue.highest + 1)),
            "I3 members",
            f"members are {members} of {queue.highest}",
        )
    expect(
        set(roster.nonces) == set(roster.held.values()),
        "I3 members",
        "nonces of members that nobody holds",
    )
    unleased = roster.held.keys() - world.machine.leases.keys()
    expect(not unleased, "I3 wake-up", f"{unleased} staff workers without a lease")
    if world.budget[FAULTS.index(Fault.LATE)] == world.configuration.faults.get(Fault.LATE, 0):
        asleep = [
            i.name for i in world.instances if i.phase is Phase.IDLE and i.name in roster.held
        ]
        expect(not asleep, "I3 wake-up", f"{asleep} sleep and staff a worker")


def _kinds(world: World) -> None:
    """I14: an instance only staffs queues of its kind, which is known while it has a lease."""
    roster = world.machine.roster
    kinds = {i.name: i.kind for i in world.instances}
    misfits = [
        name for name, member in roster.held.items() if roster.kind(member) != kinds.get(name)
    ]
    expect(not misfits, "I14 kinds", f"{misfits} staff queues of another kind")
    known = {name: kinds.get(name) for name in world.machine.leases if kinds.get(name)}
    expect(roster.kinds == known, "I14 kinds", f"kinds are {known}, known are {roster.kinds}")


def _awaited(world: World) -> None:
    """I8: the count of tasks that the run waits for is true, and a run without any has ended."""
    machine = world.machine
    awaited = range(len(machine.states)) if _goes_on(world) else set(machine.submission.sinks)
    unsettled = sum(machine.states[task] not in _SETTLED for task in awaited)
    expect(
        machine.unsettled == unsettled,
        "I8 awaited",
        f"{machine.unsettled} unsettled tasks, in truth {unsettled}",
    )
    expect(unsettled > 0, "I8 awaited", "all that the run waits for is settled and it goes on")


def _errors(world: World) -> None:
    """I7, I8: attempts are within budgets; a bad end left an error; a failed task used one up."""
    machine = world.machine
    noted = Counter(task for task, _ in machine.errors)
    for task, state in enumerate(machine.states):
        spent = machine.spent.get(task, {})
        n_ended = sum(spent.values())
        expect(
            noted[task] == n_ended,
            "I8 cause",
            f"{task}: {n_ended} attempts ended badly, {noted[task]} errors",
        )
        expect(
            all((task, attempt) in machine.errors for attempt in range(1, n_ended + 1)),
            "I8 cause",
            f"{task}: an error is missing",
        )
        over = [
            charge
            for charge, budget in (
                (Charge.EXCEPTION, machine.records[task].retries),
                (Charge.CRASH, machine.submission.crash_budget),
                (Charge.LOSS, machine.submission.loss_budget),
            )
            if spent.get(charge, 0) > budget
        ]
        if state is TaskState.FAILED:
            may_refuse = None in world.configuration.delays and spent.get(Charge.EXCEPTION, 0) > 0
            expect(bool(over) or may_refuse, "I7 budgets", f"{task} failed within its budgets")
        else:
            expect(not over, "I7 budgets", f"{task} is {state.word}, but has used up {over}")


def _goes_on(world: World) -> bool:
    """Returns whether the run goes on after failures."""
    return world.configuration.on_error == "continue"


def _going_on(world: World) -> None:
    """I16: a run that goes on after failures ends when every task is settled.

    Skipped are those below a failed one. No task is left over because no one reads its value any
    more. A cancel or a deadline may leave some.
    """
    states = world.machine.states
    left = [task for task, state in enumerate(states) if state not in _SETTLED]
    expect(not left, "I16 going on", f"{left} were never run, though nothing that they need failed")
    for task, upstream in enumerate(world.configuration.upstream):
        if states[task] is TaskState.SKIPPED:
            expect(
                any(states[u] in _LOST_FOR_GOOD for u in upstream),
                "I16 going on",
                f"{task} skipped without cause",
            )


def _ending(world: World) -> None:
    """I5, I8: the final state is the right one."""
    machine = world.machine
    if machine.state is RunState.OK:
        gone = [
            s
            for s in machine.submission.sinks
            if s not in machine.results or not machine.has_blob(s, machine.results[s])
        ]
        expect(not gone, "I5 result", f"the run is ok without the results {gone}")
    if machine.state is RunState.FAILED:
        expect(TaskState.FAILED in machine.states, "I8 cause", "the run failed, but no task did")
    for state, fault in ((RunState.CANCELLED, Fault.CANCEL), (RunState.DEADLINE, Fault.DEADLINE)):
        if machine.state is state:
            spent = world.configuration.faults.get(fault, 0) - world.budget[FAULTS.index(fault)]
            never_started = (
                state is RunState.CANCELLED
                and machine.start_by is not None
                and machine.start_by <= 0.0
            )
            expect(spent > 0 or never_started, "I8 cause", f"the run is {state} without a cause")
    expect(
        machine.start_by is None or not machine.leases,
        "I8 cause",
        "somebody is here, and the run may never start",
    )
    if world.is_over:
        open_tasks = [
            t for t, s in enumerate(machine.states) if s not in (*_SETTLED, TaskState.CANCELLED)
        ]
        expect(not open_tasks, "I6 terminal", f"{open_tasks} are open after the end")
        busy = (
            machine.owner
            or machine.due
            or machine.roster.invoked
            or any(queue.ready for queue in machine.roster.queues)
        )
        expect(not busy, "I6 terminal", "there is work left after the end")
    if _goes_on(world) and machine.state in (RunState.OK, RunState.FAILED):
        _going_on(world)
