"""Updates of the view of a run: the messages that its script gets, live or from a saved page.

The first message holds everything, later ones hold what changed. Their fields:

head      serial, state, reason, workers, elapsed_s
left      seconds until the end: median, and the ends of 8 of 10 cases; where functions are not
          known yet, {at_least, unknown, n_more}: a bound, and their names; null: the run is over
states    byte of a state -> positions of the tasks that are in it now, "0-3,7"
rows      what tasks did: see dagnb.views.snapshot.Row
running   task that runs now -> [worker in words, milliseconds after submission]
starts    worker in words -> ["cold" or "warm", milliseconds]
errors    failed attempts: task, attempt, html; n_errors: their number
logs      task -> tail of its output
drawn     lanes (the timeline as SVG) and critical (edges between boxes, "3-7"); sent less often,
          because drawing is slow

The script reads them in `take` of static/run_state.js: a field is renamed in both files, or in
none.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeAlias

from dagnb.errors import TaskError
from dagnb.failure import read_errors
from dagnb.graph import shape
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import TaskState
from dagnb.protocol.run_description import RunDescription
from dagnb.trace.critical import chain_steps
from dagnb.trace.trace import Trace
from dagnb.views import layout
from dagnb.views.errors import MAX_ERRORS, article
from dagnb.views.layout import Picture, ranges
from dagnb.views.markup import plain
from dagnb.views.remaining import Remaining
from dagnb.views.snapshot import MAX_LOG, RunFacts, Snapshot
from dagnb.views.timeline import timeline_svg
from dagnb.worker_label import label_text, worker_text

MAX_LOGS = 400_000
"""characters of all outputs together; run.log(task) has the rest"""

MAX_BARS = 800
"""bars of a timeline that is drawn again and again, and kept in notebooks"""

Message: TypeAlias = dict[str, object]
"""data for the browser, as JSON"""


def graph_of(description: RunDescription) -> Message:
    """The data that do not change during a run: names, functions, edges, resources."""
    functions = list(dict.fromkeys(description.functions))
    position = {function: i for i, function in enumerate(functions)}
    return {
        "names": list(map(plain, description.names)),
        "functions": list(map(plain, functions)),
        "function_of": [position[function] for function in description.functions],
        "upstream": description.upstream,
        "resources": list(map(label_text, description.resources)),
    }


MAX_UNKNOWN = 3
"""names of functions that never ran, beside the time left"""


class ViewUpdates:
    """Makes the messages of one run, one after the other."""

    def __init__(
        self, description: RunDescription, submitted_s: float, planned: Trace | None = None
    ) -> None:
        """Begin without any message.

        planned: simulated run of the plan, outlined on the timeline. submitted_s: epoch seconds.
        """
        self.description = description
        self.submitted_s = submitted_s
        self.planned = planned
        self.dag: Dag = description.dag
        self.picture: Picture = layout.of_dag(self.dag)
        self.facts = RunFacts(submitted_s)
        self._remaining = Remaining(description)
        self._plan: Plan | None = None
        self._serial = 0
        self._n_workers = 0
        self._n_spans = 0
        self._n_logged = 0
        self._now: Snapshot | None = None
        self._errors: dict[tuple[int, int], Message] = {}
        self._logs: dict[int, str] = {}
        self._drawn: Message = {}
        self._drawn_at: Snapshot | None = None
        self._head_before: Message = {}

    def foresee(self, planned: Trace) -> None:
        """Take the simulated run of the plan, which became known after the start.

        Drawings show its outlines from the next one on.
        """
        self.planned = planned

    def expect(self, plan: Plan) -> None:
        """Take the plan with its costs, which became known after the start, for the time left."""
        if plan is not self._plan:
            self._plan = plan
            self._remaining = Remaining(self.description, plan)

    def update(self, now: Snapshot) -> tuple[Message, bool]:
        """Take in a snapshot.

        Returns:
            the message with all that changed since the last call.
            whether anything but the time changed.
        """
        states_before = ""
        logs_before: Mapping[int, str] = {}
        if self._now is not None:
            states_before, logs_before = self._now.seen.states, self._now.logs
        states = _changed(now.seen.states, states_before)
        touched = sorted(self._add_spans(now))
        errors = self._new_errors(now)
        logs = self._new_logs(now, logs_before)
        head = self._head(now)
        # The time left is not compared: like the elapsed time, it changes without any news.
        is_news = bool(states or touched or errors or logs) or self._is_new(head)
        self._head_before = head
        self._now = now
        self._serial += 1
        message = {
            "serial": self._serial,
            **head,
            "left": self._left(now),
            "states": states,
            "rows": list(map(self.facts.row, touched)),
            "starts": self._starts(),
            "errors": errors,
            "logs": logs,
        }
        return message, is_news

    def everything(self) -> Message:
        """All that was sent so far, as one message with the number of the last."""
        assert self._now is not None
        return {
            "serial": self._serial,
            **self._head(self._now),
            "left": self._left(self._now),
            "states": _changed(self._now.seen.states, ""),
            "rows": [self.facts.row(task) for task in sorted(self.facts.of)],
            "starts": self._starts(),
            "errors": list(self._errors.values()),
            "logs": {str(task): text for task, text in self._logs.items()},
            "drawn": self._drawn,  # may be older than the rest, because drawing is slow
        }

    def draw(self) -> Message:
        """The drawings of the latest snapshot. O(spans log spans).

        Another thread may call `update` meanwhile, so the snapshot is read once.
        """
        now = self._now
        assert now is not None
        if now is self._drawn_at:
            return self._drawn
        trace = now.trace_so_far
        edges = set(_pairs(self._critical(now, trace), self.picture))
        lanes = timeline_svg(
            trace,
            self.description.functions,
            width=860,
            planned=self.planned,
            is_over=now.is_over,
            is_bare=True,
            max_bars=MAX_BARS,
        )
        critical = [f"{tail}-{head}" for tail, head in sorted(edges)]
        self._drawn = {"lanes": lanes, "critical": critical}
        self._drawn_at = now
        return self._drawn

    def _is_new(self, head: Message) -> bool:
        """Returns whether the head differs from the last one in more than the time."""
        return head != {**self._head_before, "elapsed_s": head["elapsed_s"]}

    def _head(self, now: Snapshot) -> Message:
        # Workers leave at the end, but the view still says how many took part.
        if not now.is_over:
            self._n_workers = 0
        self._n_workers = max(self._n_workers, now.seen.n_instances)
        # Some runs have their state as their reason, which the view need not show twice.
        reason = plain(now.seen.reason)
        if reason == now.seen.state:
            reason = ""
        running = {}
        for task in now.running:
            since, worker = now.started[task]
            since_ms = round((since - now.seen.submitted_at) * 1e3)
            running[str(task)] = [worker_text(worker), since_ms]
        return {
            "state": now.seen.state.value,
            "reason": reason,
            "workers": self._n_workers,
            "elapsed_s": round(now.elapsed_s, 3),
            "n_errors": len(now.seen.errors),
            "running": running,
        }

    def _left(self, now: Snapshot) -> list[float] | Message | None:
        """Returns [median, p10, p90], or a lower bound and the functions that nothing is known of.

        Seconds; None when the run is over.
        """
        left = self._remaining.left(now)
        if left is None:
            return None
        if left.unknown:
            names = list(map(plain, left.unknown[:MAX_UNKNOWN]))
            return {
                "at_least": round(left.p10_s, 2),
                "unknown": names,
                "n_more": len(left.unknown) - len(names),
            }
        return [round(seconds, 2) for seconds in (left.p50_s, left.p10_s, left.p90_s)]

    def _add_spans(self, now: Snapshot) -> set[int]:
        new = now.spans[self._n_spans :]
        self._n_spans = len(now.spans)
        return self.facts.add(new)

    def _starts(self) -> Message:
        starts: Message = {}
        for worker, (kind, seconds) in self.facts.starts.items():
            starts[worker_text(worker)] = [kind, round(seconds * 1e3)]
        return starts

    def _new_errors(self, now: Snapshot) -> list[Message]:
        new = [key for key in sorted(now.seen.errors) if key not in self._errors]
        # Errors are large, and the pages keep all of them.
        new = new[: max(0, MAX_ERRORS - len(self._errors))]
        if not new:
            return []
        position = {name: i for i, name in enumerate(self.description.names)}
        messages = []
        # All errors are read, not only new ones: whether an attempt is the last of its task depends
        # on the others.
        for error in read_errors(now.seen.errors, self.description.names, now.seen.failed):
            task = position[error.task]
            if (task, error.attempt) in new:
                message = _error_message(error, task)
                self._errors[task, error.attempt] = message
                messages.append(message)
        return messages

    def _new_logs(self, now: Snapshot, known: Mapping[int, str]) -> dict[str, str]:
        new = {}
        for task, text in now.logs.items():
            # The same string, not an equal one: comparing ten thousand outputs would take too long.
            if known.get(task) is text or self._n_logged > MAX_LOGS:
                continue
            self._logs[task] = tail(text)
            self._n_logged += len(self._logs[task])
            new[str(task)] = self._logs[task]
        return new

    def _critical(self, now: Snapshot, trace: Trace) -> tuple[int, ...]:
        """The chain of tasks that made a run so long; before its end, the expected one."""
        if now.is_over:
            return chain_steps(self.description.upstream, self.description.sinks, trace)
        durations: dict[str, list[float]] = defaultdict(list)
        for task, fact in list(self.facts.of.items()):  # a copy: `update` may add facts meanwhile
            if fact.run_s is not None:
                durations[self.description.functions[task]].append(fact.run_s)
        means = {function: fmean(times) for function, times in durations.items()}
        usual = fmean(means.values()) if means else 1.0
        return shape.critical_path(self.dag, lambda task: self._expected_s(task, means, usual))

    def _expected_s(self, task: int, means: Mapping[str, float], usual: float) -> float:
        """The task's own duration; else the mean of its function; else that of all functions."""
        fact = self.facts.of.get(task)
        if fact is not None and fact.run_s is not None:
            return fact.run_s
        return means.get(self.description.functions[task], usual)


