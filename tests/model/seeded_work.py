"""Seeded mutants of the ways in which work is committed, given and taken back."""

from __future__ import annotations

from tests.model.mutants import in_machine, in_roster

_BIT = """if bit not in self.bits:
            self.bits.add(bit)
            self.n_set[start] = self.n_set.get(start, 0) + 1"""
_COUNT = """self.bits.add(bit)
        self.n_set[start] = self.n_set.get(start, 0) + 1"""
_CLOSED = """if self.states[task] not in _OPEN:
        # The first commit won. The same one again is a repetition, and its bytes are in use.
        if self.results.get(task) != commit.address:
            self.discarded.append((task, commit.address))
        return True"""
_EMPTY = """if tasks:
            break
        self.roster.release(instance)"""
_TOUCH = """if member is not None:
        # Its queue has room for a member again, and ready tasks that waited for one.
        self.roster.touched.add(member[0])"""

_LEAVE = "if not self.running.get(instance): self.roster.release(instance)"
_STAY = """if tasks:
            break
        return []"""

WORK = (
    in_machine(
        "a task that was charged is batched with others",
        "two tasks apart: batches of 2, crash",
        "I17 alone",
        ("_taken", "if task in self.spent", "if False"),
    ),
    in_machine(
        "the slow task is given back with the rest",
        "two tasks apart: batches of 2, crash",
        "I16 give back",
        ("give_back", "running.index(task) + 1 :", "running.index(task) :"),
    ),
    in_machine(
        "a report of an earlier attempt gives back",
        "two tasks apart: batches of 2, crash",
        "I16 give back",
        ("give_back", " or attempt != self.attempt(task)", ""),
    ),
    in_machine(
        "what is given back keeps its owner",
        "two tasks apart: batches of 2, crash",
        "I16 give back",
        ("give_back", "self._leave_running(other)", "pass"),
    ),
    in_machine(
        "nobody is asked for what is given back",
        "two tasks apart: batches of 2, crash",
        "I3 wake-up",
        ("give_back", "self._route(fresh)", "pass"),
    ),
    in_machine(
        "a counter, and no guard against a second commit",
        "diamond: mixed, hints",
        "I11 repetition",
        ("_commit", _BIT, _COUNT),
        ("_commit", _CLOSED, ""),
    ),
    in_machine(
        "a counter behind that guard",
        "diamond: mixed, hints",
        "",
        ("_commit", _BIT, _COUNT),
        survives="a done task is not committed twice and a lost one takes its count back: "
        "the bit is a second defence",
    ),
    in_machine(
        "a counter that is not reset by a loss",
        "chain-2, both sinks: lost blob, suspicion",
        "I4 edges",
        ("_uncomplete", "self.n_set[edge[2]] -= 1", "pass"),
    ),
    in_machine(
        "the last writer wins",
        "fan-out: hints, one instance too many",
        "I11 repetition",
        ("_commit", _CLOSED, ""),
    ),
    in_machine(
        "commit without asking for the bytes",
        "chain-2: lost blob, stored apart",
        "I5 result",
        ("_commit", "not self.has_blob(task, commit.address)", "False"),
    ),
    in_machine(
        "no guard by the child's state",
        "chain-2, both sinks: lost blob, suspicion",
        "I4 edges",
        ("_commit", " and self.states[child] is TaskState.WAITING", ""),
    ),
    in_machine(
        "a child starts with its first input",
        "diamond: mixed, hints",
        "I1 inputs",
        ("_commit", "self.n_set[start] == n_bits", "self.n_set[start] > 0"),
    ),
    in_machine(
        "a task committed while it is ready stays in its queue",
        "chain-2, both sinks: lost blob, suspicion",
        "I3 wake-up",
        ("_commit", "is TaskState.READY", "is TaskState.FAILED"),
    ),
    in_machine(
        "a commit during a back-off leaves it running",
        "chain-2: zombie and back-off",
        "I9 owner",
        ("_commit", "self.due.pop(task, None)", "pass"),
    ),
    in_machine(
        "a commit by a zombie leaves the task with its owner",
        "chain-3: 2 lost blobs",
        "I9 owner",
        ("_commit", "self._leave_running(task)", '""'),
    ),
    in_machine(
        "a refused result is not thrown away",
        "two tasks apart: batches of 2, crash",
        "I10 bytes",
        ("_commit", "self.discarded.append((task, commit.address))", "pass"),
    ),
    in_machine(
        "results that come after the end are not thrown away",
        "chain-2, both sinks: lost blob, suspicion",
        "I10 bytes",
        ("complete", "if self.results.get(commit.task) != commit.address", "if False"),
    ),
    in_machine(
        "a repeated commit throws its own result away",
        "chain-3: 2 lost blobs",
        "I11 repetition",
        ("_commit", "if self.results.get(task) != commit.address:", "if True:"),
    ),
    in_machine(
        "a worker without tasks is not left",
        "a on w0, b on w1, c on w0: hints",
        "I3 wake-up",
        ("_take_work", _EMPTY, _STAY),
    ),
    in_machine(
        "a worker is left in two steps",
        "a on w0, b on w1, c on w0: hints",
        "I3 wake-up",
        ("_take_work", _EMPTY, _STAY),
        (
            "register",
            "self._promote(now)",
            f"self._promote(now)\n    {_LEAVE}",
        ),
    ),
    in_machine(
        "work taken back asks nobody",
        "chain-2, both sinks: lost blob, suspicion",
        "I3 wake-up",
        ("reap", "self._route(fresh)", "self.roster.touched.clear()"),
    ),
    in_machine(
        "a freed worker's queue is not looked at",
        "a on w0, b on w1, c on w0: crash, suspicion",
        "I3 wake-up",
        ("_drop", _TOUCH, ""),
    ),
    in_machine(
        "the reaper forgets the tasks",
        "chain-2, both sinks: lost blob, suspicion",
        "I7 budgets",
        (
            "reap",
            "for task in self._drop(instance, now):",
            "self._drop(instance, now)\n        for task in ():",
        ),
    ),
    in_machine(
        "the reaper leaves the worker staffed",
        "chain-2, both sinks: lost blob, suspicion",
        "I3 wake-up",
        ("_drop", "self.roster.release(instance)", "self.roster.held.get(instance)"),
    ),
    in_machine(
        "the reaper leaves the lease",
        "chain-2, both sinks: lost blob, suspicion",
        "I11 repetition",
        ("_drop", "self.leases.pop(instance, None)", "pass"),
    ),
    in_machine(
        "the reaper charges nothing",
        "chain-2, both sinks: lost blob, suspicion",
        "I7 budgets",
        (
            "reap",
            "self._charge(task, Charge.LOSS, LEASE_LOST_JSON, 0.0, worker, now)",
            "self._ready(task, now)",
        ),
    ),
    in_machine(
        "no reaper",
        "chain-2, both sinks: lost blob, suspicion",
        "I7 budgets",
        ("reap", "if until < now", "if False"),
    ),
    in_machine(
        "heartbeats do not reap",
        "chain-2, both sinks: lost blob, suspicion",
        "I7 budgets",
        ("heartbeat", "self.reap(now=now, fresh=fresh)", "pass"),
    ),
    in_roster(
        "the cap is not looked at",
        "chain-2, both sinks: lost blob, suspicion",
        "I3 cap",
        ("route", " and queue.n_invoked + queue.n_active < cap", ""),
    ),
    in_roster(
        "who is asked for already is not looked at",
        "fan-in: suspicion, lost reply",
        "I3 thrift",
        ("route", "len(queue.ready) > queue.n_invoked and", "queue.ready and"),
    ),
    in_roster(
        "asked for once is asked for ever",
        "diamond: mixed, hints",
        "I3 wake-up",
        (
            "route",
            "queue.n_invoked + queue.n_active < cap",
            "queue.highest < cap",
        ),
    ),
    in_roster(
        "a released member is never free again",
        "diamond: mixed, hints",
        "I3 members",
        ("release", "heapq.heappush(queue.free, member[1])", "pass"),
    ),
    in_roster(
        "a released member still counts as active",
        "diamond: mixed, hints",
        "I3 members",
        ("release", "queue.n_active -= 1", "pass"),
    ),
    in_roster(
        "an adopted member still counts as asked for",
        "chain-3: 2 lost blobs",
        "I3 cap",
        ("adopt", "queue.n_invoked -= 1", "pass"),
    ),
    in_roster(
        "an adopted member can be adopted again",
        "chain-3: 2 lost blobs",
        "I3 members",
        ("adopt", "self.invoked.pop(member)", "self.invoked[member]"),
    ),
    in_roster(
        "a taken task stays in its queue",
        "chain-3: 2 lost blobs",
        "I3 wake-up",
        ("take", "_remove(state.ready, entry)", "entry in state.ready"),
        ("take", "del state.ready[: len(rest)]", "pass"),
    ),
)
