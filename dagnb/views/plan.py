"""The picture of a plan, and a plan in words: the worker, time, cause and cost of each task.

Without a prediction the image shows steps and workers. With one it also shows times, the critical
path in bold, the makespan explained, and a timeline. The forecast is a percentile of many simulated
runs; the timeline is the one run in which every task takes its median duration. That run is
shorter: at a fan-in, half of all runs wait for a task that takes longer than its median.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.forecast.plan_forecast import PlanForecast, forecast_of
from dagnb.graph import shape
from dagnb.planning.bounds import certificate
from dagnb.planning.chains import ChainBreak
from dagnb.planning.plan import Forecast, Plan, Way
from dagnb.simulation.simulate import Outcome
from dagnb.trace.critical import Segment, Window, critical_path, explained, windows
from dagnb.trace.trace import Trace
from dagnb.views import layout
from dagnb.views.canvas import LegendEntry, Piece, chip, stacked
from dagnb.views.explained import explained_bar, explained_text
from dagnb.views.graph import Look, Stroke, sketched
from dagnb.views.layout import Box, Edge, Picture, Placement
from dagnb.views.markup import element
from dagnb.views.palette import PLAIN, colours
from dagnb.views.remarks import BREAK, Remarks, icon, remarks_on
from dagnb.views.timeline import timeline
from dagnb.views.wording import (
    counted,
    held_text,
    listed,
    resources_text,
    seconds_text,
    window_text,
)
from dagnb.worker_label import label_text

_LISTED = 12
"""workers in the legend, names in a tooltip, notes below: so many at most"""

_UNKNOWN = 4
"""functions without measurements that are named at most"""

_MAX_BARS = 600
_LEAST, _MOST = 720.0, 1_100.0
"""bars, least and greatest width in pixels of a plan's timeline"""

_DASHES = {Way.STORE: None, Way.LOCAL: None, Way.INLINE: "1.5 3", Way.STREAM: "7 3"}
_ROLES = {Way.LOCAL: "done"}
_WAYS = {
    Way.LOCAL: "stays on its worker",
    Way.INLINE: "travels with the message",
    Way.STREAM: "streamed while stored",
}


def summary(plan: Plan) -> str:
    """The plan in one line: "Planner heft: 19 tasks on 2 workers"."""
    n_pinned = 0
    workers = set()
    for step in plan.steps:
        if step.worker is not None:
            n_pinned += 1
            workers.add(step.worker)
    n_floating = len(plan.steps) - n_pinned
    n_copies = len(copied(plan))
    text = f"Planner {plan.planner}: {counted(len(plan.steps) - n_copies, 'task')}"
    on_workers = f"on {counted(len(workers), 'worker')}"
    if not n_pinned:
        text += ", any free worker takes the next"
    elif not n_floating:
        text += f" {on_workers}"
    else:
        text += f", {n_pinned:,} {on_workers}, {n_floating:,} for any free worker"
    if n_copies:
        text += f", {counted(n_copies, 'copy')}"
    return text


def copied(plan: Plan) -> frozenset[int]:
    """Steps that compute a task once more, after its first step."""
    seen: set[int] = set()
    copies = set()
    for position, step in enumerate(plan.steps):
        if step.task in seen:
            copies.add(position)
        seen.add(step.task)
    return frozenset(copies)


def placement_text(placement: Placement | None) -> str:
    """A placement in words: the worker, or the pool of which any worker may take a step."""
    if placement is None:
        return "several workers"
    if placement.pool is None:
        return placement.worker or ""
    label = label_text(placement.pool.label())
    return f"any worker ({label})" if label else "any worker"


