"""The steps of the protocol: an executable, pure state machine of one run.

The memory store and the simulator run it, the tests explore it exhaustively, and the Redis scripts
are compared with it, step by step.
states.py has the theory: states, transitions, and what holds after every step.

A step is atomic. It gets the time as `now`, does no I/O, and returns the reply to the caller.
Every step has the same shape:

    is the run over?  ->  the act itself  ->  promote  ->  route  ->  reply
                                              |            |
          back-offs that ended become ready --+            +-- ask for workers where work waits

and every step may be repeated, because a reply may be lost on its way: a commit is recognised by
the state of its task, a failure by its attempt, a registration and a pull by the instance, which
gets its own running tasks once more.

The twin of this file is scripts/machine.lua: the same verbs in the same order.
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
"""The Redis scripts write the same text, letter for letter: LEASE_LOST in context.lua."""


class Machine(Tasks):
    """One run, and the steps that instances, supervisors and clients may take.

    Its constructor is the step `submit`. `Tasks` holds the state and its transitions; this class
    adds the verbs.
    """

    # ---- replies --------------------------------------------------------------------------------

    def _offer(self, task: int) -> Offer:
        results = self.results
        # An input that is gone is left out: the worker reports it, and it is computed again.
        inputs = [Input(u, results[u]) for u in self.records[task].upstream if u in results]
        # A simulation submits no packed records: its workers hold the DAG.
        packed = self.submission.records
        return Offer(
            task=task,
            attempt=self.attempt(task),
            record=packed[task] if packed else None,
            inputs=tuple(inputs),
            ready_at=self.ready_at.get(task, 0.0),
        )

    def _take_work(
        self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float
    ) -> list[int]:
        """Take new tasks. A worker without any is left in the same step, and another adopted."""
        while True:
            member = self.roster.held.get(instance)
            if member is None:
                member = self.roster.adopt(instance)
                if member is None:
                    return []
                self._event(now, "worker", -1, self.roster.name(member))
            tasks = self._taken(member[0], want, prefer)
            if tasks:
                break
            self.roster.release(instance)
        for task in tasks:
            self._start(instance, task, now)
        self.running[instance] = tasks
        return tasks

    def _take_readers(self, instance: str, most: int, now: float) -> None:
        """Take the readers of tasks that are run together with them, up to `most` tasks in all.

        A reader comes right behind the last input that is missing. No other instance could begin it
        earlier. After a charge a task is run alone, see `_taken`.
        """
        tasks = self.running[instance]
        n_missing: dict[int, int] = {}
        for position, task in enumerate(tasks, 1):  # the list grows: readers of readers come, too
            if len(tasks) >= most:
                break
            record = self.records[task]
            if not record.together or task in self.spent:
                continue
            reader, _, start, n_bits, *_ = record.edges[0]
            if self.states[reader] is not TaskState.WAITING or reader in self.spent:
                continue
            n_left = n_missing.get(reader, n_bits - self.n_set.get(start, 0)) - 1
            n_missing[reader] = n_left
            if n_left == 0:
                self._start_unqueued(instance, reader, now)
                tasks.insert(position, reader)

    def _taken(self, queue: int, want: int, prefer: list[tuple[int, str, int]]) -> list[int]:
        """Take tasks of a queue. One that was charged before is taken alone.

        If its process dies again, no other task is under suspicion.
        """
        tasks = self.roster.take(queue, want, prefer)
        n_together = len(tasks)
        for i, task in enumerate(tasks):
            if task in self.spent:
                n_together = max(i, 1)
                break
        for task in tasks[n_together:]:
            self.roster.push(task, queue, self.records[task].priority)
        return tasks[:n_together]

    def _next_work(
        self, instance: str, want: int, prefer: list[tuple[int, str, int]], now: float, fresh: str
    ) -> Reply:
        """End a step of an instance: decide what it does next.

        The reply offers its own running tasks again, or new tasks of its worker, or those of
        another worker.
        want: most tasks to offer. prefer: tasks that this step made ready, most urgent first.
        """
        if self.state is not RunState.RUNNING:
            return Reply(status=Status.STOP, now=now)
        if instance not in self.leases:
            # The tasks of this instance were taken back. Tasks that its commits made ready still
            # need workers.
            self._route(fresh)
            return Reply(status=Status.FENCED, now=now)
        tasks = self.running.get(instance) or self._take_work(instance, want, prefer, now)
        if not tasks and self.roster.touched:
            # This step made tasks ready on other queues: ask for their members, and be the first
            # to adopt one. Else a chain across workers would cost two round trips a hop.
            self._route(fresh)
            tasks = self._take_work(instance, want, prefer, now)
        self._route(fresh)
        if not tasks:
            return Reply(status=Status.IDLE, now=now)
        # As many again as were wanted, but none where tasks are so long that one is wanted.
        self._take_readers(instance, 2 * want - 1, now)
        offers = tuple(map(self._offer, self.running[instance]))
        return Reply(status=Status.TASKS, worker=self._worker_of(instance), offers=offers, now=now)

    # ---- steps of instances ---------------------------------------------------------------------

    def _invoked_as(self, worker: tuple[str, str], kind: str) -> Member | None:
        """Returns the member of this kind that was asked for by this name and nonce."""
        for member, (_, nonce) in self.roster.invoked.items():
            if (self.roster.name(member), nonce) == worker and self.roster.kind(member) == kind:
                return member
        return None

    def _adopt(self, instance: str, member: Member, now: float) -> None:
        self.roster.adopt(instance, member)
        self._event(now, "worker", -1, self.roster.name(member))

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
        """Give an instance a lease, and work.

        worker: (name, nonce) of the only worker that the instance was started for.
        kind: of the queues that the instance may staff, kept until its lease is gone.
        """
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        self.start_by = None
        if instance in self.leases:
            # Repeated with another kind, it must not be found on queues it may not staff.
            kind = self.roster.kinds.get(instance, "")
        if worker is not None and instance not in self.roster.held:
            # The nonce tells two invocations of one worker apart: the older one comes too late.
            member = self._invoked_as(worker, kind)
            if member is None:
                return Reply(status=Status.REFUSED, now=now)
            self._adopt(instance, member, now)
        if kind:
            self.roster.kinds[instance] = kind
        self.leases[instance] = now + lease_s
        self._promote(now)
        return self._next_work(instance, want, [], now, fresh)

    def complete(
        self, instance: str, commits: Sequence[Commit], *, now: float, fresh: str, want: int = 1
    ) -> Reply:
        """Commit results and take the next tasks. Without commits it is `pull`."""
        if self._is_over(now):
            # The bytes of a late result would stay for ever; a repeated one is the result itself.
            for commit in commits:
                if self.results.get(commit.task) != commit.address:
                    self.discarded.append((commit.task, commit.address))
            return Reply(status=Status.STOP, now=now)

        made_ready: list[tuple[int, str, int]] = []
        missing = [c.task for c in commits if not self._commit(instance, c, now, made_ready)]
        # Checked before the missing ones are reported: a sink among the others may have ended the
        # run.
        if self.unsettled == 0:
            self._finish_if_sound(now)
        if missing:
            self._route(fresh)
            worker = self._worker_of(instance)
            return Reply(status=Status.NO_BLOB, worker=worker, missing=tuple(missing), now=now)
        self._promote(now)
        return self._next_work(instance, want, sorted(made_ready), now, fresh)

    def fail(
        self, instance: str, failure: Failure, *, now: float, fresh: str, want: int = 1
    ) -> Reply:
        """Charge an attempt that raised, and take the next tasks.

        The task is tried again after its delay while the user's retries last; else it has failed.
        """
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        task = failure.task
        is_owner = self.states[task] is TaskState.RUNNING and self.owner[task] == instance
        # The attempt recognises a repetition: the same instance may run the task again by now.
        if is_owner and failure.attempt == self.attempt(task):
            self._leave_running(task)
            self._leave_without_inputs(instance, now)
            self._charge(
                task,
                Charge.EXCEPTION,
                failure.error,
                failure.delay_s,
                self._worker_of(instance),
                now,
            )
        self._promote(now)
        return self._next_work(instance, want, [], now, fresh)

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
        """Make a running task wait whose inputs are gone, have these computed again, and pull.

        missing: upstream tasks whose values the instance did not get. Those of them that the store
        still holds are no reason to wait.
        """
        if self._is_over(now):
            return Reply(status=Status.STOP, now=now)
        if self.states[task] is TaskState.RUNNING and self.owner[task] == instance:
            gone = [u for u in missing if u in self.records[task].upstream and self._is_gone(u)]
            # Otherwise the instance gets the task again, with its inputs: nothing is charged.
            if gone:
                self._leave_running(task)
                self.states[task] = TaskState.WAITING
                self._leave_without_inputs(instance, now)
                self._event(now, "lost", task, self._worker_of(instance))
                self._uncomplete(gone, now)
                self._ready_or_skip(task, now)
                # Skipped, it may have been the last one that the run waited for.
                if self.unsettled == 0:
                    self._finish_if_sound(now)
        return self._next_work(instance, want, [], now, fresh)

    # ---- steps of supervisors, agents, clients --------------------------------------------------

    def _drop(self, instance: str, now: float) -> list[int]:
        """Forget an instance; its worker is free. Returns the tasks it was running.

        The last one comes first, so that tasks which ran behind their inputs wait for them again
        before one of these may fail.
        """
        tasks = self.running.pop(instance, [])[::-1]
        for task in tasks:
            del self.owner[task]
        member = self.roster.release(instance)
        if member is not None:
            # Its queue has room for a member again, and ready tasks that waited for one.
            self.roster.touched.add(member[0])
        self.leases.pop(instance, None)
        self.roster.kinds.pop(instance, None)
        return tasks

    def reap(self, *, now: float, fresh: str) -> int:
        """Take work back from instances whose lease ran out. Returns their number.

        It also ends back-offs and asks for workers, so a caller who only looks keeps a run going.
        """
        if self._is_over(now):
            return 0
        # Sorted by the end of the lease, then by name, as in a sorted set of Redis.
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

    def heartbeat(
        self, instances: Sequence[str], *, now: float, fresh: str, lease_s: float
    ) -> dict[str, Status]:
        """Renew leases, then reap. Returns TASKS, FENCED or STOP for each instance."""
        if self._is_over(now):
            return dict.fromkeys(instances, Status.STOP)
        self.start_by = None
        pulses = dict.fromkeys(instances, Status.FENCED)
        for instance in instances:
            if instance in self.leases:
                self.leases[instance] = now + lease_s
                pulses[instance] = Status.TASKS
        # Reaping follows the renewals, so that an instance whose supervisor is late loses nothing.
        self.reap(now=now, fresh=fresh)
        return pulses

    def demand(self, *, now: float, fresh: str) -> Demand:
        """Reap; then return which instances are wanted and which are here, for their launcher."""
        self.take_part(now=now)
        self.reap(now=now, fresh=fresh)
        if self.state is not RunState.RUNNING:
            return Demand(state=self.state, wanted={}, instances={}, now=now)
        instances = {
            name: (self.roster.kinds.get(name, ""), self._worker_of(name)) for name in self.leases
        }
        return Demand(state=self.state, wanted=self.roster.wanted(), instances=instances, now=now)

    def dead(self, death: Death, *, now: float, fresh: str) -> bool:
        """Take back what an instance held that died, with proof.

        The task it ran is charged, or all of them (HELD); the others go back uncharged.
        Returns False when the death was known already.
        """
        # An instance without a lease was dropped before: a repeated report must not charge it
        # again.
        if self._is_over(now) or death.instance not in self.leases:
            return False
        worker = self._worker_of(death.instance)
        for task in self._drop(death.instance, now):
            # The charge before may have failed a task for good and ended the run.
            if self.state is not RunState.RUNNING:
                break
            if death.task in (task, HELD):
                self._charge(task, death.charge, death.error, death.delay_s, worker, now)
            else:
                self._again(task, now)
        self._route(fresh)
        return True

    def give_back(self, instance: str, task: int, attempt: int, *, now: float, fresh: str) -> int:
        """Make ready again what an instance took after a task that it still runs, uncharged.

        The task takes longer than was expected when its batch was taken; see protocol/worker.py.
        Returns the number of tasks, 0 when the instance does not run this attempt any more.
        """
        if self._is_over(now):
            return 0
        running = self.running.get(instance, [])
        if task not in running or attempt != self.attempt(task):
            return 0
        behind = running[running.index(task) + 1 :]
        for other in behind:
            self._leave_running(other)
            self._again(other, now)
        self._route(fresh)
        return len(behind)

    def cancel(self, reason: str, *, now: float) -> bool:
        """End the run. Returns False when it was over."""
        if self._is_over(now):
            return False
        self._finish(RunState.CANCELLED, reason, now)
        return True
