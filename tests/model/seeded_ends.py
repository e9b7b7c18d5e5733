"""Seeded mutants of the ends of attempts, results and runs."""

from __future__ import annotations

from tests.model.mutants import in_machine

_STOP = """if self._is_over(now):
        return Reply(status=Status.STOP, now=now)"""
_FENCED = """if instance not in self.leases:
        # The tasks of this instance were taken back. Tasks that its commits made ready still
        # need workers.
        self._route(fresh)
        return Reply(status=Status.FENCED, now=now)"""
_IS_OWNER = "if is_owner and failure.attempt == self.attempt(task):"

ENDS = (
    in_machine(
        "a repeated failure counts again",
        "two tasks apart: late repetition, exception",
        "I11 repetition",
        ("fail", _IS_OWNER, "if is_owner:"),
    ),
    in_machine(
        "anybody may fail a task",
        "chain-2: zombie and back-off",
        "I7 budgets",
        ("fail", " and self.owner[task] == instance", ""),
    ),
    in_machine(
        "a failure leaves the task with its owner",
        "two tasks apart: late repetition, exception",
        "I9 owner",
        ("fail", "self._leave_running(task)", "pass"),
    ),
    in_machine(
        "exceptions are not counted",
        "two tasks apart: late repetition, exception",
        "I7 budgets",
        ("_charge", "spent[charge] += 1", "spent[charge] += charge is not Charge.EXCEPTION"),
    ),
    in_machine(
        "crashes are not counted",
        "one: 2 crashes, stored apart",
        "I7 budgets",
        ("_charge", "spent[charge] += 1", "spent[charge] += charge is not Charge.CRASH"),
    ),
    in_machine(
        "one attempt too many",
        "one: 2 crashes, stored apart",
        "I7 budgets",
        ("_charge", "spent[charge] > budgets[charge]", "spent[charge] > budgets[charge] + 1"),
    ),
    in_machine(
        "no error is noted",
        "chain-2, both sinks: lost blob, suspicion",
        "I8 cause",
        ("_charge", "self.errors[task, self.attempt(task)] = error", "pass"),
    ),
    in_machine(
        "`do not retry` is not heard",
        "one: exception, suspicion, cancel",
        "I7 budgets",
        ("_charge", "delay_s is None or ", ""),
        ("_charge", "if delay_s > 0", "if (delay_s or 0) > 0"),
    ),
    in_machine(
        "a death charges whatever the instance held",
        "one: 2 crashes, stored apart",
        "I7 budgets",
        ("dead", "death.task in (task, HELD)", "True"),
    ),
    in_machine(
        "a death charges nothing",
        "one: 2 crashes, stored apart",
        "I7 budgets",
        ("dead", "death.task in (task, HELD)", "False"),
    ),
    in_machine(
        "a death takes only the charged task back",
        "one: 2 crashes, stored apart",
        "I9 owner",
        ("dead", "self._again(task, now)", "pass"),
    ),
    in_machine(
        "a known death counts again",
        "one: 2 crashes, stored apart",
        "I11 repetition",
        ("dead", "or death.instance not in self.leases", ""),
    ),
    in_machine(
        "a back-off never ends",
        "chain-2: zombie and back-off",
        "liveness",
        ("_promote", "if at <= now", "if False"),
    ),
    in_machine(
        "a back-off does not wait",
        "chain-2: zombie and back-off",
        "I7 budgets",
        ("_promote", "if at <= now", "if True"),
    ),
    in_machine(
        "a back-off ends twice",
        "chain-2: zombie and back-off",
        "I9 owner",
        ("_promote", "del self.due[task]", "pass"),
    ),
    in_machine(
        "lost: the caller is believed",
        "fan-out: exceptions, lost blob, go on",
        "I2 overwritten",
        ("lost", " and self._is_gone(u)", ""),
    ),
    in_machine(
        "lost: by anybody",
        "chain-2: zombie and back-off",
        "I9 owner",
        ("lost", " and self.owner[task] == instance", ""),
    ),
    in_machine(
        "lost: the task stays with its owner",
        "chain-2, both sinks: lost blob, suspicion",
        "I9 owner",
        ("lost", "self._leave_running(task)", "pass"),
    ),
    in_machine(
        "lost: the input is not computed again",
        "chain-2, both sinks: lost blob, suspicion",
        "liveness",
        ("lost", "self._uncomplete(gone, now)", "pass"),
    ),
    in_machine(
        "lost: inputs of the input are not looked at",
        "chain-3: 2 lost blobs",
        "",
        ("_uncomplete", "stack.extend(", "(lambda gone: None)("),
        survives="the instance that computes the input again reports what it misses: "
        "one more round a level, the same end",
    ),
    in_machine(
        "lost: the bits stay",
        "chain-2, both sinks: lost blob, suspicion",
        "I4 edges",
        ("_uncomplete", "self.bits.discard(edge[1])", "pass"),
        ("_uncomplete", "self.n_set[edge[2]] -= 1", "pass"),
    ),
    in_machine(
        "lost: the sink still counts as settled",
        "chain-2, both sinks: lost blob, suspicion",
        "I8 cause",
        (
            "_uncomplete",
            "self.unsettled += self.waits_for_all or self.records[task].is_sink",
            "pass",
        ),
    ),
    in_machine(
        "lost: who needs a failed task waits for it",
        "fan-out: exceptions, lost blob, go on",
        "I3 wake-up",
        (
            "_ready_or_skip",
            "if TaskState.FAILED in upstream or TaskState.SKIPPED in upstream:",
            "if False:",
        ),
    ),
    in_machine(
        "lost: the last skipped sink does not end the run",
        "fan-out: exceptions, lost blob, go on",
        "I8 awaited",
        ("lost", "if self.unsettled == 0:", "if False:"),
    ),
    in_machine(
        "no last look at the results",
        "chain-2, both sinks: lost blob, suspicion",
        "I5 result",
        ("_finish_if_sound", "if not gone:", "if True:"),
    ),
    in_machine(
        "the end is not noticed",
        "chain-3: 2 lost blobs",
        "I8 awaited",
        ("complete", "if self.unsettled == 0:", "if False:"),
    ),
    in_machine(
        "a failed sink is not settled",
        "fan-out: exceptions, lost blob, go on",
        "I8 awaited",
        (
            "_fail_for_good",
            "self.unsettled -= self.waits_for_all or self.records[task].is_sink",
            "pass",
        ),
    ),
    in_machine(
        "a skipped sink is not settled",
        "fan-out: exceptions, lost blob, go on",
        "I8 awaited",
        ("_skip", "self.unsettled -= 1", "pass"),
    ),
    in_machine(
        "a run that goes on ends when its sinks are settled",
        "fan-in: exception, suspicion, go on",
        "I16 going on",
        (
            "_fail_for_good",
            "if self.unsettled == 0:",
            "if not any(self.states[sink] in _OPEN for sink in self.submission.sinks):",
        ),
    ),
    in_machine(
        "waiting tasks that nobody needs any more are pruned",
        "two branches meet: exception, go on",
        "I8 cause",
        (
            "_skip",
            "self.unsettled -= 1",
            """self.unsettled -= 1
    for u in self.records[task].upstream:
        if self.states[u] is TaskState.WAITING:
            self._skip(u, now)""",
        ),
    ),
    in_machine(
        "ready tasks that nobody needs any more are pruned",
        "fan-in: exception, suspicion, go on",
        "I16 going on",
        (
            "_skip",
            "self.unsettled -= 1",
            """self.unsettled -= 1
    for u in self.records[task].upstream:
        if self.states[u] is TaskState.READY:
            self.roster.withdraw(u, self.records[u].queue, self.records[u].priority)
            self._skip(u, now)""",
        ),
    ),
    in_machine(
        "a done task that nobody asked for is waited for",
        "fan-in: exception, suspicion, go on",
        "I8 awaited",
        ("_commit", "self.waits_for_all or ", ""),
    ),
    in_machine(
        "a failed task that nobody asked for is waited for",
        "fan-in: exception, suspicion, go on",
        "I8 awaited",
        ("_fail_for_good", "self.waits_for_all or ", ""),
    ),
    in_machine(
        "a task computed again is counted once",
        "fan-out: exceptions, lost blob, go on",
        "I8 awaited",
        ("_uncomplete", "self.waits_for_all or ", ""),
    ),
    in_machine(
        "only direct downstream tasks are skipped",
        "fan-out with a tail: exception, lost blob, go on",
        "I3 wake-up",
        ("_skip_below", "stack.append(child)", "pass"),
    ),
    in_machine(
        "nobody is skipped",
        "fan-out: exceptions, lost blob, go on",
        "I3 wake-up",
        ("_fail_for_good", "self._skip_below(task, now)", "pass"),
    ),
    in_machine(
        "failure is called success",
        "fan-out: exceptions, lost blob, go on",
        "I5 result",
        (
            "_finish_if_sound",
            "for s in sinks):\n        self._finish(RunState.FAILED",
            "for s in sinks):\n        self._finish(RunState.OK",
        ),
    ),
    in_machine(
        "open tasks stay open at the end",
        "chain-2: crash, lost reply",
        "I6 terminal",
        ("_finish", "if task_state in _OPEN", "if task_state is TaskState.READY"),
    ),
    in_machine(
        "queues keep their tasks at the end",
        "fan-out: hints, one instance too many",
        "I6 terminal",
        ("_finish", "self.roster.clear()", "pass"),
    ),
    in_machine(
        "register after the end",
        "fan-in: pinned, started for a worker",
        "I6 terminal",
        ("register", _STOP, ""),
    ),
    in_machine("fail after the end", "one: crash, deadline", "I7 budgets", ("fail", _STOP, "")),
    in_machine(
        "cancel after the end",
        "chain-3: 2 lost blobs",
        "I6 terminal",
        ("cancel", "if self._is_over(now):\n        return False", ""),
    ),
    in_machine(
        "the deadline is not looked at",
        "one: crash, deadline",
        "I7 budgets",
        ("_is_over", "now >= deadline_at", "False"),
    ),
    in_machine(
        "who registers does not take part",
        "one: nobody starts it in time, crash, lost reply",
        "I8 cause",
        ("register", "self.start_by = None", "pass"),
    ),
    in_machine(
        "a fenced instance gets work",
        "chain-2, both sinks: lost blob, suspicion",
        "I12 reply",
        ("_next_work", _FENCED, ""),
    ),
    in_machine(
        "a call renews a lease that was taken",
        "chain-2, both sinks: lost blob, suspicion",
        "I12 reply",
        ("_next_work", _FENCED, "if instance not in self.leases: self.leases[instance] = now + 1"),
    ),
    in_machine(
        "a repeated register gives a second task",
        "chain-3: 2 lost blobs",
        "I11 repetition",
        ("_next_work", "self.running.get(instance) or ", ""),
    ),
    in_machine(
        "anybody is let in for a worker",
        "fan-in: pinned, started for a worker",
        "I12 reply",
        (
            "register",
            "member = self._invoked_as(worker, kind)",
            "member = self._invoked_as(worker, kind) or min(self.roster.invoked, default=None)",
        ),
    ),
    in_machine(
        "nobody is asked for",
        "chain-3: 2 lost blobs",
        "I3 wake-up",
        ("_next_work", "self._route(fresh)\n    if not tasks", "if not tasks"),
    ),
    in_machine(
        "nobody is told that he is asked for",
        "diamond: mixed, hints",
        "I13 hints",
        ("_route", "self._hint(self.roster.kind(member), self.roster.name(member))", "pass"),
    ),
)