def forecast_lines(outlook: PlanForecast) -> list[str]:
    """The forecast of a plan, a line each: makespan; cost and starts; the bound; evidence."""
    names = listed(outlook.unknown, _UNKNOWN)
    if not outlook.is_known:
        # Forecast, cost and bound would all be guesses.
        dag = outlook.problem.dag
        longest = 1 + max(shape.levels(dag))
        graph = f"{counted(len(dag), 'task')}, {longest:,} of them on the longest path"
        return [f"No forecast yet: {names} never ran", graph]

    lines = [f"Forecast: {forecast_text(outlook.forecast)}", outcome_text(outlook.outcome)]
    bound = outlook.bound
    # The bound holds at median durations: a run that is expected to be shorter has other ones.
    if outlook.forecast.p50_s >= bound.seconds:
        lines[1] += f" · {certificate(outlook.forecast.p50_s, bound)}"
        least = seconds_text(bound.seconds)
        lines.append(f"With these durations, no plan takes less than {least}: {bound.reason}")
    if names:
        known = f"{100 * outlook.known:.0f} %"
        lines.append(f"{names} never ran: {known} of the run time is known")
    else:
        lines.append("Durations from past runs or hints")
    return lines


def forecast_text(forecast: Forecast) -> str:
    """The median, and the band that holds 8 of 10 runs.

    >>> forecast_text(Forecast(p10_s=6.9, p50_s=7.5, p90_s=8.4))
    '7.5 s (6.9 to 8.4 s in 8 of 10 runs)'
    """
    median = seconds_text(forecast.p50_s)
    if forecast.p10_s == forecast.p90_s:
        return median
    return f"{median} ({window_text(forecast.p10_s, forecast.p90_s)} in 8 of 10 runs)"


def outcome_text(outcome: Outcome) -> str:
    """Memory held over time, and how workers start.

    >>> outcome_text(Outcome(makespan_s=1.0, gb_s=0.0312, n_cold=1, n_warm=2))
    '0.0312 GB·s · 1 cold start, 2 warm'
    """
    cold = counted(outcome.n_cold, "cold start")
    return f"{held_text(outcome.gb_s)} · {cold}, {outcome.n_warm:,} warm"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """The plan and what its image shows of it.

    tint: worker -> colour. busy: step -> its predicted window. hot: step of the critical path ->
    the one before it, None for the first. copies: steps that compute again. why: step -> its
    segments of the makespan. remarks: advice, and what breaks the chain rule.
    """

    plan: Plan
    picture: Picture
    tint: Mapping[str, str]
    busy: Mapping[int, Window]
    hot: Mapping[int, int | None]
    copies: frozenset[int]
    why: Mapping[int, Sequence[Segment]]
    remarks: Remarks


def plan_svg(
    plan: Plan, predicted: Trace | None = None, *, broken: ChainBreak | None = None
) -> str:
    """The plan as SVG: one colour per worker, floating steps dashed, copies with a double frame.

    predicted: a simulated run, drawn instead of the plan's own forecast. Without either, the
    picture shows no times. broken: is marked. Raises ConfigError with the cure when there is no
    Graphviz.
    """
    title = summary(plan)
    lines: list[str] = []
    if predicted is not None:
        title += f", forecast {seconds_text(predicted.makespan_s)}"
    elif (outlook := forecast_of(plan)) is not None:
        lines = forecast_lines(outlook)
        if outlook.is_known:
            predicted = outlook.trace

    segments: Sequence[Segment] = ()
    if predicted is not None:
        segments = explained([step.upstream for step in plan.steps], plan.sinks, predicted)
    facts = _facts(plan, predicted, segments, remarks_on(plan, broken))
    pieces = [_graph(facts, title, lines)]
    if predicted is not None:
        width = min(max(pieces[0].width, _LEAST), _MOST)
        functions = layout.step_functions(plan)
        pieces.append(explained_bar(segments, width=width, title=_explained_title(predicted)))
        pieces.append(timeline(predicted, functions, width=width, max_bars=_MAX_BARS))
    # The label is for screen readers: the planner and the forecast are enough.
    label = [title, *lines[:1]]
    if broken is not None:
        label.append(broken.text)
    return stacked(*pieces, label=f"plan: {'; '.join(label)}")


def _explained_title(predicted: Trace) -> str:
    whole = seconds_text(predicted.makespan_s)
    return f"Where the time goes: {whole} if every task takes its median duration"


def _facts(
    plan: Plan, predicted: Trace | None, segments: Iterable[Segment], remarks: Remarks
) -> _Facts:
    why: dict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        why[segment.task].append(segment)
    path: tuple[int, ...] = ()
    busy: Mapping[int, Window] = {}
    if predicted is not None:
        path, busy = critical_path(plan, predicted), windows(predicted)
    return _Facts(
        plan=plan,
        picture=layout.of_plan(plan),
        tint=colours(step.worker for step in plan.steps if step.worker is not None),
        busy=busy,
        # Each step of the path with the one before it; the first has none.
        hot=dict(zip(path, (None, *path), strict=False)),
        copies=copied(plan),
        why=why,
        remarks=remarks,
    )


