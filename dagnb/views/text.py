"""Graphs, plans and traces for a terminal: plain text, without control characters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph import shape
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.trace.trace import Phase, Span, Trace
from dagnb.trace.utilisation import utilisation
from dagnb.views import layout
from dagnb.views.lanes import TRAFFIC
from dagnb.views.layout import Placement
from dagnb.views.markup import plain, shortened
from dagnb.views.palette import STATES
from dagnb.views.plan import forecast_lines, placement_text, summary
from dagnb.views.remarks import advice_lines
from dagnb.views.time_use import used_text
from dagnb.views.wording import bytes_text, counted, listed, seconds_text
from dagnb.worker_label import worker_text

MAX_WORKERS = 40
"""workers that have a line of their own"""

_COLUMNS = 50
_NAME = 28
_PER_LINE = 6


def dag_text(dag: Dag) -> str:
    """The DAG, a line for each box of its picture: its name, its tasks, and where its values go."""
    picture = layout.of_dag(dag)
    labels = []
    for box in picture.boxes:
        label = _name(box.label)
        if len(box.tasks) > 1:
            label += f" x{len(box.tasks):,}"
        labels.append(label)
    heads: dict[int, list[str]] = defaultdict(list)
    for edge in picture.edges:
        heads[edge.tail].append(labels[edge.head])

    wide = max(map(len, labels))
    depth = 1 + max(shape.levels(dag))
    lines = [f"{counted(len(dag), 'task')}, {counted(depth, 'level')}"]
    for i, label in enumerate(labels):
        if heads[i]:
            lines.append(f"  {label:<{wide}}  -> {listed(heads[i], _PER_LINE)}")
        else:
            lines.append(f"  {label}")
    return "\n".join(lines)


def plan_text(plan: Plan) -> str:
    """The plan: summary, forecast, and the steps of each worker in the order it prefers."""
    lines = [summary(plan)]
    outlook = forecast_of(plan)
    if outlook is not None:
        lines += [f"  {plain(line)}" for line in forecast_lines(outlook)]

    steps_of: dict[str, list[int]] = defaultdict(list)
    for position, step in enumerate(plan.steps):
        steps_of[placement_text(Placement.of(step))].append(position)
    names = _natural(steps_of)
    for name in names[:MAX_WORKERS]:
        order = sorted(steps_of[name], key=lambda position: plan.steps[position].priority)
        steps = listed([_name(plan.names[position]) for position in order], _PER_LINE)
        lines.append(f"  {_name(name)}: {steps}")
    if len(names) > MAX_WORKERS:
        lines.append(f"  and {counted(len(names) - MAX_WORKERS, 'more worker')}")
    notes = [*advice_lines(plan), *(f"note: {note}" for note in plan.notes)]
    lines += [f"  {plain(note)}" for note in notes]
    return "\n".join(lines)


def trace_text(trace: Trace) -> str:
    """The trace: makespan, use of the workers, seconds by phase, and a bar for each worker.

    In a bar, `#` is a running function, `~` values that move or are pickled, `.` a start.
    """
    n_workers = counted(len(trace.workers), "worker")
    head = f"makespan {seconds_text(trace.makespan_s)}, {n_workers}"
    head += f", average parallelism {trace.ran_parallel():.1f}"
    lines = [f"{head}, {bytes_text(trace.moved_bytes())} through the store"]
    if used := used_text(utilisation(trace)):
        lines.append(f"  {used}")
    totals = trace.by_phase()
    totals.pop(Phase.QUEUE, None)  # tasks wait at the same time: that is no worker's time
    most = max(totals.values(), default=0.0) or 1.0
    for phase, total in totals.items():
        bar = "#" * round(30 * max(total, 0.0) / most)
        lines.append(f"  {phase:<8} {seconds_text(total):>12}  {bar}".rstrip())

    workers = _natural(trace.workers)
    names = [_name(worker_text(worker)) for worker in workers[:MAX_WORKERS]]
    wide = max(map(len, names), default=0)
    for worker, name in zip(workers, names, strict=False):  # there may be more workers than lines
        lines.append(f"  {name:<{wide}} |{_lane(trace, worker)}|")
    if len(workers) > MAX_WORKERS:
        lines.append(f"  and {counted(len(workers) - MAX_WORKERS, 'more worker')}")
    return "\n".join(lines)


def counts_text(counts: Mapping[str, int]) -> str:
    """The number of tasks in each state: "221 of 359 tasks done, 8 running, 1 failed"."""
    total = sum(counts.values())
    text = f"{counts.get('done', 0):,} of {counted(total, 'task')} done"
    # States that a newer store knows, and this version does not, come last.
    for state in dict.fromkeys([*STATES, *counts]):
        if state != "done" and counts.get(state):
            text += f", {counts[state]:,} {plain(state)}"
    return text


def _natural(names: Iterable[str]) -> list[str]:
    """Names in the order of their numbers: w2 before w10."""
    return sorted(names, key=lambda name: (len(name), name))


def _name(text: str) -> str:
    """A name on one line and not too long."""
    return shortened(" ".join(plain(text).split()), _NAME)


def _lane(trace: Trace, worker: str) -> str:
    """A worker's bar: for each fiftieth of the makespan, the sign of what took most of it."""
    cell_s = trace.makespan_s / _COLUMNS
    if not cell_s > 0:
        return " " * _COLUMNS
    cells: list[dict[str, float]] = [{} for _ in range(_COLUMNS)]
    for span in trace.by_worker[worker]:
        sign = _sign(span)
        if sign is None:
            continue
        begin = (span.begin_s - trace.submitted_s) / cell_s
        end = (span.end_s - trace.submitted_s) / cell_s
        for i in range(max(0, int(begin)), min(_COLUMNS, int(end) + 1)):
            share = min(end, i + 1) - max(begin, i)
            cells[i][sign] = cells[i].get(sign, 0.0) + max(share, 0.0)
    return "".join(max(cell, key=cell.__getitem__, default=" ") for cell in cells)


def _sign(span: Span) -> str | None:
    if span.phase is Phase.RUN:
        return "#"
    if span.is_start:
        return "."
    if span.phase in TRAFFIC or span.phase in {Phase.LOAD, Phase.IMPORT, Phase.DUMP}:
        return "~"
    return None
