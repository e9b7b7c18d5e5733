"""The planning image: who computes what, on which worker, and with a prediction also when, why and at what cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.plan import Plan, Way
from dagnb.trace.critical import Segment, Window, critical_path, explained, windows
from dagnb.trace.trace import Trace
from dagnb.views import layout
from dagnb.views.canvas import LegendEntry, Piece, chip, stacked
from dagnb.views.explained import explained_bar, explained_text
from dagnb.views.layout import Box, Edge, Picture
from dagnb.views.markup import element
from dagnb.views.palette import PLAIN, colours
from dagnb.views.predicted import forecast_lines
from dagnb.views.sketch import Look, Stroke, sketched
from dagnb.views.timeline import timeline
from dagnb.views.wording import counted, seconds_text, window_text

_LISTED = 12
"""so many workers stand in the legend, and names in a tooltip"""

_MAX_BARS = 600
_LEAST, _MOST = 720.0, 1_100.0
"""bars and pixels of the timeline of a plan"""

_DASHES = {Way.STORE: None, Way.LOCAL: None, Way.INLINE: "1.5 3", Way.STREAM: "7 3"}
_WORDS = {
    Way.LOCAL: "stays on its worker",
    Way.INLINE: "travels with the message",
    Way.STREAM: "streamed while stored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the image says beside the plan.

    hot: step of the critical path -> the one before it, None for the first. copies: steps that compute again.
    why: step -> its segments of the makespan.
    """

    plan: Plan
    picture: Picture
    tint: Mapping[str, str]
    busy: Mapping[int, Window]
    hot: Mapping[int, int | None]
    copies: frozenset[int]
    why: Mapping[int, Sequence[Segment]]


def plan_svg(plan: Plan, predicted: Trace | None = None) -> str:
    """The plan as SVG: a colour a worker, floating steps dashed, copies doubled.

    predicted: instead of the outlook of a plan that knows what it was made for. With either also times, the critical
    path bold, the makespan explained, and a timeline. Raises ConfigError with the cure when there is no Graphviz.
    """
    outlook = forecast_of(plan) if predicted is None else None
    if outlook is not None:
        predicted = outlook.trace
    title = summary(plan)
    if predicted is not None and outlook is None:
        title += f", predicted {seconds_text(predicted.makespan_s)}"
    segments = (
        explained([step.upstream for step in plan.steps], plan.sinks, predicted)
        if predicted
        else ()
    )
    said = forecast_lines(outlook) if outlook is not None else []
    pieces = [_graph(_facts(plan, predicted, segments), title, said)]
    if predicted is not None:
        width = min(max(pieces[0].width, _LEAST), _MOST)
        functions = [plan.dag.calls[step.task].function for step in plan.steps]
        pieces.append(explained_bar(segments, width=width, title=_explained_title(predicted)))
        pieces.append(timeline(predicted, functions, width=width, max_bars=_MAX_BARS))
    return stacked(*pieces, label=f"plan: {'; '.join([title, *said[:1]])}")


def _explained_title(predicted: Trace) -> str:
    return f"where {seconds_text(predicted.makespan_s)} go, at median prices"


def _graph(facts: _Facts, title: str, said: Sequence[str]) -> Piece:
    """Boxes and arrows, below what is said."""
    looks = [_look(facts, box) for box in facts.picture.boxes]
    strokes = [_stroke(facts, edge) for edge in facts.picture.edges]
    return sketched(
        facts.picture,
        looks,
        strokes,
        title=title,
        facts=said,
        entries=_legend(facts),
        notes=_notes(facts.plan),
        least=_LEAST if facts.busy else 420.0,
    )


def summary(plan: Plan) -> str:
    """The plan in one line."""
    pinned = {step.worker for step in plan.steps if step.worker is not None}
    floating = sum(step.worker is None for step in plan.steps)
    parts = [f"{plan.planner}: {counted(len(plan.steps), 'step')}"]
    if pinned:
        parts.append(f"{len(plan.steps) - floating:,} pinned to {counted(len(pinned), 'worker')}")
    if floating:
        parts.append(f"{floating:,} floating")
    if copies := copied(plan):
        parts.append(counted(len(copies), "copy"))
    return ", ".join(parts)