def _graph(facts: _Facts, title: str, lines: Sequence[str]) -> Piece:
    """Draw boxes and arrows, below the title and the lines of the forecast."""
    return sketched(
        facts.picture,
        [_look(facts, box) for box in facts.picture.boxes],
        [_stroke(facts, edge) for edge in facts.picture.edges],
        title=title,
        facts=lines,
        entries=_legend(facts),
        notes=[*facts.remarks.captions, *_notes(facts.plan)],
        least=_LEAST if facts.busy else 420.0,  # as wide as the timeline below, if there is one
    )


def _look(facts: _Facts, box: Box) -> Look:
    frame, weight = "stroke-edge", 1.0
    if not facts.hot.keys().isdisjoint(box.tasks):
        frame, weight = "stroke-ink", 2.4
    role = facts.remarks.role(box.tasks)
    if role == BREAK:
        frame, weight = f"stroke-{role}", 3.0
    placement = _placement(facts.plan, box)
    if len(box.tasks) > 1:
        placement = f"{len(box.tasks):,} on {placement}"
    lines = [placement]
    times = _times(facts, box)
    if times is not None:
        lines.append(times)
    stripe = PLAIN
    if box.placement is not None and box.placement.worker is not None:
        stripe = facts.tint[box.placement.worker]
    return Look(
        tip=_tip(facts, box, times),
        lines=lines,
        mark=icon(role) if role else "",
        stripe=stripe,
        frame=frame,
        weight=weight,
        dash="5 3" if box.is_floating else None,
        is_double=not facts.copies.isdisjoint(box.tasks),
    )


def _placement(plan: Plan, box: Box) -> str:
    """The placement of a box, with the resources of its workers where these are not the default."""
    text = placement_text(box.placement)
    labels = {plan.steps[step].resources.label() for step in box.tasks}
    if len(labels) > 1 or box.is_floating:  # a pool's text says its resources already
        return text
    label = label_text(labels.pop())
    return f"{text}, {label}" if label else text


def _times(facts: _Facts, box: Box) -> str | None:
    """The window of a box in words: from the first begin to the last end of its steps."""
    busy = [facts.busy[step] for step in box.tasks if step in facts.busy]
    if not busy:
        return None
    # Below 0 where a worker's clock is behind the client's.
    begin = min(window.begin_s for window in busy)
    return window_text(max(begin, 0.0), max(window.end_s for window in busy))


def _tip(facts: _Facts, box: Box, times: str | None) -> list[str]:
    first = facts.plan.steps[box.tasks[0]]
    lines = [
        listed([facts.plan.names[step] for step in box.tasks], _LISTED),
        placement_text(box.placement),
        f"resources: {resources_text(first.resources)}, priority {first.priority}",
    ]
    if times is not None:
        lines.append(f"predicted: {times}")
    on_path = [step for step in box.tasks if step in facts.hot]
    lines += [_cause(facts, step) for step in on_path[:_LISTED]]

    segments: list[Segment] = []
    held_s = 0.0
    for step in box.tasks:
        for segment in facts.why.get(step, ()):
            segments.append(segment)
            held_s += segment.duration_s
    if why := explained_text(segments):
        lines.append(f"{seconds_text(held_s)} of the makespan: {why}")
    if not facts.copies.isdisjoint(box.tasks):
        lines.append("a copy: computed again here instead of waiting for its value")
    remarks: list[str] = []
    for step in box.tasks:
        remarks += facts.remarks.says.get(step, ())
    return lines + remarks[:_LISTED]


def _cause(facts: _Facts, step: int) -> str:
    """The reason why a step of the critical path began no sooner."""
    name, before = facts.plan.names[step], facts.hot[step]
    if before is None:
        return f"critical path: begins with {name}"
    if before in facts.plan.steps[step].upstream:
        return f"critical path: {name} waits for {facts.plan.names[before]}"
    return f"critical path: {name} waits for its worker, busy with {facts.plan.names[before]}"


