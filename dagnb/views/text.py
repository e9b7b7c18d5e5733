"""Graphs, plans and traces for a terminal: plain text, no colours, nothing that could steer the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph import shape
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.trace.span import STARTING, Phase, Span
from dagnb.trace.trace import Trace
from dagnb.views import layout
from dagnb.views.lanes import TRAFFIC
from dagnb.views.markup import plain, shortened
from dagnb.views.palette import STATES
from dagnb.views.plan import place_text, summary
from dagnb.views.predicted import forecast_lines
from dagnb.views.wording import bytes_text, counted, seconds_text

MAX_WORKERS = 40
"""so many workers have a line"""

_COLUMNS = 50
_NAME = 28
_PER_LINE = 6


def dag_text(dag: Dag) -> str:
    """The DAG, a line a box of its picture: what it is, how many tasks, and where its values go."""
    picture = layout.of_dag(dag)
    labels = [
        _name(box.label) + (f" x{len(box.tasks):,}" if len(box.tasks) > 1 else "")
        for box in picture.boxes
    ]
    heads: dict[int, list[str]] = defaultdict(list)
    for edge in picture.edges:
        heads[edge.tail].append(labels[edge.head])
    wide = max(map(len, labels))
    depth = 1 + max(shape.levels(dag))
    lines = [f"{counted(len(dag), 'task')}, {counted(depth, 'level')}"]
    for i, label in enumerate(labels):
        lines.append(f"  {label:<{wide}}  -> {_listed(heads[i])}" if heads[i] else f"  {label}")
    return "\n".join(lines)


def plan_text(plan: Plan) -> str:
    """The plan: its summary, what is foretold of it, then the steps of each worker in the order it prefers."""
    steps_of: dict[str, list[int]] = defaultdict(list)
    for position, step in enumerate(plan.steps):
        steps_of[step.worker if step.worker is not None else f"~{step.resources.label()}"].append(
            position
        )
    workers = sorted(steps_of, key=lambda worker: (len(worker), worker))
    outlook = forecast_of(plan)
    lines = [
        summary(plan),
        *(f"  {plain(line)}" for line in (forecast_lines(outlook) if outlook is not None else ())),
    ]
    for worker in workers[:MAX_WORKERS]:
        mine = sorted(steps_of[worker], key=lambda position: plan.steps[position].priority)
        lines.append(
            f"  {_name(place_text(worker))}: {_listed([_name(plan.names[position]) for position in mine])}"
        )
    if len(workers) > MAX_WORKERS:
        lines.append(f"  and {counted(len(workers) - MAX_WORKERS, 'more worker')}")
    return "\n".join([*lines, *(f"  note: {plain(note)}" for note in plan.notes)])


def trace_text(trace: Trace) -> str:
    """The trace: makespan, seconds by phase, and a bar a worker (`#` runs, `~` moves or pickles values, `.` starts)."""
    head = f"makespan {seconds_text(trace.makespan_s)}, {counted(len(trace.workers), 'worker')}"
    head += f", {trace.ran_parallel():.1f} functions at a time, {bytes_text(trace.moved_bytes())} through the store"
    totals = trace.by_phase()
    most = max(totals.values(), default=0.0) or 1.0
    lines = [head]
    for phase, total in totals.items():
        lines.append(
            f"  {phase:<8} {seconds_text(total):>12}  {'#' * round(30 * max(total, 0.0) / most)}".rstrip()
        )
    names = sorted(trace.workers, key=lambda worker: (len(worker), worker))
    wide = max((len(_name(worker)) for worker in names[:MAX_WORKERS]), default=0)
    lines += [
        f"  {_name(worker):<{wide}} |{_lane(trace, worker)}|" for worker in names[:MAX_WORKERS]
    ]
    if len(names) > MAX_WORKERS:
        lines.append(f"  and {counted(len(names) - MAX_WORKERS, 'more worker')}")
    return "\n".join(lines)


def counts_text(counts: Mapping[str, int]) -> str:
    """How many tasks are in which state: "221 of 359 tasks done, 8 running, 1 failed"."""
    total = sum(counts.values())
    parts = [f"{counts.get('done', 0):,} of {counted(total, 'task')} done"]
    order = [state for state in STATES if state != "done"] + [
        state for state in counts if state not in STATES
    ]
    return ", ".join(
        [*parts, *(f"{counts[state]:,} {plain(state)}" for state in order if counts.get(state))]
    )


def _name(text: str) -> str:
    """A name on one line and not too long."""
    return shortened(" ".join(plain(text).split()), _NAME)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _PER_LINE:,} more" if len(names) > _PER_LINE else ""
    return ", ".join(names[:_PER_LINE]) + more


def _lane(trace: Trace, worker: str) -> str:
    """What a worker did over the makespan, a character for each fiftieth: of what took most of it."""
    cells: list[dict[str, float]] = [{} for _ in range(_COLUMNS)]
    cell_s = trace.makespan_s / _COLUMNS
    if not cell_s > 0:
        return " " * _COLUMNS
    for span in trace.by_worker[worker]:
        if (sign := _sign(span)) is None:
            continue
        begin, end = (
            (moment - trace.submitted_s) / cell_s for moment in (span.begin_s, span.end_s)
        )
        for i in range(max(0, int(begin)), min(_COLUMNS, int(end) + 1)):
            share = min(end, i + 1) - max(begin, i)
            cells[i][sign] = cells[i].get(sign, 0.0) + max(share, 0.0)
    return "".join(max(cell, key=lambda sign: cell[sign]) if cell else " " for cell in cells)


def _sign(span: Span) -> str | None:
    if span.phase is Phase.RUN:
        return "#"
    if span.phase in STARTING:
        return "."
    return "~" if span.phase in TRAFFIC or span.phase in {Phase.LOAD, Phase.DUMP} else None
