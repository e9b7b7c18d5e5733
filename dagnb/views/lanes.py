"""From spans to the bars of a timeline: who is in which lane, and what is too narrow to be drawn alone.

A bar narrower than a pixel is not drawn: within each cell of a lane the kind with most time stands for all, and equal
neighbours join. So a picture of a million spans is as small as one of a thousand, and a busy pixel is shown as busy.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.trace.span import STARTING, Phase, Span
from dagnb.trace.trace import Trace

MAX_BARS = 4_000
"""so many bars and tooltips a browser shows at ease"""

MAX_LANES = 200
OWN_LANES = 60
"""up to so many workers each has a lane; above, a worker takes over the lane of one that left"""

TRAFFIC = frozenset({Phase.PROGRAM, Phase.FETCH, Phase.STORE, Phase.COMMIT})
"""phases on the thin row of a lane, below the work: they overlap it when a worker preloads"""

_UNSEEN = (Phase.SUBMIT, Phase.QUEUE, Phase.RETURN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Spans of one kind drawn as one, in seconds from the begin of the picture. busy_s: what they lasted together.

    kind: the phase's value, "cold" or "warm" for a start, "run FUNCTION" for a run. first: one of its spans.
    """

    lane: int
    kind: str
    is_traffic: bool
    begin_s: float
    end_s: float
    busy_s: float
    n: int
    first: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """Bars by lane and begin. names: the workers of each lane. n_hidden: workers for whom there was no lane left."""

    names: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...]
    n_hidden: int

    __repr__ = brief


def lanes(
    trace: Trace, functions: Sequence[str], *, pixel_s: float, max_bars: int = MAX_BARS
) -> Lanes:
    """The bars of a trace when one pixel lasts pixel_s. O(spans log spans). functions: by step."""
    lane_of, names, n_hidden = _assigned(trace)
    cell_s = pixel_s
    merged = _merged(*_bars(trace, lane_of, functions, cell_s), cell_s)
    while len(merged) > max_bars and cell_s < pixel_s * 1_024:
        cell_s *= 2
        narrow = [bar for bar in merged if bar.end_s - bar.begin_s < cell_s]
        merged = _merged(
            [bar for bar in merged if bar.end_s - bar.begin_s >= cell_s], narrow, cell_s
        )
    return Lanes(names=names, bars=tuple(merged), n_hidden=n_hidden)


def _bars(
    trace: Trace, lane_of: Mapping[str, int], functions: Sequence[str], cell_s: float
) -> tuple[list[Bar], list[Bar]]:
    """Wide bars, one a span; and narrow ones, one for all spans of a kind that begin in a cell, for there are many."""
    wide: list[Bar] = []
    narrow: dict[tuple[int, str, int], _Sum] = {}
    for span in trace.spans:
        lane = lane_of.get(span.worker)
        if lane is None or span.phase in _UNSEEN:
            continue
        begin = max(0.0, span.begin_s - trace.submitted_s)
        end = max(begin, span.end_s - trace.submitted_s)
        kind = _kind(span, functions)
        if cell_s <= 0 or end - begin >= cell_s:
            wide.append(_Sum(begin, end, end - begin, 1, span).bar(lane, kind))
            continue
        key = (lane, kind, int(begin / cell_s))
        known = narrow.get(key)
        if known is None:
            narrow[key] = _Sum(begin, end, end - begin, 1, span)
        else:
            known.end_s = max(known.end_s, end)
            known.busy_s += end - begin
            known.n += 1
    return wide, [total.bar(lane, kind) for (lane, kind, _), total in narrow.items()]


@dataclass(slots=True)
class _Sum:
    """A bar that still grows; spans come in the order of their begin."""

    begin_s: float
    end_s: float
    busy_s: float
    n: int
    first: Span

    def bar(self, lane: int, kind: str) -> Bar:
        return Bar(
            lane=lane,
            kind=kind,
            is_traffic=self.first.phase in TRAFFIC,
            begin_s=self.begin_s,
            end_s=self.end_s,
            busy_s=self.busy_s,
            n=self.n,
            first=self.first,
        )


def _kind(span: Span, functions: Sequence[str]) -> str:
    if span.phase is Phase.RUN:
        return f"run {functions[span.task]}" if 0 <= span.task < len(functions) else "run ?"
    if span.phase in STARTING:
        return "cold" if "cold" in span.detail else "warm"
    return span.phase.value


def _assigned(trace: Trace) -> tuple[dict[str, int], tuple[tuple[str, ...], ...], int]:
    """worker -> lane, the workers of each lane, and how many workers got none."""
    spans_of = {worker: spans for worker, spans in trace.by_worker.items() if worker}
    lives = {
        w: (min(s.begin_s for s in spans), max(s.end_s for s in spans))
        for w, spans in spans_of.items()
    }
    workers = sorted(lives, key=lambda w: (len(w), w))
    if len(lives) > OWN_LANES:
        workers.sort(key=lambda w: lives[w][0])
    lane_of: dict[str, int] = {}
    names: list[list[str]] = []
    free: list[tuple[float, int]] = []
    for worker in workers:
        begin, end = lives[worker]
        if len(lives) > OWN_LANES and free and free[0][0] <= begin:
            lane = heapq.heappop(free)[1]
        elif len(names) < MAX_LANES:
            lane = len(names)
            names.append([])
        else:
            continue
        heapq.heappush(free, (end, lane))
        lane_of[worker] = lane
        names[lane].append(worker)
    return lane_of, tuple(map(tuple, names)), len(lives) - len(lane_of)


def _merged(wide: Iterable[Bar], narrow: Iterable[Bar], cell_s: float) -> list[Bar]:
    """Wide bars as they are, narrow ones joined cell by cell."""
    cells: dict[tuple[int, bool, int], dict[str, Bar]] = defaultdict(dict)
    for bar in narrow:
        cell = cells[bar.lane, bar.is_traffic, int(bar.begin_s / cell_s)]
        cell[bar.kind] = _joined(cell[bar.kind], bar) if bar.kind in cell else bar
    return sorted([*wide, *_runs(cells, cell_s)], key=lambda bar: (bar.lane, bar.begin_s, bar.kind))


def _runs(cells: Mapping[tuple[int, bool, int], Mapping[str, Bar]], cell_s: float) -> list[Bar]:
    """One bar a cell, of the kind with most time there; neighbours of equal kind become one."""
    found: list[Bar] = []
    for key in sorted(cells):
        best = max(cells[key].values(), key=lambda bar: (bar.busy_s, bar.kind))
        if found and _is_next(found[-1], best, cell_s):
            found[-1] = _joined(found[-1], best)
        else:
            found.append(best)
    return found


def _is_next(a: Bar, b: Bar, cell_s: float) -> bool:
    """Whether b goes on where a ended, in the same row and kind."""
    return (a.lane, a.is_traffic, a.kind) == (
        b.lane,
        b.is_traffic,
        b.kind,
    ) and b.begin_s - a.end_s < cell_s


def _joined(a: Bar, b: Bar) -> Bar:
    return Bar(
        lane=a.lane,
        kind=a.kind,
        is_traffic=a.is_traffic,
        begin_s=min(a.begin_s, b.begin_s),
        end_s=max(a.end_s, b.end_s),
        busy_s=a.busy_s + b.busy_s,
        n=a.n + b.n,
        first=a.first,
    )