def _stroke(facts: _Facts, edge: Edge) -> Stroke:
    """The look of an edge: bold on the critical path, and dashed by the way that values travel."""
    boxes = facts.picture.boxes
    tails = set(boxes[edge.tail].tasks)
    is_hot = is_broken = False
    ways = set()
    for step in boxes[edge.head].tasks:
        for before in facts.plan.steps[step].upstream:
            if before in tails:
                ways.add(facts.plan.way(before, step))
                is_hot = is_hot or facts.hot.get(step) == before
                is_broken = is_broken or (before, step) in facts.remarks.edges
    way = ways.pop() if len(ways) == 1 else Way.STORE
    if is_broken:
        return Stroke(role=BREAK, weight=3.0, dash=_DASHES[way])
    if is_hot:
        return Stroke(role="ink", weight=2.6, dash=_DASHES[way])
    return Stroke(role=_role(way), weight=1.4, dash=_DASHES[way])


def _role(way: Way) -> str:
    return _ROLES.get(way, "edge")


def _legend(facts: _Facts) -> list[LegendEntry]:
    """Workers, then what frames and lines mean, as far as they occur."""
    plan = facts.plan
    workers = sorted(facts.tint, key=lambda worker: (len(worker), worker))
    entries = [
        LegendEntry(mark=chip(facts.tint[worker]), words=_terms(plan, worker))
        for worker in workers[:_LISTED]
    ]
    if len(workers) > _LISTED:
        more = f"{len(workers) - _LISTED:,} more workers"
        entries.append(LegendEntry(mark=chip(PLAIN), words=more))
    if any(step.worker is None for step in plan.steps):
        dashed = _box_mark("stroke-edge", 1.0, "3 2")
        entries.append(LegendEntry(mark=dashed, words="any free worker"))
    if facts.copies:
        double = _box_mark("stroke-edge", 1.0) + _box_mark("stroke-edge", 1.0, inset=3)
        entries.append(LegendEntry(mark=double, words="copy"))
    if facts.hot:
        entries.append(LegendEntry(mark=_box_mark("stroke-ink", 2.4), words="critical path"))
    used = set(plan.ways.values())
    for way, name in _WAYS.items():
        if way in used:
            entries.append(LegendEntry(mark=_line_mark(way), words=name))
    return entries + facts.remarks.legend()


def _terms(plan: Plan, worker: str) -> str:
    """A worker with its resources and how long it may linger."""
    resources = next(step.resources for step in plan.steps if step.worker == worker)
    details = []
    if label := resources.label():
        details.append(label_text(label))
    terms = plan.workers.get(worker)
    if terms is not None and terms.linger_s:
        details.append(f"lingers {seconds_text(terms.linger_s)}")
    if terms is not None and terms.hold:
        details.append("holds its order")
    if not details:
        return worker
    return f"{worker} ({', '.join(details)})"


def _box_mark(look: str, weight: float, dash: str | None = None, inset: float = 0) -> str:
    size = 10 - 2 * inset
    frame = {"x": inset, "y": inset, "width": size, "height": size, "rx": 2.0}
    return element(
        "rect",
        class_=look,
        fill="none",
        stroke_width=weight,
        stroke_dasharray=dash,
        **frame,
    )


def _line_mark(way: Way) -> str:
    look, dash = f"stroke-{_role(way)}", _DASHES[way]
    return element(
        "path",
        d="M-1 5H12",
        class_=look,
        fill="none",
        stroke_width=2,
        stroke_dasharray=dash,
    )


def _notes(plan: Plan) -> list[str]:
    """Prewarms, and remarks of the planner itself."""
    notes = []
    for prewarm in plan.prewarms[:_LISTED]:
        after = "submission"
        if prewarm.anchor is not None:
            after = f"'{plan.dag.calls[prewarm.anchor].name}'"
        moment = f"at {after}"
        if prewarm.offset_s:
            moment = f"{seconds_text(prewarm.offset_s)} after {after}"
        containers = counted(prewarm.n, "container")
        notes.append(f"prewarm {containers} ({resources_text(prewarm.resources)}) {moment}")
    return [*notes, *plan.notes[:_LISTED]]