def tail(text: str) -> str:
    """The end of an output, as much as a message holds."""
    cleaned = plain(text[-2 * MAX_LOG :])
    if len(text) <= 2 * MAX_LOG and len(cleaned) <= MAX_LOG:
        return cleaned
    return f"... more before ...\n{cleaned[-MAX_LOG:]}"


def _changed(states: str, before: str) -> dict[str, str]:
    """Byte of a state -> the tasks that are in it now and were not before.

    before: '' when nothing was sent yet; in the script every task is waiting at first.
    """
    old = before or TaskState.WAITING * len(states)
    if states == old:
        return {}
    tasks_of: dict[str, list[int]] = defaultdict(list)
    for task, (now, then) in enumerate(zip(states, old, strict=True)):
        if now != then:
            tasks_of[now].append(task)
    return {state: ranges(tasks) for state, tasks in tasks_of.items()}


def _error_message(error: TaskError, task: int) -> Message:
    return {"task": task, "attempt": error.attempt, "html": article(error)}


def _pairs(path: Sequence[int], picture: Picture) -> list[tuple[int, int]]:
    """The edges between boxes that a path of tasks takes."""
    known = {(edge.tail, edge.head) for edge in picture.edges}
    pairs = []
    for before, after in itertools.pairwise(path):
        pair = picture.box_of[before], picture.box_of[after]
        if pair in known:  # not within a box
            pairs.append(pair)
    return pairs
