"""What the browser is told of a run: everything once, then only what changed. The same words live and afterwards.

head      serial, state, reason, workers, elapsed_s
left      how much longer, seconds: median, and the ends of what 8 of 10 lie within; None: unknown
states    byte of a state -> positions of the tasks that are in it now, "0-3,7"
rows      what tasks did: see dagnb.views.facts.Row
running   task that runs now -> [worker, milliseconds after submission]
starts    worker -> ["cold" or "warm", milliseconds]
errors    failed attempts: task, attempt, html; n_errors: how many there are
logs      task -> tail of what it printed
drawn     lanes (the timeline as SVG) and critical (edges between boxes, "3-7"); costly, so not every time
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dagnb.errors import TaskError
from dagnb.graph import shape
from dagnb.graph.dag import Dag
from dagnb.planning.forecast import Forecast
from dagnb.protocol.messages import RunState, TaskState
from dagnb.protocol.run_description import RunDescription, errors_of
from dagnb.trace.critical import critical_steps
from dagnb.trace.span import Phase, Span
from dagnb.trace.trace import Trace
from dagnb.views import layout
from dagnb.views.errors import MAX_ERRORS, article
from dagnb.views.facts import RunFacts
from dagnb.views.layout import Picture, ranges
from dagnb.views.markup import plain
from dagnb.views.remaining import Remaining
from dagnb.views.snapshot import MAX_LOG, Snapshot
from dagnb.views.timeline import timeline_svg

MAX_LOGS = 400_000
"""characters of all outputs together; the rest is told by run.log(task)"""

MAX_BARS = 800
"""bars of a timeline that is drawn again and again, and kept in notebooks"""

Message: TypeAlias = dict[str, object]
"""What goes to the browser: JSON"""


def graph_of(description: RunDescription) -> Message:
    """What does not change during a run: names, functions, edges."""
    functions = list(dict.fromkeys(description.functions))
    place = {function: i for i, function in enumerate(functions)}
    return {
        "names": [plain(name) for name in description.names],
        "functions": [plain(function) for function in functions],
        "function_of": [place[function] for function in description.functions],
        "upstream": description.upstream,
        "resources": description.resources,
    }


class ViewUpdates:
    """Tells one run, message by message."""

    def __init__(
        self,
        description: RunDescription,
        submitted_s: float,
        planned: Trace | None = None,
        forecast: Forecast | None = None,
    ) -> None:
        """Nothing was told yet. planned: what the plan's simulation gave, outlined on the timeline.

        forecast: where the description has none.
        """
        self.description = description
        self.submitted_s = submitted_s
        self.planned = planned
        self.dag: Dag = description.dag
        self.picture: Picture = layout.of_dag(self.dag)
        self.facts = RunFacts(submitted_s)
        self._remaining = Remaining(
            len(description.names), description.forecast or forecast, planned
        )
        self._serial = 0
        self._n_workers = 0
        self._n_spans = 0
        self._n_logged = 0
        self._now: Snapshot | None = None
        self._errors: dict[tuple[int, int], Message] = {}
        self._logs: dict[int, str] = {}
        self._drawn: Message = {}
        self._drawn_of: Snapshot | None = None
        self._said: Message = {}

    def tell(self, now: Snapshot) -> tuple[Message, bool]:
        """What changed since the last call, and whether anything but the time did."""
        before = self._now
        states = _changed(now.seen.states, before.seen.states if before is not None else "")
        touched = sorted(self._learn(now))
        errors = self._new_errors(now)
        logs = self._new_logs(now, before)
        head = self._head(now)
        is_news = bool(states or touched or errors or logs) or head != {
            **self._said,
            "elapsed_s": head["elapsed_s"],
        }
        self._said = head
        self._now = now
        self._serial += 1
        rows = [self.facts.row(task) for task in touched]
        told = {
            "states": states,
            "rows": rows,
            "starts": self._starts(),
            "errors": errors,
            "logs": logs,
        }
        return {"serial": self._serial, **head, "left": self._left(now), **told}, is_news

    def everything(self) -> Message:
        """All that was told so far, as one message with the number of the last."""
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
            "drawn": self._drawn,
        }

    def draw(self) -> Message:
        """The drawings of the moment that was told last. O(spans log spans). Another thread may tell meanwhile."""
        now = self._now
        assert now is not None
        if now is self._drawn_of:
            return self._drawn
        trace = _with_running(now)
        hot = set(_pairs(self._critical(now, trace), self.picture))
        self._drawn = {
            "lanes": timeline_svg(
                trace,
                self.description.functions,
                width=860,
                planned=self.planned,
                is_over=now.is_over,
                is_bare=True,
                max_bars=MAX_BARS,
            ),
            "critical": [f"{tail}-{head}" for tail, head in sorted(hot)],
        }
        self._drawn_of = now
        return self._drawn

    def _head(self, now: Snapshot) -> Message:
        self._n_workers = max(now.seen.n_instances, self._n_workers if now.is_over else 0)
        return {
            "state": now.seen.state.value,
            "reason": plain(now.seen.reason) if now.seen.reason != now.seen.state else "",
            "workers": self._n_workers,
            "elapsed_s": round(now.elapsed_s, 3),
            "n_errors": len(now.seen.errors),
            "running": {
                str(task): [
                    now.started[task][1],
                    round((now.started[task][0] - now.seen.submitted_at) * 1e3),
                ]
                for task in _running(now)
            },
        }

    def _left(self, now: Snapshot) -> list[float] | None:
        left = self._remaining.left(now)
        return (
            None
            if left is None
            else [round(seconds, 2) for seconds in (left.p50_s, left.p10_s, left.p90_s)]
        )

    def _learn(self, now: Snapshot) -> set[int]:
        fresh = now.spans[self._n_spans :]
        self._n_spans = len(now.spans)
        return self.facts.add(fresh)

    def _starts(self) -> Message:
        return {worker: [kind, round(s * 1e3)] for worker, (kind, s) in self.facts.starts.items()}

    def _new_errors(self, now: Snapshot) -> list[Message]:
        fresh = [key for key in sorted(now.seen.errors) if key not in self._errors]
        fresh = fresh[: max(0, MAX_ERRORS - len(self._errors))]
        if not fresh:
            return []
        place = {name: i for i, name in enumerate(self.description.names)}
        errors = errors_of(
            now.seen, self.description
        )  # of all, for whether one is the last of its task
        found = [_error(e, place[e.task]) for e in errors if (place[e.task], e.attempt) in fresh]
        self._errors.update({(place, attempt): told for told, place, attempt in found})
        return [told for told, _, _ in found]

    def _new_logs(self, now: Snapshot, before: Snapshot | None) -> dict[str, str]:
        known = before.logs if before is not None else {}
        found = {}
        for task, text in now.logs.items():
            if known.get(task) is text or self._n_logged > MAX_LOGS:
                continue
            self._logs[task] = tail(text)
            self._n_logged += len(self._logs[task])
            found[str(task)] = self._logs[task]
        return found

    def _critical(self, now: Snapshot, trace: Trace) -> tuple[int, ...]:
        """What made a run so long, once it is over; before, what is most likely to."""
        if now.is_over:
            return critical_steps(self.description.upstream, self.description.sinks, trace)
        known: dict[str, list[float]] = defaultdict(list)
        for task, fact in list(self.facts.of.items()):
            if fact.run_s is not None:
                known[self.description.functions[task]].append(fact.run_s)
        means = {function: sum(times) / len(times) for function, times in known.items()}
        usual = sum(means.values()) / len(means) if means else 1.0
        return shape.critical_path(self.dag, lambda task: self._expected_s(task, means, usual))

    def _expected_s(self, task: int, means: Mapping[str, float], usual: float) -> float:
        """How long the task ran, or ran elsewhere on average, or anything ran on average."""
        fact = self.facts.of.get(task)
        ran = fact.run_s if fact is not None else None
        return means.get(self.description.functions[task], usual) if ran is None else ran


def tail(text: str) -> str:
    """The end of an output, as much as travels."""
    cleaned = plain(text[-2 * MAX_LOG :])
    is_whole = len(text) <= 2 * MAX_LOG and len(cleaned) <= MAX_LOG
    return cleaned if is_whole else f"... more before ...\n{cleaned[-MAX_LOG:]}"


def _changed(states: str, before: str) -> dict[str, str]:
    """Byte of a state -> which tasks are in it that were not before. Of tasks never told of, waiting is understood."""
    lists: dict[str, list[int]] = defaultdict(list)
    old = before or TaskState.WAITING * len(states)
    if states == old:
        return {}
    for task, (now, then) in enumerate(zip(states, old, strict=True)):
        if now != then:
            lists[now].append(task)
    return {state: ranges(tasks) for state, tasks in lists.items()}


def _error(error: TaskError, task: int) -> tuple[Message, int, int]:
    told: Message = {"task": task, "attempt": error.attempt, "html": article(error)}
    return told, task, error.attempt


def _with_running(now: Snapshot) -> Trace:
    """The trace, with what is running drawn up to now."""
    trace = now.trace
    if now.seen.state is not RunState.RUNNING:
        return trace
    spans = [
        Span(task, worker, Phase.RUN, begin_s, now.seen.now, detail="so far")
        for task in _running(now)
        for begin_s, worker in (now.started[task],)
    ]
    return Trace.of(
        [*trace.spans, *spans],
        trace.names,
        submitted_s=trace.submitted_s,
        finished_s=trace.finished_s,
    )


def _running(now: Snapshot) -> list[int]:
    """Tasks that run now, of which it is known since when. Found one by one: few do among many."""
    found, at = [], now.seen.states.find(TaskState.RUNNING)
    while at >= 0:
        if at in now.started:
            found.append(at)
        at = now.seen.states.find(TaskState.RUNNING, at + 1)
    return found


def _pairs(path: Sequence[int], picture: Picture) -> list[tuple[int, int]]:
    """The edges between boxes that a path of tasks takes."""
    boxes = [picture.box_of[task] for task in path]
    known = {(edge.tail, edge.head) for edge in picture.edges}
    return [pair for pair in itertools.pairwise(boxes) if pair in known]
