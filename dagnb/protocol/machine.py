"""The protocol as an executable, pure state machine of one run.

It is the memory store's heart, the simulator's coordinator, the model the tests explore exhaustively, and the
reference the Redis scripts are compared with, step by step. Each public method is one atomic step: it takes the
moment `now` and returns what to tell the caller. Repeating a step changes nothing (idempotent by state).

Rules that hold at the end of every step:
1. A task starts only when every upstream task is done: one bit an edge, never a counter.
2. The first commit of a task wins; later ones are thrown away.
3. A ready task has an invoked or active member on its queue, as far as the cap allows; a running task has an owner.
4. A final state never changes.
5. A run whose failures do not end it (`on_error="continue"`) skips a task if one that it needs failed or was skipped,
   and only then. It ends when every task is done, failed or skipped: also tasks whose only reader is skipped are run.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.failure import LEASE_LOST, TaskError
from dagnb.protocol.messages import (
    HELD,
    Charge,
    Commit,
    Death,
    Demand,
    Failure,
    Input,
    Offer,
    Reply,
    RunState,
    Status,
    TaskState,
)
from dagnb.protocol.roster import Member
from dagnb.protocol.tasks import HasBlob, Tasks

__all__ = ["HasBlob", "Machine"]

LEASE_LOST_JSON = TaskError(
    type=LEASE_LOST, message="the worker was not heard of in time"
).to_json()
"""The Redis scripts write the same text, letter for letter: LEASE_LOST in dagnb.lua."""


class Machine(Tasks):
    """One run, and the steps that instances, supervisors and clients may take. Made by the step `submit`."""

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
        kind: str = "",
    ) -> Reply:
        """An instance is here and wants work; `worker` = (name, nonce) when it was started for one worker only.

        kind: of the queues it may staff, kept until its lease is gone.
        """
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        self.start_by = None
        if instance in self.leases:
            kind = self.roster.kinds.get(instance, "")
        if worker is not None and instance not in self.roster.held:
            member = self._invoked_as(worker, kind)
            if member is None:
                return Reply(status=Status.REFUSED, now=now)
            self._adopt(instance, member, now)
        if kind:
            self.roster.kinds[instance] = kind
        self.leases[instance] = now + lease_s
        self._promote(now)
        return self._next(instance, want, [], now, fresh)

    def complete(
        self, instance: str, commits: Sequence[Commit], *, now: float, fresh: str, want: int = 1
    ) -> Reply:
        """Commit results and take the next tasks. Without commits it is `pull`."""
        if self._is_over(now):
            self.discarded.extend(
                (c.task, c.address) for c in commits if self.results.get(c.task) != c.address
            )
            return Reply(status=Status.STOP, now=now)
        made_ready: list[tuple[int, str, int]] = []
        missing = tuple(c.task for c in commits if not self._commit(c, now, made_ready))
        if self.unsettled == 0:
            self._finish_if_sound(now)
        if missing:
            self._route(fresh)
            return Reply(
                status=Status.NO_BLOB, worker=self._worker_of(instance), missing=missing, now=now
            )
        self._promote(now)
        return self._next(instance, want, sorted(made_ready), now, fresh)

    def fail(
        self, instance: str, failure: Failure, *, now: float, fresh: str, want: int = 1
    ) -> Reply:
        """An attempt raised: retry after its delay while the user's retries last, else the task failed. Then pull."""
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        task = failure.task
        mine = self.states[task] is TaskState.RUNNING and self.owner[task] == instance
        if mine and failure.attempt == self.attempt(task):
            self._leave_running(task)
            self._charge(
                task,
                Charge.EXCEPTION,
                failure.error,
                failure.delay_s,
                self._worker_of(instance),
                now,
            )
        self._promote(now)
        return self._next(instance, want, [], now, fresh)

    def lost(
        self,
        instance: str,
        task: int,
        missing: Sequence[int],
        *,
        now: float,
        fresh: str,
        want: int = 1,
    ) -> Reply:
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

    def heartbeat(
        self, instances: Sequence[str], *, now: float, fresh: str, lease_s: float
    ) -> dict[str, Status]:
        """Renew leases, start what is due, take work back from whoever let a lease run out."""
        if self._is_over(now):
            return dict.fromkeys(instances, Status.STOP)
        self.start_by = None
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
        expired = sorted(
            (until, instance) for instance, until in self.leases.items() if until < now
        )
        for _, instance in expired:
            worker = self._worker_of(instance)
            for task in self._drop(instance, now):
                self._charge(task, Charge.LOSS, LEASE_LOST_JSON, 0.0, worker, now)
        self._promote(now)
        self._route(fresh)
        return len(expired)

    def demand(self, *, now: float, fresh: str) -> Demand:
        """As reap; then which instances are wanted and which are here, for whoever starts them."""
        self.take_part(now=now)
        self.reap(now=now, fresh=fresh)
        if self.state is not RunState.RUNNING:
            return Demand(state=self.state, wanted={}, instances={}, now=now)
        instances = {
            name: (self.roster.kinds.get(name, ""), self._worker_of(name)) for name in self.leases
        }
        return Demand(state=self.state, wanted=self.roster.wanted(), instances=instances, now=now)

    def dead(self, death: Death, *, now: float, fresh: str) -> bool:
        """An instance died, with proof: its task, or all, is charged; what else it held goes back. False: known."""
        if self._is_over(now) or death.instance not in self.leases:
            return False
        worker = self._worker_of(death.instance)
        for task in self._drop(death.instance, now):
            if self.state is not RunState.RUNNING:
                break
            if death.task in (task, HELD):
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

    # ---- parts of steps: who does what next ---------------------------------------------------------------------

    def _next(
        self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float, fresh: str
    ) -> Reply:
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

    def _take(
        self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float
    ) -> list[int]:
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

    def _invoked_as(self, worker: tuple[str, str], kind: str) -> Member | None:
        for member, (_, nonce) in self.roster.invoked.items():
            if (self.roster.name(member), nonce) == worker and self.roster.kind(member) == kind:
                return member
        return None

    def _offer(self, task: int) -> Offer:
        inputs = tuple(
            Input(u, self.results[u]) for u in self.records[task].upstream if u in self.results
        )
        return Offer(
            task=task,
            attempt=self.attempt(task),
            record=self.submission.records[task] if self.submission.records else None,
            inputs=inputs,
            ready_at=self.ready_at.get(task, 0.0),
        )

    def _drop(self, instance: str, now: float) -> list[int]:
        """Forget an instance; its worker is free. Returns the tasks it was running."""
        tasks = list(self.running.pop(instance, ()))
        for task in tasks:
            del self.owner[task]
        member = self.roster.release(instance)
        if member is not None:
            self.roster.touched.add(member[0])
        self.leases.pop(instance, None)
        self.roster.kinds.pop(instance, None)
        return tasks
