"""The tasks of one run and what moves them: states, edge bits, results, budgets, the end. Pure.

These are the parts that the steps of machine.py are made of; none is atomic by itself. The states
and their transitions are drawn in states.py. The twin of this file is scripts/tasks.lua: the same
moves in the same order.

Three rules are surprising, and each has a reason:

- Readiness is one bit per edge, never a counter: a commit that is repeated, or that comes from an
instance whose lease ran out, sets bits that are set already. `n_set` only saves counting them.
- A commit is accepted in every state before DONE, not only from the owner: the value is right
  on whichever instance it was computed, and a second computation would prove nothing.
- A worker that holds its order has edges that carry no value, from each of its steps to the next.
  The bit is set when the step is done, backs off, failed or is skipped, and is never cleared, since
  the next step needs nothing of it. So the next step begins while this one backs off. It waits for
  a step that itself waits for an input, also where that input has to be computed again.
- A run that looks finished is checked once more for the bytes of its sinks. A server that evicts,
  or a person who deletes keys, would else leave a run that is `ok` without results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dagnb.protocol.messages import (
    Address,
    Charge,
    Commit,
    Edge,
    Event,
    Record,
    RunState,
    Submission,
    TaskState,
)
from dagnb.protocol.roster import Roster

HasBlob = Callable[[int, Address], bool]
"""Returns whether the store still holds the result of this task at this address."""

NEVER_STARTED = "it never started: its client ended before workers were launched"
"""Reason of the cancellation of a run in which no one took part by `start_by`."""

_OPEN = (TaskState.WAITING, TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)


class Tasks:
    """Everything that is known of one run.

    now: moment of the step, epoch seconds. fresh: random text of the caller; nonces are made of it.
    """

    def __init__(
        self,
        submission: Submission,
        now: float,
        fresh: str,
        has_blob: HasBlob,
        records: Sequence[Record] | None = None,
    ) -> None:
        """Take the step `submit`: sources are ready, members are asked for.

        records: the unpacked records, for a submission without packed ones (a simulation).
        """
        self.submission = submission
        self.records = records or list(map(Record.unpack, submission.records))
        self.has_blob = has_blob

        self.state = RunState.RUNNING
        self.reason = ""
        self.submitted_at, self.finished_at = now, 0.0
        self.deadline_at = _later(now, submission.deadline_s)
        self.start_by = _later(now, submission.start_s)

        self.states = [TaskState.WAITING] * len(self.records)
        self.bits: set[int] = set()
        self.n_set: dict[int, int] = {}  # first bit of a task -> how many of its bits are set
        self.results: dict[int, Address] = {}
        self.spent: dict[int, dict[Charge, int]] = {}
        # The two are inverse. Tasks of an instance stay in the order in which they were offered.
        self.owner: dict[int, str] = {}
        self.running: dict[str, list[int]] = {}
        self.due: dict[int, float] = {}  # backing-off task -> the moment when it is ready again
        self.ready_at: dict[int, float] = {}
        self.leases: dict[str, float] = {}
        self.errors: dict[tuple[int, int], str] = {}  # (task, attempt) -> JSON of a TaskError

        # A run that goes on after failures waits for all tasks, any other for its sinks only.
        self.waits_for_all = submission.on_error == "continue"
        self.unsettled = len(self.records) if self.waits_for_all else len(set(submission.sinks))
        self.roster = Roster(submission.queues)
        self.serial = 0  # makes the nonces of one `fresh` different

        # Left for the caller to deal with, and to clear: see MemoryStore._settle.
        self.events: list[Event] = []
        self.hints: list[str] = []
        self.kind_hints: dict[str, list[str]] = {}
        self.discarded: list[tuple[int, Address]] = []

        for source in submission.sources:
            self._ready(source, now)
        self._route(fresh)

    def attempt(self, task: int) -> int:
        """Returns the number of the present attempt, from 1."""
        return 1 + sum(self.spent.get(task, {}).values())

    def next_due(self) -> float | None:
        """Returns the moment the next back-off ends, None when no task is backing off."""
        return min(self.due.values(), default=None)

    def is_overdue(self, now: float) -> bool:
        """Returns whether the next step will end the run: its deadline or `start_by` has passed."""
        ends = [moment for moment in (self.start_by, self.deadline_at) if moment is not None]
        return self.state is RunState.RUNNING and any(now >= moment for moment in ends)

    def needs(self) -> bool:
        """Returns whether a launcher that starts instances by kind should ask `demand`.

        It should when a member was asked for and is not staffed by the end of the step, and when
        the run is over. Valid until the hints of the step are taken.
        """
        if self.state is not RunState.RUNNING:
            return any(queue.kind for queue in self.submission.queues)
        return bool(self.kind_hints) and not self.kind_hints.keys().isdisjoint(self.roster.wanted())

    def take_hints(self) -> dict[str, list[str]]:
        """Remove and return the hints that were not passed on yet: kind -> names of workers."""
        hints = {"": self.hints, **self.kind_hints} if self.hints else self.kind_hints
        self.hints, self.kind_hints = [], {}
        return hints

    # ---- ready tasks ----------------------------------------------------------------------------

    def _ready(self, task: int, now: float) -> None:
        record = self.records[task]
        self.states[task] = TaskState.READY
        self.ready_at[task] = now
        self.roster.push(task, record.queue, record.priority)

    def _again(self, task: int, now: float) -> None:
        """Make a task ready whose attempt ended without a result, or let it wait for its inputs.

        It waits if it was to run right behind one of its inputs, on the same instance. It is
        skipped if an input has failed since.
        """
        self.states[task] = TaskState.WAITING
        self._ready_or_skip(task, now)
        # Skipped, it may have been the last one that the run waited for.
        if self.unsettled == 0:
            self._finish_if_sound(now)

    def _route(self, fresh: str) -> None:
        members, self.serial = self.roster.route(fresh, self.serial)
        for member in members:
            self._hint(self.roster.kind(member), self.roster.name(member))

    def _hint(self, kind: str, hint: str) -> None:
        hints = self.kind_hints.setdefault(kind, []) if kind else self.hints
        hints.append(hint)

    def _promote(self, now: float) -> None:
        """Make tasks ready whose back-off has ended."""
        if not self.due:
            return
        # Redis orders equal scores by text, so equal moments are ordered by the text of the task.
        due = sorted((at, str(task), task) for task, at in self.due.items() if at <= now)
        for _, _, task in due:
            del self.due[task]
            self._ready(task, now)

    # ---- the end of a run -----------------------------------------------------------------------

    def _finish(self, state: RunState, reason: str, now: float) -> None:
        self.state, self.reason, self.finished_at = state, reason, now
        for task, task_state in enumerate(self.states):
            if task_state in _OPEN:
                self.states[task] = TaskState.CANCELLED
        # Every instance is woken where it waits, which is the list of its kind.
        for instance in self.leases:
            self._hint(self.roster.kinds.get(instance, ""), "stop")
        self.roster.clear()
        self.due.clear()
        self.owner.clear()
        self.running.clear()
        self._event(now, "end", -1, state)

    def take_part(self, *, now: float) -> None:
        """Note that workers were launched: `start_by` no longer ends the run."""
        if not self._is_over(now):
            self.start_by = None

    def _is_over(self, now: float) -> bool:
        """Ends a run whose `start_by` or deadline has passed. Returns whether the run is over.

        Every step begins with it. Nothing else watches the clock, so a run without callers ends
        with the next look at it.
        """
        if self.state is RunState.RUNNING and self.start_by is not None and now >= self.start_by:
            self._finish(RunState.CANCELLED, NEVER_STARTED, now)
        deadline_at = self.deadline_at
        if self.state is RunState.RUNNING and deadline_at is not None and now >= deadline_at:
            self._finish(RunState.DEADLINE, "the deadline passed", now)
        return self.state is not RunState.RUNNING

    # ---- results come and go --------------------------------------------------------------------

    def _leave_running(self, task: int) -> str:
        """Take a task from its owner. Returns the worker it ran on, '' if it did not run."""
        owner = self.owner.pop(task, None)
        if owner is None:
            return ""
        self.running[owner].remove(task)
        return self._worker_of(owner)

    def _leave_without_inputs(self, instance: str, now: float) -> None:
        """Take from an instance the tasks that it was to run behind one that it runs no more."""
        before: set[int] = set()
        for task in list(self.running.get(instance, ())):
            if self._absent_inputs(task) <= before:
                before.add(task)
            else:
                self._leave_running(task)
                self._again(task, now)

    def _absent_inputs(self, task: int) -> set[int]:
        """Returns the upstream tasks that are not done."""
        absent = set()
        for upstream in self.records[task].upstream:
            if self.states[upstream] is not TaskState.DONE:
                absent.add(upstream)
        return absent

    def _has_reader(self, instance: str, task: int) -> bool:
        """Returns whether no other instance will ask for a result that this one keeps.

        It has or had the reader, or takes it now, if the reader waits for nothing else and comes
        next in the order of a pinned worker.
        """
        record = self.records[task]
        if not record.together:
            return False
        reader, _, _, n_bits, queue, priority = record.edges[0]
        if self.owner.get(reader) == instance or self.states[reader] is TaskState.DONE:
            return True
        member = self.roster.held.get(instance)
        is_free = self.states[reader] is TaskState.WAITING and reader not in self.spent
        is_here = member is not None and member[0] == queue
        return n_bits == 1 and is_free and is_here and not self.roster.goes_before(queue, priority)

    def _take_reader(self, instance: str, task: int, now: float) -> None:
        """Take the reader of a result that is kept, if the instance does not have it yet."""
        reader = self.records[task].edges[0][0]
        if self.states[reader] is TaskState.WAITING:
            self._start_unqueued(instance, reader, now)
            self.running.setdefault(instance, []).append(reader)

    def _start(self, instance: str, task: int, now: float) -> None:
        """Note that an instance runs a task, which is not in a queue any more."""
        self.states[task] = TaskState.RUNNING
        self.owner[task] = instance
        self._event(now, "start", task, self._worker_of(instance))

    def _start_unqueued(self, instance: str, task: int, now: float) -> None:
        """Note that an instance runs a task right behind its last input."""
        self.ready_at.pop(task, None)
        self._start(instance, task, now)

    def _commit(
        self, instance: str, commit: Commit, now: float, made_ready: list[tuple[int, str, int]]
    ) -> bool:
        """Store one result and make ready what only waited for it; appended to `made_ready`.

        Returns False when the bytes of the result are not in the store, and the instance does not
        keep them for a reader that it runs, too.
        """
        task, record = commit.task, self.records[commit.task]
        if self.states[task] not in _OPEN:
            # The first commit won. The same one again is a repetition, and its bytes are in use.
            if self.results.get(task) != commit.address:
                self.discarded.append((task, commit.address))
            return True
        is_kept = commit.is_kept and self._has_reader(instance, task)
        if not is_kept and not self.has_blob(task, commit.address):
            return False
        if self.states[task] is TaskState.READY:
            self.roster.withdraw(task, record.queue, record.priority)
        worker = self._leave_running(task)
        self.due.pop(task, None)
        self.states[task] = TaskState.DONE
        self.results[task] = commit.address
        self._event(now, "done", task, worker)
        if is_kept:
            self._take_reader(instance, task, now)
        for child, bit, start, n_bits, _, priority in record.edges:
            if bit not in self.bits:
                self.bits.add(bit)
                self.n_set[start] = self.n_set.get(start, 0) + 1
            # A child that is not WAITING ran before: this task was lost and computed again.
            if self.n_set[start] == n_bits and self.states[child] is TaskState.WAITING:
                self._ready(child, now)
                made_ready.append((priority, str(child), child))
        self.unsettled -= self.waits_for_all or record.is_sink
        return True

    def _skip(self, task: int, now: float) -> None:
        # Only a run that goes on after failures skips tasks, and it counts all of them.
        self.states[task] = TaskState.SKIPPED
        self.unsettled -= 1
        self._event(now, "skip", task, "")

    def _successor(self, task: int) -> Edge | None:
        """Returns the edge to the next step in the order of a worker that holds it, None if none.

        It comes last. It is an order alone: the step does not read this task.
        """
        record = self.records[task]
        return record.edges[-1] if record.is_followed else None

    def _let_pass(self, task: int, now: float) -> None:
        """Let the next step in the order begin, though this one has no result yet or will not."""
        edge = self._successor(task)
        if edge is None:
            return
        child, bit, start, n_bits, *_ = edge
        if bit not in self.bits:
            self.bits.add(bit)
            self.n_set[start] = self.n_set.get(start, 0) + 1
        if self.n_set[start] == n_bits and self.states[child] is TaskState.WAITING:
            self._ready(child, now)

    def _skip_below(self, task: int, now: float) -> None:
        """Skip every descendant of a failed task that still waits."""
        stack = [task]
        while stack:
            task = stack.pop()
            self._let_pass(task, now)
            for child in self._readers(task):
                # Others were skipped by another failure, or ran before an input was lost.
                if self.states[child] is TaskState.WAITING:
                    self._skip(child, now)
                    stack.append(child)

    def _readers(self, task: int) -> list[int]:
        """Returns the downstream tasks, which read its result."""
        successor = self._successor(task)
        return [edge[0] for edge in self.records[task].edges if edge is not successor]

    def _ready_or_skip(self, task: int, now: float) -> None:
        """Make a waiting task ready if all its inputs are done; skip it if one never will be."""
        if self.states[task] is not TaskState.WAITING:
            return
        upstream = [self.states[u] for u in self.records[task].upstream]
        if TaskState.FAILED in upstream or TaskState.SKIPPED in upstream:
            self._skip(task, now)
            self._skip_below(task, now)
        elif all(state is TaskState.DONE for state in upstream):
            self._ready(task, now)

    def _is_gone(self, task: int) -> bool:
        """Returns whether a task has no readable result: not done, or the bytes are gone."""
        if self.states[task] is not TaskState.DONE:
            return True
        return not self.has_blob(task, self.results[task])

    def _uncomplete(self, tasks: Sequence[int], now: float) -> None:
        """Make done tasks wait again whose bytes are gone, and their inputs likewise."""
        undone = []
        stack = [task for task in tasks if self.states[task] is TaskState.DONE]
        while stack:
            task = stack.pop()
            # Two lost tasks may share an input, which is then on the stack twice.
            if self.states[task] is not TaskState.DONE:
                continue
            self.states[task] = TaskState.WAITING
            del self.results[task]
            self.unsettled += self.waits_for_all or self.records[task].is_sink
            successor = self._successor(task)
            for edge in self.records[task].edges:
                if edge is not successor:
                    self.bits.discard(edge[1])
                    self.n_set[edge[2]] -= 1
            self._event(now, "lost", task, "")
            undone.append(task)
            done = [u for u in self.records[task].upstream if self.states[u] is TaskState.DONE]
            stack.extend(filter(self._is_gone, done))
        # In a second loop, because readiness depends on which inputs the first one has undone.
        for task in undone:
            self._ready_or_skip(task, now)

    def _finish_if_sound(self, now: float) -> None:
        """End a run that waits for nothing more, unless bytes of a sink have gone."""
        sinks = sorted(set(self.submission.sinks))
        if any(self.states[s] in (TaskState.FAILED, TaskState.SKIPPED) for s in sinks):
            self._finish(RunState.FAILED, "a task failed", now)
            return
        gone = [s for s in sinks if self._is_gone(s)]
        if not gone:
            self._finish(RunState.OK, "", now)
            return
        self._uncomplete(gone, now)
        if self.unsettled == 0:  # all of them were skipped
            self._finish(RunState.FAILED, "a task failed", now)

    # ---- attempts that ended badly --------------------------------------------------------------

    def _fail_for_good(self, task: int, worker: str, now: float) -> None:
        self.states[task] = TaskState.FAILED
        self.unsettled -= self.waits_for_all or self.records[task].is_sink
        self._event(now, "fail", task, worker)
        if not self.waits_for_all:
            self._finish(RunState.FAILED, "a task failed", now)
            return
        self._skip_below(task, now)
        if self.unsettled == 0:
            self._finish_if_sound(now)

    def _charge(
        self, task: int, charge: Charge, error: str, delay_s: float | None, worker: str, now: float
    ) -> None:
        """End an attempt: note the error, then back off, go back to ready, or fail for good."""
        # An instance may have run several tasks, and the first of them may have ended the run.
        if self.state is not RunState.RUNNING:
            return
        self.errors[task, self.attempt(task)] = error
        spent = self.spent.setdefault(task, dict.fromkeys(Charge, 0))
        spent[charge] += 1
        budgets = {
            Charge.EXCEPTION: self.records[task].retries,
            Charge.CRASH: self.submission.crash_budget,
            Charge.LOSS: self.submission.loss_budget,
        }
        if delay_s is None or spent[charge] > budgets[charge]:
            self._fail_for_good(task, worker, now)
            return
        self._event(now, "retry", task, worker)
        # A task that ran behind its input waits for that anyway.
        if delay_s > 0 and not self._absent_inputs(task):
            self.states[task] = TaskState.RETRYING
            self.due[task] = now + delay_s
            self._let_pass(task, now)
        else:
            self._again(task, now)

    # ---- small things ---------------------------------------------------------------------------

    def _worker_of(self, instance: str) -> str:
        member = self.roster.held.get(instance)
        return "" if member is None else self.roster.name(member)

    def _event(self, now: float, kind: str, task: int, worker: str) -> None:
        self.events.append(Event(now, kind, task, worker))


def _later(now: float, wait_s: float | None) -> float | None:
    return None if wait_s is None else now + wait_s