def copied(plan: Plan) -> frozenset[int]:
    """Steps that compute a task once more, after its first step."""
    seen: set[int] = set()
    again = set()
    for position, step in enumerate(plan.steps):
        if step.task in seen:
            again.add(position)
        seen.add(step.task)
    return frozenset(again)


def place_text(place: str) -> str:
    """The place of a box in words: a worker, or the pool any of whose members may take it."""
    if not place.startswith("~"):
        return place or "several workers"
    return f"any {place[1:]}" if place[1:] else "any worker"


def _facts(plan: Plan, predicted: Trace | None, segments: Iterable[Segment]) -> _Facts:
    why: dict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        why[segment.task].append(segment)
    path = critical_path(plan, predicted) if predicted is not None else ()
    return _Facts(
        plan=plan,
        picture=layout.of_plan(plan),
        tint=colours(step.worker for step in plan.steps if step.worker is not None),
        busy=windows(predicted) if predicted is not None else {},
        hot=dict(zip(path, (None, *path), strict=False)),
        copies=copied(plan),
        why=why,
    )


def _look(facts: _Facts, box: Box) -> Look:
    is_hot = not facts.hot.keys().isdisjoint(box.tasks)
    n = len(box.tasks)
    where = place_text(box.place) + _resources(facts.plan, box)
    lines = [f"{n:,} on {where}" if n > 1 else where]
    if (times := _times(facts, box)) is not None:
        lines.append(times)
    return Look(
        tip=_tip(facts, box, times),
        lines=lines,
        stripe=facts.tint.get(box.place, PLAIN),
        frame="stroke-ink" if is_hot else "stroke-edge",
        weight=2.4 if is_hot else 1.0,
        dash="5 3" if box.place.startswith("~") else None,
        is_double=any(step in facts.copies for step in box.tasks),
    )


def _resources(plan: Plan, box: Box) -> str:
    """What the workers of a box have, where it is not the default and the place does not say it."""
    labels = {plan.steps[step].resources.label() for step in box.tasks}
    label = labels.pop() if len(labels) == 1 else ""
    return f", {label}" if label and not box.place.startswith("~") else ""


def _times(facts: _Facts, box: Box) -> str | None:
    """From the first begin to the last end."""
    found = [facts.busy[step] for step in box.tasks if step in facts.busy]
    if not found:
        return None
    begin, end = min(w.begin_s for w in found), max(w.end_s for w in found)
    return window_text(max(begin, 0.0), end)


def _tip(facts: _Facts, box: Box, times: str | None) -> list[str]:
    names = [facts.plan.names[step] for step in box.tasks]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    first = facts.plan.steps[box.tasks[0]]
    lines = [", ".join(names[:_LISTED]) + more, place_text(box.place)]
    lines.append(f"resources {first.resources.label() or 'default'}, priority {first.priority}")
    if times is not None:
        lines.append(f"predicted {times}")
    lines += [
        _cause(facts, step) for step in [step for step in box.tasks if step in facts.hot][:_LISTED]
    ]
    if why := explained_text(
        [segment for step in box.tasks for segment in facts.why.get(step, ())]
    ):
        held_s = sum(
            segment.duration_s for step in box.tasks for segment in facts.why.get(step, ())
        )
        lines.append(f"{seconds_text(held_s)} of the makespan: {why}")
    if any(step in facts.copies for step in box.tasks):
        lines.append("a copy: computed again here instead of waiting for its value")
    return lines


def _cause(facts: _Facts, step: int) -> str:
    """Why a step of the critical path began no sooner."""
    name, before = facts.plan.names[step], facts.hot[step]
    if before is None:
        return f"critical path: begins with {name}"
    if before in facts.plan.steps[step].upstream:
        return f"critical path: {name} waits for {facts.plan.names[before]}"
    return f"critical path: {name} waits for its worker, busy with {facts.plan.names[before]}"


