"""The tasks of one run and the parts that steps are made of: states, edge bits, results, budgets, the end. Pure.

machine.py composes these parts to steps; nothing here is atomic by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dagnb.protocol.messages import (
    Address,
    Charge,
    Commit,
    Event,
    Record,
    RunState,
    Submission,
    TaskState,
)
from dagnb.protocol.roster import Roster

HasBlob = Callable[[int, Address], bool]
"""Whether the store still holds the result of this task at this address"""

NEVER_STARTED = "it never started: whoever submitted it ended before workers were launched"
"""Reason of the cancellation"""

_OPEN = (TaskState.WAITING, TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)


class Tasks:
    """Everything that is known of one run. `fresh` is a random text of the caller; nonces are made of it."""

    def __init__(
        self,
        submission: Submission,
        now: float,
        fresh: str,
        has_blob: HasBlob,
        records: Sequence[Record] | None = None,
    ) -> None:
        """The step `submit`: sources are ready, members are asked for. records: when they are not packed yet."""
        self.submission = submission
        self.records = (
            [Record.unpack(packed) for packed in submission.records] if records is None else records
        )
        self.has_blob = has_blob
        self.state = RunState.RUNNING
        self.reason = ""
        self.submitted_at, self.finished_at = now, 0.0
        self.deadline_at = (
            now + submission.deadline_s if submission.deadline_s is not None else None
        )
        self.start_by = now + submission.start_s if submission.start_s is not None else None
        self.states = [TaskState.WAITING] * len(self.records)
        self.bits: set[int] = set()
        self.n_set: dict[int, int] = {}
        self.results: dict[int, Address] = {}
        self.spent: dict[int, dict[Charge, int]] = {}
        self.owner: dict[int, str] = {}
        self.running: dict[str, list[int]] = {}
        self.due: dict[int, float] = {}
        self.ready_at: dict[int, float] = {}
        self.leases: dict[str, float] = {}
        self.errors: dict[tuple[int, int], str] = {}
        # A run that goes on after failures waits for all its tasks, any other only for those that were asked for.
        self.waits_for_all = submission.on_error == "continue"
        self.unsettled = len(self.records) if self.waits_for_all else len(set(submission.sinks))
        self.roster = Roster(submission.queues)
        self.serial = 0
        self.events: list[Event] = []
        self.hints: list[str] = []
        self.kind_hints: dict[str, list[str]] = {}
        self.discarded: list[tuple[int, Address]] = []
        for source in submission.sources:
            self._ready(source, now)
        self._route(fresh)

    def attempt(self, task: int) -> int:
        """Number of the present attempt, from 1."""
        return 1 + sum(self.spent.get(task, {}).values())

    def next_due(self) -> float | None:
        """The moment the next back-off ends, if a task is backing off."""
        return min(self.due.values(), default=None)

    def needs(self) -> bool:
        """Whether whoever starts instances of kinds should look, as long as the hints of the step are not taken.

        So when one was asked for and is not here by the end of the step, and when the run is over.
        """
        if self.state is not RunState.RUNNING:
            return any(queue.kind for queue in self.submission.queues)
        return bool(self.kind_hints) and not self.kind_hints.keys().isdisjoint(self.roster.wanted())

    def take_hints(self) -> dict[str, list[str]]:
        """kind -> hints that nobody passed on yet; they are taken away."""
        hints = {"": self.hints, **self.kind_hints} if self.hints else self.kind_hints
        self.hints, self.kind_hints = [], {}
        return hints

    def take_part(self, *, now: float) -> None:
        """The step of a client that launched workers: from now on the run need not start by a moment."""
        if not self._is_over(now):
            self.start_by = None

    def is_overdue(self, now: float) -> bool:
        """Whether the next step will find the run over, because a moment has passed."""
        ends = [at for at in (self.start_by, self.deadline_at) if at is not None]
        return self.state is RunState.RUNNING and any(now >= at for at in ends)

    def _is_over(self, now: float) -> bool:
        if self.state is RunState.RUNNING and self.start_by is not None and now >= self.start_by:
            self._finish(RunState.CANCELLED, NEVER_STARTED, now)
        if (
            self.state is RunState.RUNNING
            and self.deadline_at is not None
            and now >= self.deadline_at
        ):
            self._finish(RunState.DEADLINE, "the deadline passed", now)
        return self.state is not RunState.RUNNING

    def _commit(self, commit: Commit, now: float, made_ready: list[tuple[int, str, int]]) -> bool:
        """False: the bytes of the result are not in the store."""
        task, record = commit.task, self.records[commit.task]
        if self.states[task] not in _OPEN:
            if self.results.get(task) != commit.address:
                self.discarded.append((task, commit.address))
            return True
        if not self.has_blob(task, commit.address):
            return False
        if self.states[task] is TaskState.READY:
            self.roster.withdraw(task, record.queue, record.priority)
        worker = self._leave_running(task)
        self.due.pop(task, None)
        self.states[task] = TaskState.DONE
        self.results[task] = commit.address
        self._event(now, "done", task, worker)
        for child, bit, start, n_bits, _, priority in record.edges:
            if bit not in self.bits:
                self.bits.add(bit)
                self.n_set[start] = self.n_set.get(start, 0) + 1
            if self.n_set[start] == n_bits and self.states[child] is TaskState.WAITING:
                self._ready(child, now)
                made_ready.append((priority, str(child), child))
        self.unsettled -= self.waits_for_all or record.is_sink
        return True

    def _ready(self, task: int, now: float) -> None:
        record = self.records[task]
        self.states[task] = TaskState.READY
        self.ready_at[task] = now
        self.roster.push(task, record.queue, record.priority)

    def _route(self, fresh: str) -> None:
        asked, self.serial = self.roster.route(fresh, self.serial)
        for member in asked:
            self._hint(self.roster.kind(member), self.roster.name(member))

    def _hint(self, kind: str, hint: str) -> None:
        (self.kind_hints.setdefault(kind, []) if kind else self.hints).append(hint)

    def _promote(self, now: float) -> None:
        """Back-offs that ended: the tasks are ready."""
        if not self.due:
            return
        for task in sorted(
            (t for t, at in self.due.items() if at <= now), key=lambda t: (self.due[t], str(t))
        ):
            del self.due[task]
            self._ready(task, now)

    def _leave_running(self, task: int) -> str:
        """The task has no owner any more. Returns the worker it ran on, '' if it did not run."""
        owner = self.owner.pop(task, None)
        if owner is None:
            return ""
        self.running[owner].remove(task)
        return self._worker_of(owner)

    def _charge(
        self, task: int, charge: Charge, error: str, delay_s: float | None, worker: str, now: float
    ) -> None:
        """End an attempt: note the error, then back off, go back to ready, or fail for good."""
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
        if delay_s > 0:
            self.states[task] = TaskState.RETRYING
            self.due[task] = now + delay_s
        else:
            self._ready(task, now)

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

    def _skip_below(self, task: int, now: float) -> None:
        """Everything that would need a failed task is skipped."""
        stack = [task]
        while stack:
            for child, *_ in self.records[stack.pop()].edges:
                if self.states[child] is TaskState.WAITING:
                    self._skip(child, now)
                    stack.append(child)

    def _skip(self, task: int, now: float) -> None:
        # Only a run that goes on after failures skips tasks, and it counts all of them.
        self.states[task] = TaskState.SKIPPED
        self.unsettled -= 1
        self._event(now, "skip", task, "")

    def _is_gone(self, task: int) -> bool:
        """Whether a task has no readable result: not done, or done and the bytes are gone."""
        return self.states[task] is not TaskState.DONE or not self.has_blob(
            task, self.results[task]
        )

    def _uncomplete(self, tasks: Sequence[int], now: float) -> None:
        """Done tasks whose bytes are gone wait again, and their inputs too, as far as those are gone."""
        undone = []
        stack = [task for task in tasks if self.states[task] is TaskState.DONE]
        while stack:
            task = stack.pop()
            if self.states[task] is not TaskState.DONE:
                continue
            self.states[task] = TaskState.WAITING
            del self.results[task]
            self.unsettled += self.waits_for_all or self.records[task].is_sink
            for _, bit, start, *_ in self.records[task].edges:
                self.bits.discard(bit)
                self.n_set[start] -= 1
            self._event(now, "lost", task, "")
            undone.append(task)
            stack.extend(
                u
                for u in self.records[task].upstream
                if self.states[u] is TaskState.DONE and self._is_gone(u)
            )
        for task in undone:
            self._ready_or_skip(task, now)

    def _ready_or_skip(self, task: int, now: float) -> None:
        """A task that waits again: ready if all its inputs are there, skipped if one of them failed meanwhile."""
        if self.states[task] is not TaskState.WAITING:
            return
        upstream = [self.states[u] for u in self.records[task].upstream]
        if TaskState.FAILED in upstream or TaskState.SKIPPED in upstream:
            self._skip(task, now)
            self._skip_below(task, now)
        elif all(state is TaskState.DONE for state in upstream):
            self._ready(task, now)

    def _finish_if_sound(self, now: float) -> None:
        """All that the run waits for is settled: it is over, unless the bytes of a sink have gone."""
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

    def _finish(self, state: RunState, reason: str, now: float) -> None:
        self.state, self.reason, self.finished_at = state, reason, now
        self.states = [TaskState.CANCELLED if s in _OPEN else s for s in self.states]
        for instance in self.leases:
            self._hint(self.roster.kinds.get(instance, ""), "stop")
        self.roster.clear()
        self.due.clear()
        self.owner.clear()
        self.running.clear()
        self._event(now, "end", -1, state)

    def _worker_of(self, instance: str) -> str:
        member = self.roster.held.get(instance)
        return self.roster.name(member) if member is not None else ""

    def _event(self, now: float, kind: str, task: int, worker: str) -> None:
        self.events.append(Event(now, kind, task, worker))
