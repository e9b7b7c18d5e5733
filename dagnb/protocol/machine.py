"""The protocol as an executable, pure state machine of one run.

It is the memory store's heart, the simulator's coordinator, the model the tests explore exhaustively, and the
reference the Redis scripts are compared with, step by step. Each public method is one atomic step: it takes the
moment `now` and returns what to tell the caller. Repeating a step changes nothing (idempotent by state).

Rules that hold at the end of every step:
1. A task starts only when every upstream task is done: one bit an edge, never a counter.
2. The first commit of a task wins; later ones are thrown away.
3. A ready task has an invoked or active member on its queue, as far as the cap allows; a running task has an owner.
4. A final state never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dagnb.protocol.messages import (
    Address,
    Charge,
    Commit,
    Death,
    Event,
    Failure,
    Input,
    Offer,
    Record,
    Reply,
    RunState,
    Status,
    Submission,
    TaskState,
)
from dagnb.protocol.roster import Member, Roster

HasBlob = Callable[[int, Address], bool]
"""Whether the store still holds the result of this task at this address"""

_OPEN = (TaskState.WAITING, TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)


class Machine:
    """One run. `fresh` is a random text of the caller, unique to the call; nonces are made of it."""

    def __init__(self, submission: Submission, now: float, fresh: str, has_blob: HasBlob) -> None:
        """The step `submit`: sources are ready, members are asked for."""
        self.submission = submission
        self.records = [Record.unpack(packed) for packed in submission.records]
        self.has_blob = has_blob
        self.state = RunState.RUNNING
        self.reason = ""
        self.submitted_at, self.finished_at = now, 0.0
        self.deadline_at = now + submission.deadline_s if submission.deadline_s is not None else None
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
        self.unsettled = len(set(submission.sinks))
        self.roster = Roster(submission.queues)
        self.serial = 0
        self.events: list[Event] = []
        self.hints: list[str] = []
        self.discarded: list[tuple[int, Address]] = []
        for source in submission.sources:
            self._ready(source, now)
        self._route(fresh)

    # ---- steps of instances -------------------------------------------------------------------------------------

    def register(
        self,
        instance: str,
        *,
        now: float,
        fresh: str,
        lease_s: float,
        want: int = 1,
        worker: tuple[str, str] | None = None,
    ) -> Reply:
        """An instance is here and wants work; `worker` = (name, nonce) when it was started for one worker only."""
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        if worker is not None and instance not in self.roster.held:
            member = self._invoked_as(worker)
            if member is None:
                return Reply(status=Status.REFUSED, now=now)
            self._adopt(instance, member, now)
        self.leases[instance] = now + lease_s
        self._promote(now)
        return self._next(instance, want, [], now, fresh)

    def complete(self, instance: str, commits: Sequence[Commit], *, now: float, fresh: str, want: int = 1) -> Reply:
        """Commit results and take the next tasks. Without commits it is `pull`."""
        if self._is_over(now):
            self.discarded.extend((c.task, c.address) for c in commits if self.results.get(c.task) != c.address)
            return Reply(status=Status.STOP, now=now)
        made_ready: list[tuple[int, str, int]] = []
        missing = tuple(c.task for c in commits if not self._commit(c, now, made_ready))
        if self.unsettled == 0:
            self._finish_if_sound(now)
        if missing:
            self._route(fresh)
            return Reply(status=Status.NO_BLOB, worker=self._worker_of(instance), missing=missing, now=now)
        self._promote(now)
        return self._next(instance, want, sorted(made_ready), now, fresh)

    def fail(self, instance: str, failure: Failure, *, now: float, fresh: str, want: int = 1) -> Reply:
        """An attempt raised: retry after its delay while the user's retries last, else the task failed. Then pull."""
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        task = failure.task
        mine = self.states[task] is TaskState.RUNNING and self.owner[task] == instance
        if mine and failure.attempt == self.attempt(task):
            self._leave_running(task)
            self._charge(task, Charge.EXCEPTION, failure.error, failure.delay_s, self._worker_of(instance), now)
        self._promote(now)
        return self._next(instance, want, [], now, fresh)

    def lost(self, instance: str, task: int, missing: Sequence[int], *, now: float, fresh: str, want: int = 1) -> Reply:
        """Inputs of a running task are gone: compute them again, as far back as needed; the task waits. Then pull."""
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        if self.states[task] is TaskState.RUNNING and self.owner[task] == instance:
            gone = [u for u in missing if u in self.records[task].upstream and self._is_gone(u)]
            if gone:
                self._leave_running(task)
                self.states[task] = TaskState.WAITING
                self._event(now, "lost", task, self._worker_of(instance))
                self._uncomplete(gone, now)
                self._ready_or_skip(task, now)
                if self.unsettled == 0:
                    self._finish_if_sound(now)
        return self._next(instance, want, [], now, fresh)

    # ---- steps of supervisors, agents, clients ------------------------------------------------------------------

    def heartbeat(self, instances: Sequence[str], *, now: float, fresh: str, lease_s: float) -> dict[str, Status]:
        """Renew leases, start what is due, take work back from whoever let a lease run out."""
        if self._is_over(now):
            return dict.fromkeys(instances, Status.STOP)
        pulses = {}
        for instance in instances:
            known = instance in self.leases
            if known:
                self.leases[instance] = now + lease_s
            pulses[instance] = Status.TASKS if known else Status.FENCED
        self.reap(now=now, fresh=fresh)
        return pulses

    def reap(self, *, now: float, fresh: str) -> int:
        """Take work back from expired instances, promote what is due. Returns how many instances were expired."""
        if self._is_over(now):
            return 0
        expired = sorted((until, instance) for instance, until in self.leases.items() if until < now)
        for _, instance in expired:
            worker = self._worker_of(instance)
            for task in self._drop(instance, now):
                error = '{"type": "LeaseLost", "message": "the worker was not heard of in time"}'
                self._charge(task, Charge.LOSS, error, 0.0, worker, now)
        self._promote(now)
        self._route(fresh)
        return len(expired)

    def dead(self, death: Death, *, now: float, fresh: str) -> bool:
        """An instance died, with proof: its task is charged, all else it held goes back. False: known already."""
        if self._is_over(now) or death.instance not in self.leases:
            return False
        worker = self._worker_of(death.instance)
        for task in self._drop(death.instance, now):
            if self.state is not RunState.RUNNING:
                break
            if task == death.task:
                self._charge(task, death.charge, death.error, death.delay_s, worker, now)
            else:
                self._ready(task, now)
        self._route(fresh)
        return True

    def cancel(self, reason: str, *, now: float) -> bool:
        """End the run. False: it was over."""
        if self._is_over(now):
            return False
        self._finish(RunState.CANCELLED, reason, now)
        return True

    # ---- reading ------------------------------------------------------------------------------------------------

    def attempt(self, task: int) -> int:
        """Number of the present attempt, from 1."""
        return 1 + sum(self.spent.get(task, {}).values())

    def next_due(self) -> float | None:
        """The moment the next back-off ends, if a task is backing off."""
        return min(self.due.values(), default=None)

    # ---- parts of steps -----------------------------------------------------------------------------------------

    def _is_over(self, now: float) -> bool:
        if self.state is RunState.RUNNING and self.deadline_at is not None and now >= self.deadline_at:
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
        self.unsettled -= record.is_sink
        return True

    def _next(self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float, fresh: str) -> Reply:
        """What the instance does next: its own running tasks again, or new ones, of this worker or of another."""
        if self.state is not RunState.RUNNING:
            return Reply(status=Status.STOP, now=now)
        if instance not in self.leases:
            self._route(fresh)
            return Reply(status=Status.FENCED, now=now)
        tasks = self.running.get(instance) or self._take(instance, want, prefer, now)
        if not tasks and self.roster.touched:  # what this step made ready on other queues
            self._route(fresh)
            tasks = self._take(instance, want, prefer, now)
        self._route(fresh)
        if not tasks:
            return Reply(status=Status.IDLE, now=now)
        offers = tuple(self._offer(task) for task in tasks)
        return Reply(status=Status.TASKS, worker=self._worker_of(instance), offers=offers, now=now)

    def _take(self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float) -> list[int]:
        """New tasks; a worker without any is left in the same step, and another one adopted."""
        while True:
            member = self.roster.held.get(instance)
            if member is None:
                member = self.roster.adopt(instance)
                if member is None:
                    return []
                self._event(now, "worker", -1, self.roster.name(member))
            tasks = self.roster.take(member[0], want, prefer)
            if tasks:
                break
            self.roster.release(instance)
        for task in tasks:
            self.states[task] = TaskState.RUNNING
            self.owner[task] = instance
            self._event(now, "start", task, self.roster.name(member))
        self.running[instance] = list(tasks)
        return tasks

    def _adopt(self, instance: str, member: Member, now: float) -> None:
        self.roster.adopt(instance, member)
        self._event(now, "worker", -1, self.roster.name(member))

    def _invoked_as(self, worker: tuple[str, str]) -> Member | None:
        for member, (_, nonce) in self.roster.invoked.items():
            if (self.roster.name(member), nonce) == worker:
                return member
        return None

    def _offer(self, task: int) -> Offer:
        inputs = tuple(Input(u, self.results[u]) for u in self.records[task].upstream if u in self.results)
        return Offer(
            task=task,
            attempt=self.attempt(task),
            record=self.submission.records[task],
            inputs=inputs,
            ready_at=self.ready_at.get(task, 0.0),
        )

    def _ready(self, task: int, now: float) -> None:
        record = self.records[task]
        self.states[task] = TaskState.READY
        self.ready_at[task] = now
        self.roster.push(task, record.queue, record.priority)

    def _route(self, fresh: str) -> None:
        asked, self.serial = self.roster.route(fresh, self.serial)
        self.hints.extend(self.roster.name(member) for member in asked)

    def _promote(self, now: float) -> None:
        """Back-offs that ended: the tasks are ready."""
        for task in sorted((t for t, at in self.due.items() if at <= now), key=lambda t: (self.due[t], str(t))):
            del self.due[task]
            self._ready(task, now)

    def _leave_running(self, task: int) -> str:
        """The task has no owner any more. Returns the worker it ran on, '' if it did not run."""
        owner = self.owner.pop(task, None)
        if owner is None:
            return ""
        self.running[owner].remove(task)
        return self._worker_of(owner)

    def _drop(self, instance: str, now: float) -> list[int]:
        """Forget an instance; its worker is free. Returns the tasks it was running."""
        tasks = list(self.running.pop(instance, ()))
        for task in tasks:
            del self.owner[task]
        member = self.roster.release(instance)
        if member is not None:
            self.roster.touched.add(member[0])
        self.leases.pop(instance, None)
        return tasks

    def _charge(self, task: int, charge: Charge, error: str, delay_s: float | None, worker: str, now: float) -> None:
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
        self.unsettled -= self.records[task].is_sink
        self._event(now, "fail", task, worker)
        if self.submission.on_error == "fail":
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
        self.states[task] = TaskState.SKIPPED
        self.unsettled -= self.records[task].is_sink
        self._event(now, "skip", task, "")

    def _is_gone(self, task: int) -> bool:
        """Whether a task has no readable result: not done, or done and the bytes are gone."""
        return self.states[task] is not TaskState.DONE or not self.has_blob(task, self.results[task])

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
            self.unsettled += self.records[task].is_sink
            for _, bit, start, *_ in self.records[task].edges:
                self.bits.discard(bit)
                self.n_set[start] -= 1
            self._event(now, "lost", task, "")
            undone.append(task)
            stack.extend(
                u for u in self.records[task].upstream if self.states[u] is TaskState.DONE and self._is_gone(u)
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
        """All sinks are settled: the run is over, unless the bytes of a sink have gone."""
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
        self.roster.clear()
        self.due.clear()
        self.owner.clear()
        self.running.clear()
        self.hints.extend("stop" for _ in self.leases)
        self._event(now, "end", -1, state)

    def _worker_of(self, instance: str) -> str:
        member = self.roster.held.get(instance)
        return self.roster.name(member) if member is not None else ""

    def _event(self, now: float, kind: str, task: int, worker: str) -> None:
        self.events.append(Event(now, kind, task, worker))