def _stroke(facts: _Facts, edge: Edge) -> Stroke:
    """Bold where the critical path runs along; dashed as the value travels, if all of the edge travel alike."""
    boxes = facts.picture.boxes
    tails, heads = set(boxes[edge.tail].tasks), set(boxes[edge.head].tasks)
    is_hot = any(
        facts.hot.get(b) in tails and facts.hot[b] in facts.plan.steps[b].upstream for b in heads
    )
    ways = {facts.plan.way(a, b) for b in heads for a in facts.plan.steps[b].upstream if a in tails}
    way = ways.pop() if len(ways) == 1 else Way.STORE
    role = "ink" if is_hot else "done" if way is Way.LOCAL else "edge"
    return Stroke(role=role, weight=2.6 if is_hot else 1.4, dash=_DASHES[way])


def _legend(facts: _Facts) -> list[LegendEntry]:
    plan = facts.plan
    shown = sorted(facts.tint, key=lambda worker: (len(worker), worker))
    entries = [
        LegendEntry(mark=chip(facts.tint[worker]), words=_terms(plan, worker))
        for worker in shown[:_LISTED]
    ]
    if len(shown) > _LISTED:
        entries.append(
            LegendEntry(mark=chip(PLAIN), words=f"{len(shown) - _LISTED:,} more workers")
        )
    if any(step.worker is None for step in plan.steps):
        entries.append(
            LegendEntry(
                mark=_box_mark("stroke-edge", 1.0, "3 2"), words="floating: any worker of the pool"
            )
        )
    if facts.copies:
        entries.append(
            LegendEntry(
                mark=_box_mark("stroke-edge", 1.0) + _box_mark("stroke-edge", 1.0, inset=3),
                words="copy",
            )
        )
    if facts.hot:
        entries.append(LegendEntry(mark=_box_mark("stroke-ink", 2.4), words="critical path"))
    ways = [way for way in _WORDS if way in set(plan.ways.values())]
    return entries + [LegendEntry(mark=_line_mark(way), words=_WORDS[way]) for way in ways]


def _terms(plan: Plan, worker: str) -> str:
    """A worker with its resources and how long it may linger."""
    resources = next(step.resources for step in plan.steps if step.worker == worker).label()
    linger_s = plan.workers[worker].linger_s if worker in plan.workers else 0.0
    details = [resources] if resources else []
    if linger_s:
        details.append(f"lingers {seconds_text(linger_s)}")
    return f"{worker} ({', '.join(details)})" if details else worker


def _box_mark(look: str, weight: float, dash: str | None = None, inset: float = 0) -> str:
    size = 10 - 2 * inset
    frame = {"x": inset, "y": inset, "width": size, "height": size, "rx": 2.0}
    return element(
        "rect", class_=look, fill="none", stroke_width=weight, stroke_dasharray=dash, **frame
    )


def _line_mark(way: Way) -> str:
    role = "done" if way is Way.LOCAL else "edge"
    look, dash = f"stroke-{role}", _DASHES[way]
    return element(
        "path", d="M-1 5H12", class_=look, fill="none", stroke_width=2, stroke_dasharray=dash
    )


def _notes(plan: Plan) -> list[str]:
    """Prewarms and what the planner itself remarks."""
    notes = []
    for prewarm in plan.prewarms:
        after = (
            "submission" if prewarm.anchor is None else f"'{plan.dag.calls[prewarm.anchor].name}'"
        )
        wait = (
            f"{seconds_text(prewarm.offset_s)} after {after}" if prewarm.offset_s else f"at {after}"
        )
        resources = prewarm.resources.label() or "default"
        notes.append(f"prewarm {counted(prewarm.n, 'container')} of {resources} resources {wait}")
    return [*notes[:_LISTED], *plan.notes[:_LISTED]]
