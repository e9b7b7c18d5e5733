"""The picture of a graph, still or with the state of every task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dagnb.graph.dag import Dag
from dagnb.views import layout
from dagnb.views.canvas import LegendEntry
from dagnb.views.layout import Box, Picture, Progress
from dagnb.views.palette import PLAIN, STATES, colours
from dagnb.views.sketch import Look, Stroke, icon, sketch
from dagnb.views.wording import counted

_NAMED = 5
"""so many tasks of a folded box are named in its tooltip"""

_FILLED = ("done", "failed", "cancelled", "skipped", "retrying", "running")
"""the parts of a progress bar, from the left"""

_WIDEST_STATE = "\u00a0" * max(map(len, STATES))
"""blanks, so that a box is wide enough for the longest state"""

_FOLDED = "A box with a number stands for that many tasks."


def dag_svg(dag: Dag) -> str:
    """The DAG as SVG, a colour a function. Raises ConfigError with the cure when there is no Graphviz."""
    picture = layout.of_dag(dag)
    tint = colours(call.function for call in dag.calls)
    looks = []
    for box in picture.boxes:
        lines = (counted(len(box.tasks), "task"),) if len(box.tasks) > 1 else ()
        stripe = tint[box.function] if box.function is not None else PLAIN
        looks.append(Look(tip=_tip(dag, box), lines=lines, stripe=stripe, frame="stroke-edge"))
    notes = (_FOLDED,) if picture.is_folded else ()
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=f"graph of {counted(len(dag), 'task')}",
        notes=notes,
    )


def graph_svg(dag: Dag, states: Mapping[int, str] | None, *, is_styled: bool = True) -> str:
    """The DAG with states, by position; tasks without one are waiting. Without states it is dag_svg.

    For clicks: `data-task` holds a position, `data-tasks` all positions of a box (0-2,5), `data-box` its id in the
    Picture. is_styled: bring the style sheet along.
    """
    if states is None:
        return dag_svg(dag)
    picture = layout.of_dag(dag)
    looks = [_stated(dag, box, layout.progress(box, states)) for box in picture.boxes]
    entries = _legend(states.get(i, "waiting") for i in range(len(dag)))
    label = f"graph of {counted(len(dag), 'task')} and their states"
    notes = (_FOLDED,) if picture.is_folded else ()
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=label,
        entries=entries,
        notes=notes,
        is_styled=is_styled,
    )


def live_svg(dag: Dag, picture: Picture) -> str:
    """The picture a live view starts from: every task waiting, room for what will be said, without a style sheet.

    The browser recolours it: boxes are found by `data-box`, their words by class.
    """
    room = _WIDEST_STATE[len("waiting") :]
    looks = []
    for box in picture.boxes:
        n = len(box.tasks)
        looks.append(
            Look(
                tip=_tip(dag, box),
                lines=(f"waiting{room}" if n == 1 else f"{n:,} / {n:,}",),
                mark=icon("waiting"),
                frame="stroke-waiting",
                weight=1.2,
                bar=(("waiting", 0.0),) if n > 1 else (),
            )
        )
    label = f"graph of {counted(len(dag), 'task')} and their states"
    return sketch(picture, looks, _strokes(picture), label=label, is_styled=False)


def _strokes(picture: Picture) -> list[Stroke]:
    return [Stroke(weight=1.2 if edge.n == 1 else 1.8) for edge in picture.edges]


def _stated(dag: Dag, box: Box, now: Progress) -> Look:
    """The look of a box: its most pressing state, and how many of its tasks are done."""
    n = len(box.tasks)
    words = now.state if n == 1 else f"{now.counts.get('done', 0):,} / {n:,}"
    counts = ", ".join(f"{count:,} {state}" for state, count in now.counts.items())
    return Look(
        tip=(*_tip(dag, box), counts),
        lines=(words,),
        mark=icon(now.state),
        frame=f"stroke-{now.state}",
        weight=2.0 if now.state in {"failed", "running", "retrying"} else 1.2,
        dash="4 3" if now.state in {"waiting", "skipped"} else None,
        bar=[(state, now.counts[state] / n) for state in _FILLED if state in now.counts]
        if n > 1
        else (),
    )


def _legend(states: Iterable[str]) -> list[LegendEntry]:
    """Every state that occurs, with its count."""
    present = list(states)
    counts = {state: present.count(state) for state in STATES}
    return [
        LegendEntry(mark=icon(state), words=f"{n:,} {state}") for state, n in counts.items() if n
    ]


def _tip(dag: Dag, box: Box) -> tuple[str, ...]:
    """Tooltip: names, what goes in and out, what the user said of the task."""
    names = [dag.calls[i].name for i in box.tasks[:_NAMED]]
    more = f" and {len(box.tasks) - _NAMED:,} more" if len(box.tasks) > _NAMED else ""
    lines = [", ".join(names) + more]
    if len(box.tasks) == 1:
        task = box.tasks[0]
        call = dag.calls[task]
        lines.append(f"{len(call.upstream)} upstream, {len(dag.downstream[task])} downstream")
        if call.options.resources is not None or call.options.needs.label():
            lines.append(f"resources {call.options.needs.label() or 'default'}")
        if call.options.retries:
            lines.append(counted(call.options.retries, "retry"))
    return (*lines, "its value is a result") if set(box.tasks) & set(dag.sinks) else tuple(lines)
