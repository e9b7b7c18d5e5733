"""A run in Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.

    process          a run: 1 is the real one, 2 the planned one
    thread           a worker; it has further threads where it did two unrelated things at once,
                     because the slices of one thread have to nest
    slice            a span
    async event      a task's wait in its queue; waits overlap in any way
    flow (arrow)     a dependency
    counter          active workers, bytes in flight

Source: Trace Event Format, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dagnb.trace.trace import MOVING, Phase, Span, Trace

REAL, PLANNED = 1, 2
MAKING = frozenset((Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT))
NS_PER_S = 1_000_000_000
NS_PER_US = 1_000

Event = dict[str, Any]


def chrome_trace(
    trace: Trace,
    *,
    planned: Trace | None = None,
    name: str = "run",
    upstream: Sequence[Sequence[int]] | None = None,
) -> str:
    """Returns the JSON of a run and of its plan; times are microseconds since each submission.

    upstream: by step, as in the plan. Each dependency becomes an arrow between two slices that take
    time. A span that began before the submission begins at 0; its argument `cut_s` says what is
    missing. O(spans x threads of a worker + edges).
    """
    numbers = _Numbers()
    events = _run_events(trace, REAL, name, upstream, numbers)
    if planned is not None:
        events += _run_events(planned, PLANNED, f"{name} (planned)", upstream, numbers)
    data = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"name": name}}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Ids of threads, waits and arrows, unique over both runs: viewers confuse equal ones."""

    thread: Iterator[int] = field(default_factory=lambda: count(PLANNED + 1))
    wait: Iterator[int] = field(default_factory=lambda: count(1))
    arrow: Iterator[int] = field(default_factory=lambda: count(1))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A span on a thread, nanoseconds since the submission."""

    span: Span
    thread: int
    begin: int
    end: int


def _run_events(
    trace: Trace, pid: int, title: str, upstream: Sequence[Sequence[int]] | None, numbers: _Numbers
) -> list[Event]:
    events = [
        _named("process_name", pid, 0, name=title),
        _named("process_sort_index", pid, 0, sort_index=pid),
    ]
    slices: list[_Slice] = []
    for worker in ("", *trace.workers):
        spans = [span for span in trace.by_worker.get(worker, ()) if span.phase is not Phase.QUEUE]
        for position, lane in enumerate(_lanes(spans, trace.submitted_s)):
            thread = next(numbers.thread)
            label = worker or "client"
            if position:
                label += f" ({position + 1})"
            events.append(_named("thread_name", pid, thread, name=label))
            events.append(_named("thread_sort_index", pid, thread, sort_index=thread))
            slices += [_Slice(span, thread, *_interval(span, trace.submitted_s)) for span in lane]

    # An arrow binds to the slice that is open when the arrow comes: slices go first, outer ones
    # before inner.
    slices.sort(key=lambda slice_: (slice_.begin, -slice_.end))
    events += [_slice_event(slice_, trace, pid) for slice_ in slices]
    for span in trace.spans:
        if span.phase is Phase.QUEUE:
            events += _wait_events(span, trace, pid, numbers)
    if upstream is not None:
        events += _arrows(slices, upstream, pid, numbers)

    for moment, level in _active_workers(trace):
        events.append(_counter("active workers", "workers", moment, level, pid))
    for moment, level in _moving_bytes(trace):
        events.append(_counter("bytes in flight", "bytes", moment, level, pid))
    return events


def _named(kind: str, pid: int, tid: int, **args: Any) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}


def _slice_event(slice_: _Slice, trace: Trace, pid: int) -> Event:
    span, args = slice_.span, _args(slice_.span, trace)
    # A run has the name of its task, so that tasks stand out; other acts have that of their phase.
    name = span.phase.value
    if span.phase is Phase.RUN:
        name = args.get("task", name)
    return {
        "ph": "X",
        "name": name,
        "cat": span.phase.value,
        "pid": pid,
        "tid": slice_.thread,
        "ts": slice_.begin / NS_PER_US,
        "dur": (slice_.end - slice_.begin) / NS_PER_US,
        "args": args,
    }


def _args(span: Span, trace: Trace) -> dict[str, Any]:
    args: dict[str, Any] = {"attempt": span.attempt, "bytes": span.n_bytes}
    if 0 <= span.task < len(trace.names):
        args["task"] = trace.names[span.task]
    if span.detail:
        args["detail"] = span.detail
    if span.begin_s < trace.submitted_s - 0.5 / NS_PER_S:
        args["cut_s"] = min(trace.submitted_s, span.end_s) - span.begin_s
    return args


def _wait_events(span: Span, trace: Trace, pid: int, numbers: _Numbers) -> tuple[Event, Event]:
    begin, end = _interval(span, trace.submitted_s)
    wait = f"wait{next(numbers.wait)}"
    common = {"name": "queue", "cat": "queue", "pid": pid, "tid": 0, "id": wait}
    args = _args(span, trace) | {"worker": span.worker}
    return (
        {"ph": "b", **common, "ts": begin / NS_PER_US, "args": args},
        {"ph": "e", **common, "ts": end / NS_PER_US, "args": {}},
    )


def _arrows(
    slices: Sequence[_Slice], upstream: Sequence[Sequence[int]], pid: int, numbers: _Numbers
) -> Iterator[Event]:
    """Yields an arrow for each dependency, from the maker of a value to its reader."""
    of_step: dict[int, list[_Slice]] = defaultdict(list)
    for slice_ in slices:
        # Viewers attach no arrows to slices without length.
        if slice_.span.phase in MAKING and slice_.end > slice_.begin:
            of_step[slice_.span.task].append(slice_)

    for step, upstream_steps in enumerate(upstream):
        reader = _last_run(of_step[step])
        if reader is None:
            continue
        for upstream_step in upstream_steps:
            # Of several attempts, the arrow begins at the one that had begun when the reader began.
            maker = _last_run([s for s in of_step[upstream_step] if s.begin <= reader.begin])
            if maker is None:
                continue
            common = {"name": "value", "cat": "dependency", "pid": pid, "id": next(numbers.arrow)}
            # As late as possible, but inside the maker's slice.
            leaves, arrives = min(maker.end - 1, reader.begin) / NS_PER_US, reader.begin / NS_PER_US
            yield {"ph": "s", **common, "tid": maker.thread, "ts": leaves}
            yield {"ph": "f", "bp": "e", **common, "tid": reader.thread, "ts": arrives}


def _last_run(slices: Sequence[_Slice]) -> _Slice | None:
    """Returns the last run of a step; another of its slices if the run took no time."""
    runs = [slice_ for slice_ in slices if slice_.span.phase is Phase.RUN]
    return runs[-1] if runs else next(iter(slices), None)


def _counter(name: str, unit: str, moment: int, level: int, pid: int) -> Event:
    ts = moment / NS_PER_US
    return {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": ts, "args": {unit: level}}


def _interval(span: Span, submitted_s: float) -> tuple[int, int]:
    """Returns begin and end in nanoseconds since the submission; 0 <= begin <= end."""
    begin = max(0, round((span.begin_s - submitted_s) * NS_PER_S))
    return begin, max(begin, round((span.end_s - submitted_s) * NS_PER_S))


def _lanes(spans: Sequence[Span], submitted_s: float) -> list[list[Span]]:
    """Returns the spans of one worker on as few threads as possible, by begin, outer ones first.

    Two spans of one thread do not overlap, or one lies inside the other and both are of one task or
    one phase. So what a worker did beside its task, such as the fetch for its next one, has its own
    thread. O(spans x threads).
    """

    def outer_first(span: Span) -> tuple[int, int]:
        begin, end = _interval(span, submitted_s)
        return begin, -end

    lanes: list[list[Span]] = []
    open_slices: list[list[tuple[int, Span]]] = []  # by lane, (end, span), the innermost last
    for span in sorted(spans, key=outer_first):
        begin, end = _interval(span, submitted_s)
        for lane, stack in zip(lanes, open_slices, strict=True):
            while stack and stack[-1][0] <= begin:
                stack.pop()
            if not stack or (end <= stack[-1][0] and _may_nest(span, stack[-1][1])):
                lane.append(span)
                stack.append((end, span))
                break
        else:
            lanes.append([span])
            open_slices.append([(end, span)])
    return lanes


def _may_nest(inner: Span, outer: Span) -> bool:
    return inner.task == outer.task or inner.phase is outer.phase


def _active_workers(trace: Trace) -> list[tuple[int, int]]:
    """Returns (nanosecond, workers busy with a task from then on), at each change."""
    weighted = []
    for worker, spans in trace.by_worker.items():
        if worker:
            weighted += [(begin, end, 1) for begin, end in _busy(spans, trace.submitted_s)]
    return _curve(weighted)


def _moving_bytes(trace: Trace) -> list[tuple[int, int]]:
    """Returns (nanosecond, bytes between workers and store from then on), at each change."""
    moving = (span for span in trace.spans if span.phase in MOVING)
    return _curve((*_interval(span, trace.submitted_s), span.n_bytes) for span in moving)


def _busy(spans: Sequence[Span], submitted_s: float) -> list[tuple[int, int]]:
    """Returns the intervals in which a worker is busy with tasks; adjacent ones are joined."""
    merged: list[tuple[int, int]] = []
    acts = (span for span in spans if span.task >= 0 and span.phase is not Phase.QUEUE)
    for begin, end in sorted(_interval(span, submitted_s) for span in acts):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _curve(weighted: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Returns (moment, sum of the weights from then on) of intervals (begin, end, weight)."""
    changes: dict[int, int] = defaultdict(int)
    for begin, end, weight in weighted:
        changes[begin] += weight
        changes[end] -= weight
    level, points = 0, []
    for moment in sorted(changes):
        if changes[moment]:
            level += changes[moment]
            points.append((moment, level))
    return points
