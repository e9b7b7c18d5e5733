"""The picture of a DAG, without or with the state of every task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from dagnb.graph.dag import Dag
from dagnb.views import layout
from dagnb.views.canvas import LegendEntry
from dagnb.views.layout import Box, Picture, Progress
from dagnb.views.palette import PLAIN, STATES, colours
from dagnb.views.sketch import Look, Stroke, icon, sketch
from dagnb.views.wording import counted, listed, resources_text

_NAMED = 5
"""tasks of a folded box that its tooltip names"""

_FILLED = ("done", "failed", "cancelled", "skipped", "retrying", "running")
"""the parts of a progress bar, from the left"""

_WIDEST_STATE = "\u00a0" * max(map(len, STATES))
"""blanks, so that a box is wide enough for the longest state"""

_FOLDED = "Box = all tasks of one function."
_MIXED = "Box = all tasks of one function, or of several."


def dag_svg(dag: Dag) -> str:
    """The DAG as SVG, one colour per function. Raises ConfigError where there is no Graphviz."""
    picture = layout.of_dag(dag)
    tint = colours(call.function for call in dag.calls)
    looks = []
    for box in picture.boxes:
        lines = [counted(len(box.tasks), "task")] if len(box.tasks) > 1 else []
        stripe = tint.get(box.function or "", PLAIN)
        looks.append(Look(tip=_tip(dag, box), lines=lines, stripe=stripe, frame="stroke-edge"))
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=f"graph of {counted(len(dag), 'task')}",
        notes=_notes(picture),
    )


def graph_svg(dag: Dag, states: Mapping[int, str] | None, *, is_styled: bool = True) -> str:
    """The DAG as SVG with the state of each task. Without states it is what dag_svg draws.

    states: by position; a task without a state is waiting. For clicks, each box has `data-task`
    (its first position), `data-tasks` (all its positions, as 0-2,5) and `data-box` (its id in the
    Picture). is_styled: False inside a page that has our style sheet already.
    """
    if states is None:
        return dag_svg(dag)
    picture = layout.of_dag(dag)
    looks = [_stated(dag, box, layout.progress(box, states)) for box in picture.boxes]
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=_live_label(dag),
        entries=_legend(states.get(i, "waiting") for i in range(len(dag))),
        notes=_notes(picture),
        is_styled=is_styled,
    )


def live_svg(dag: Dag, picture: Picture) -> str:
    """The picture that a live view begins with: every task is waiting.

    Boxes are wide enough for every state, and there is no style sheet. The browser recolours boxes,
    which it finds by `data-box`, and changes their words, which it finds by class.
    """
    room = _WIDEST_STATE[len("waiting") :]
    looks = []
    for box in picture.boxes:
        n = len(box.tasks)
        line, bar = f"waiting{room}", []
        if n > 1:
            line = f"{n:,} / {n:,}"
            bar = [("waiting", 0.0)]  # of no length: the browser fills its track
        looks.append(
            Look(
                tip=_tip(dag, box),
                lines=(line,),
                mark=icon("waiting"),
                frame="stroke-waiting",
                weight=1.2,
                bar=bar,
            )
        )
    return sketch(
        picture,
        looks,
        _strokes(picture),
        label=_live_label(dag),
        is_styled=False,
    )


def _live_label(dag: Dag) -> str:
    return f"graph of {counted(len(dag), 'task')} and their states"


def _notes(picture: Picture) -> tuple[str, ...]:
    if not picture.is_folded:
        return ()
    is_mixed = any(box.function is None for box in picture.boxes)
    return (_MIXED,) if is_mixed else (_FOLDED,)


def _strokes(picture: Picture) -> list[Stroke]:
    return [Stroke(weight=1.2 if edge.n == 1 else 1.8) for edge in picture.edges]


def _stated(dag: Dag, box: Box, now: Progress) -> Look:
    """The look of a box: its most urgent state, and how many of its tasks are done."""
    n = len(box.tasks)
    # One task shows its state; several show how many are done, and a bar.
    line = now.state
    bar = []
    if n > 1:
        line = f"{now.counts.get('done', 0):,} / {n:,}"
        bar = [(state, now.counts[state] / n) for state in _FILLED if state in now.counts]
    counts = ", ".join(f"{count:,} {state}" for state, count in now.counts.items())
    return Look(
        tip=(*_tip(dag, box), counts),
        lines=(line,),
        mark=icon(now.state),
        frame=f"stroke-{now.state}",
        weight=2.0 if now.state in {"failed", "running", "retrying"} else 1.2,
        dash="4 3" if now.state in {"waiting", "skipped"} else None,
        bar=bar,
    )


def _legend(states: Iterable[str]) -> list[LegendEntry]:
    """Every state that occurs, with its count."""
    counts = Counter(states)
    entries = []
    for state in STATES:
        if n := counts[state]:
            entry = LegendEntry(mark=icon(state), words=f"{n:,} {state}")
            entries.append(entry)
    return entries


def _tip(dag: Dag, box: Box) -> list[str]:
    """The lines of a box's tooltip: names, and for a single task its edges and options."""
    lines = [listed([dag.calls[i].name for i in box.tasks], _NAMED)]
    if len(box.tasks) == 1:
        task = box.tasks[0]
        call = dag.calls[task]
        options = call.options
        lines.append(f"{len(call.upstream)} upstream, {len(dag.downstream[task])} downstream")
        if options.resources is not None or options.needs.label():
            lines.append(f"resources: {resources_text(options.needs)}")
        if options.retries:
            lines.append(counted(options.retries, "retry"))
    if not set(box.tasks).isdisjoint(dag.sinks):
        lines.append("its value is a result")
    return lines
