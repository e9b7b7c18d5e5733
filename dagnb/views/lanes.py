"""Lanes and bars of a timeline: the lane of each worker, and how narrow spans join to bars.

A bar narrower than a pixel is not drawn. Each lane is cut into cells of a pixel; of each cell only
the kind with the most time is drawn, and neighbours of one kind join:

    spans    |f|f|store|f|g|g|f|f|f|      each narrower than a pixel
    cells    |    f    |  g  |  f  |      the kind with most time
    bars     |    f    |  g  |  f  |      no two neighbours are of one kind here, so none join

So a picture of a million spans is as small as one of a thousand, and a busy pixel is shown as busy.
When there are still too many bars, cells of two, four, ... pixels are tried.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dagnb.graph.brief import brief
from dagnb.trace.lost_attempts import LostAttempts
from dagnb.trace.trace import Phase, Span, Trace

MAX_BARS = 4_000
"""bars and tooltips that a browser shows without being slow"""

MAX_LANES = 200
OWN_LANES = 60
"""with at most so many workers, each has a lane; with more, a worker may take over the lane of one
that has left"""

LOST = "failed"
"""kind of a bar of attempts that raised, or whose worker died"""

TRAFFIC = frozenset({Phase.PROGRAM, Phase.FETCH, Phase.STORE, Phase.COMMIT})
"""phases on the thin row of a lane, below the work: they overlap it when a worker preloads"""

# The client's own acts belong to no worker, and a queued task occupies none.
_UNSEEN = (Phase.SUBMIT, Phase.QUEUE, Phase.RETURN)

_Cell: TypeAlias = tuple[int, bool, int]
"""lane, True for its row of traffic, number of the cell"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Spans of one kind drawn as one.

    kind: the phase's value; "cold" or "warm" for a start; "failed" for a run that came to nothing.
    function: of a run, else ''.
    begin_s, end_s: seconds from the begin of the picture. busy_s: total duration of its n spans.
    first: one of the spans.
    """

    lane: int
    kind: str
    function: str = ""
    is_traffic: bool
    begin_s: float
    end_s: float
    busy_s: float
    n: int
    first: Span

    @property
    def is_run(self) -> bool:
        """Returns whether a function ran, which is drawn in the function's colour."""
        return self.kind == Phase.RUN

    @property
    def look(self) -> tuple[str, str]:
        """Kind and function: bars of equal looks have one colour and may join."""
        return self.kind, self.function


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The bars, ordered by lane and begin.

    names: the workers of each lane. n_hidden: number of workers for which there was no lane left.
    """

    names: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...]
    n_hidden: int

    __repr__ = brief


def start_kind(span: Span) -> str:
    """Returns "cold" or "warm", from the detail of a span that belongs to a start."""
    return "cold" if "cold" in span.detail else "warm"


def lanes(
    trace: Trace, functions: Sequence[str], *, pixel_s: float, max_bars: int = MAX_BARS
) -> Lanes:
    """The bars of a trace when one pixel lasts pixel_s. O(spans log spans).

    functions: of each step, by position.
    """
    lane_of, names, n_hidden = _assigned(trace)
    cell_s = pixel_s
    merged = _merged(*_bars(trace, lane_of, functions, cell_s), cell_s)

    # Wider cells until there are few enough bars; 1,024 pixels are all that a picture has.
    while len(merged) > max_bars and cell_s < pixel_s * 1_024:
        cell_s *= 2
        wide, narrow = [], []
        for bar in merged:
            if bar.end_s - bar.begin_s < cell_s:
                narrow.append(bar)
            else:
                wide.append(bar)
        merged = _merged(wide, narrow, cell_s)
    return Lanes(names=names, bars=tuple(merged), n_hidden=n_hidden)


def _bars(
    trace: Trace, lane_of: Mapping[str, int], functions: Sequence[str], cell_s: float
) -> tuple[list[Bar], list[Bar]]:
    """Wide bars, one a span; and narrow ones, one for all spans of a look that begin in a cell."""
    lost = LostAttempts.of(trace.spans)
    wide: list[Bar] = []
    narrow: dict[tuple[int, tuple[str, str], int], _Sum] = {}
    for span in trace.spans:
        lane = lane_of.get(span.worker)
        if lane is None or span.phase in _UNSEEN:
            continue
        # A worker's clock may be behind the client's, and may be set back during a span.
        begin = max(0.0, span.begin_s - trace.submitted_s)
        end = max(begin, span.end_s - trace.submitted_s)
        look = (LOST, "") if _is_lost_run(span, lost) else _look(span, functions)
        if cell_s <= 0 or end - begin >= cell_s:
            wide.append(_Sum(begin, end, end - begin, 1, span).bar(lane, look))
            continue

        # Summed without a Bar for each span: a trace may have millions that are this narrow.
        key = (lane, look, int(begin / cell_s))
        known = narrow.get(key)
        if known is None:
            narrow[key] = _Sum(begin, end, end - begin, 1, span)
        else:
            known.end_s = max(known.end_s, end)
            known.busy_s += end - begin
            known.n += 1
    return wide, [total.bar(lane, look) for (lane, look, _), total in narrow.items()]


@dataclass(slots=True)
class _Sum:
    """A bar that still grows; spans come in the order of their begin."""

    begin_s: float
    end_s: float
    busy_s: float
    n: int
    first: Span

    def bar(self, lane: int, look: tuple[str, str]) -> Bar:
        kind, function = look
        return Bar(
            lane=lane,
            kind=kind,
            function=function,
            is_traffic=self.first.phase in TRAFFIC,
            begin_s=self.begin_s,
            end_s=self.end_s,
            busy_s=self.busy_s,
            n=self.n,
            first=self.first,
        )


def _is_lost_run(span: Span, lost: LostAttempts) -> bool:
    return span.phase is Phase.RUN and lost.has(span)


def _look(span: Span, functions: Sequence[str]) -> tuple[str, str]:
    if span.phase is Phase.RUN:
        is_known = 0 <= span.task < len(functions)
        return span.phase.value, functions[span.task] if is_known else "?"
    if span.is_start:
        return start_kind(span), ""
    return span.phase.value, ""


def _assigned(trace: Trace) -> tuple[dict[str, int], tuple[tuple[str, ...], ...], int]:
    """Assign workers to lanes.

    Returns:
        worker -> lane.
        the workers of each lane.
        number of workers that got no lane.
    """
    lifetimes: dict[str, tuple[float, float]] = {}
    for worker, spans in trace.by_worker.items():
        if worker:  # spans of the client have none
            begin_s = min(span.begin_s for span in spans)
            lifetimes[worker] = (begin_s, max(span.end_s for span in spans))

    is_shared = len(lifetimes) > OWN_LANES
    workers = sorted(lifetimes, key=lambda worker: (len(worker), worker))  # w2 before w10
    if is_shared:
        workers.sort(key=lambda worker: lifetimes[worker][0])

    lane_of: dict[str, int] = {}
    names: list[list[str]] = []
    taken_until: list[tuple[float, int]] = []  # a heap: the lane that is free first comes first
    for worker in workers:
        begin, end = lifetimes[worker]
        if is_shared and taken_until and taken_until[0][0] <= begin:
            lane = heapq.heappop(taken_until)[1]
        elif len(names) < MAX_LANES:
            lane = len(names)
            names.append([])
        else:
            continue
        heapq.heappush(taken_until, (end, lane))
        lane_of[worker] = lane
        names[lane].append(worker)
    return lane_of, tuple(map(tuple, names)), len(lifetimes) - len(lane_of)


def _merged(wide: Iterable[Bar], narrow: Iterable[Bar], cell_s: float) -> list[Bar]:
    """Wide bars unchanged, narrow ones joined cell by cell; by lane and begin."""
    cells: dict[_Cell, dict[tuple[str, str], Bar]] = defaultdict(dict)
    for bar in narrow:
        cell = cells[bar.lane, bar.is_traffic, int(bar.begin_s / cell_s)]
        known = cell.get(bar.look)
        cell[bar.look] = bar if known is None else _joined(known, bar)
    merged = [*wide, *_chains(cells, cell_s)]
    return sorted(merged, key=lambda bar: (bar.lane, bar.begin_s, bar.look))


def _chains(cells: Mapping[_Cell, Mapping[tuple[str, str], Bar]], cell_s: float) -> list[Bar]:
    """One bar a cell, of the look with most time there; neighbours of equal look become one."""
    chains: list[Bar] = []
    # By lane, row and number of the cell, so that neighbours follow one another.
    for key in sorted(cells):
        longest = max(cells[key].values(), key=lambda bar: (bar.busy_s, bar.look))
        if chains and _is_next(chains[-1], longest, cell_s):
            chains[-1] = _joined(chains[-1], longest)
        else:
            chains.append(longest)
    return chains


def _is_next(a: Bar, b: Bar, cell_s: float) -> bool:
    """Returns whether b begins where a ends, in the same row and look."""
    is_alike = (a.lane, a.is_traffic, a.look) == (b.lane, b.is_traffic, b.look)
    return is_alike and b.begin_s - a.end_s < cell_s


def _joined(a: Bar, b: Bar) -> Bar:
    return Bar(
        lane=a.lane,
        kind=a.kind,
        function=a.function,
        is_traffic=a.is_traffic,
        begin_s=min(a.begin_s, b.begin_s),
        end_s=max(a.end_s, b.end_s),
        busy_s=a.busy_s + b.busy_s,
        n=a.n + b.n,
        first=a.first,
    )
