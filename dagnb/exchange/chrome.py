"""A run in the trace event format of Chrome, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

A process is a run: 1 is the real one, 2 the planned one. A thread is a worker, and a line more where it did two things
at once, because slices of one thread have to nest. Waits in a queue overlap as they like, so they are async events.

Source: Trace Event Format, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dagnb.exchange.counts import active_workers, moving_bytes
from dagnb.exchange.lanes import NS_PER_S, lanes, ticks
from dagnb.trace.span import Phase, Span
from dagnb.trace.trace import Trace

REAL, PLANNED = 1, 2
MAKING = frozenset((Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT))
NS_PER_US = 1_000

Event = dict[str, Any]


def chrome_trace(
    trace: Trace,
    *,
    planned: Trace | None = None,
    name: str = "run",
    upstream: Sequence[Sequence[int]] | None = None,
) -> str:
    """The JSON of a run, and beside it of what was planned; microseconds since the submission of each.

    upstream: by step, as in the plan: each dependency is an arrow from its maker to its reader, where both have a
    slice that takes time. What began before the submission begins at 0 here, and says in `cut_s` what is missing.
    O(spans x lines of a worker + edges).
    """
    numbers = _Numbers()
    events = _process(trace, REAL, name, upstream, numbers)
    if planned is not None:
        events += _process(planned, PLANNED, f"{name} (planned)", upstream, numbers)
    data = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"name": name}}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Threads, waits and arrows are numbered through both processes: viewers mix up equal numbers of two of them."""

    thread: Iterator[int] = field(default_factory=lambda: count(PLANNED + 1))
    wait: Iterator[int] = field(default_factory=lambda: count(1))
    arrow: Iterator[int] = field(default_factory=lambda: count(1))


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where a span stands, in nanoseconds."""

    span: Span
    thread: int
    begin: int
    end: int


def _process(
    trace: Trace, pid: int, title: str, upstream: Sequence[Sequence[int]] | None, numbers: _Numbers
) -> list[Event]:
    """All events of one run; slices before arrows, which bind to the slice that is open when they come."""
    events = [
        _named("process_name", pid, 0, name=title),
        _named("process_sort_index", pid, 0, sort_index=pid),
    ]
    slices: list[_Slice] = []
    for worker in ("", *trace.workers):
        spans = [span for span in trace.by_worker.get(worker, ()) if span.phase is not Phase.QUEUE]
        for line, lane in enumerate(lanes(spans, trace.submitted_s)):
            thread = next(numbers.thread)
            label = f"{worker or 'client'}{f' ({line + 1})' if line else ''}"
            events.append(_named("thread_name", pid, thread, name=label))
            events.append(_named("thread_sort_index", pid, thread, sort_index=thread))
            slices += [_Slice(span, thread, *ticks(span, trace.submitted_s)) for span in lane]
    slices.sort(key=lambda one: (one.begin, -one.end))
    events += [_slice(one, trace, pid) for one in slices]
    events += [
        event
        for span in trace.spans
        if span.phase is Phase.QUEUE
        for event in _wait(span, trace, pid, numbers)
    ]
    if upstream is not None:
        events += _arrows(slices, upstream, pid, numbers)
    events += [
        _counter("active workers", "workers", at, level, pid) for at, level in active_workers(trace)
    ]
    events += [
        _counter("bytes in flight", "bytes", at, level, pid) for at, level in moving_bytes(trace)
    ]
    return events


def _named(kind: str, pid: int, tid: int, **args: Any) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}


def _slice(one: _Slice, trace: Trace, pid: int) -> Event:
    """Called as its task where the task runs, so that tasks catch the eye, and as its phase elsewhere."""
    span, facts = one.span, _facts(one.span, trace)
    return {
        "ph": "X",
        "name": facts["task"] if span.phase is Phase.RUN and "task" in facts else span.phase.value,
        "cat": span.phase.value,
        "pid": pid,
        "tid": one.thread,
        "ts": one.begin / NS_PER_US,
        "dur": (one.end - one.begin) / NS_PER_US,
        "args": facts,
    }


def _facts(span: Span, trace: Trace) -> dict[str, Any]:
    facts: dict[str, Any] = {"attempt": span.attempt, "bytes": span.n_bytes}
    if 0 <= span.task < len(trace.names):
        facts["task"] = trace.names[span.task]
    if span.detail:
        facts["detail"] = span.detail
    if span.begin_s < trace.submitted_s - 0.5 / NS_PER_S:
        facts["cut_s"] = min(trace.submitted_s, span.end_s) - span.begin_s
    return facts


def _wait(span: Span, trace: Trace, pid: int, numbers: _Numbers) -> tuple[Event, Event]:
    begin, end = ticks(span, trace.submitted_s)
    common = {
        "name": "queue",
        "cat": "queue",
        "pid": pid,
        "tid": 0,
        "id": f"wait{next(numbers.wait)}",
    }
    facts = _facts(span, trace) | {"worker": span.worker}
    return (
        {"ph": "b", **common, "ts": begin / NS_PER_US, "args": facts},
        {"ph": "e", **common, "ts": end / NS_PER_US, "args": {}},
    )


def _arrows(
    slices: Sequence[_Slice], upstream: Sequence[Sequence[int]], pid: int, numbers: _Numbers
) -> Iterator[Event]:
    """From within the slice that made a value, as late as can be, to the begin of the run that read it."""
    of_step: dict[int, list[_Slice]] = defaultdict(list)
    for one in slices:
        if one.span.phase in MAKING and one.end > one.begin:
            of_step[one.span.task].append(one)
    for step, above in enumerate(upstream):
        reader = _reading(of_step[step])
        for u in above:
            maker = _making(of_step[u], reader.begin) if reader else None
            if reader is None or maker is None:
                continue
            common = {"name": "value", "cat": "dependency", "pid": pid, "id": next(numbers.arrow)}
            leaves = min(maker.end - 1, reader.begin)
            yield {"ph": "s", **common, "tid": maker.thread, "ts": leaves / NS_PER_US}
            yield {
                "ph": "f",
                "bp": "e",
                **common,
                "tid": reader.thread,
                "ts": reader.begin / NS_PER_US,
            }


def _reading(slices: Sequence[_Slice]) -> _Slice | None:
    """The last run of a step; another slice of it where the run took no time."""
    runs = [one for one in slices if one.span.phase is Phase.RUN]
    return runs[-1] if runs else next(iter(slices), None)


def _making(slices: Sequence[_Slice], before: int) -> _Slice | None:
    """The last run that began before this moment, as _reading."""
    return _reading([one for one in slices if one.begin <= before])


def _counter(name: str, unit: str, at: int, level: int, pid: int) -> Event:
    return {
        "ph": "C",
        "name": name,
        "pid": pid,
        "tid": 0,
        "ts": at / NS_PER_US,
        "args": {unit: level},
    }
