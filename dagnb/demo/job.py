"""The demo from end to end: read, plan, run, watch, check, and leave a report that a browser opens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dagnb import client
from dagnb.demo.identifiers import chunks, count_identifiers, library_sources, merged, top
from dagnb.demo.worker_log import WorkerWatcher, slots_text, starts_text
from dagnb.graph.node import Node
from dagnb.handle import Run
from dagnb.planning.plan import Plan
from dagnb.progress import watch
from dagnb.storage.home import state_directory, write_output
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace
from dagnb.views.plan import plan_svg
from dagnb.views.show import picture_or
from dagnb.views.text import plan_text, trace_text
from dagnb.views.wording import bytes_text, counted, seconds_text

N_CHUNKS = 28
FAN_IN = 4
N_TOP = 10

Counts = Counter[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What can be chosen; None is the session's default, or ours. out: folder of the report; limit_mb: of sources."""

    planner: Any = None
    workers: Any = None
    store: Any = None
    out: Path | None = None
    limit_mb: float | None = None


def run_demo(choice: Choice, stream: TextIO) -> bool:
    """Count the identifiers of the standard library; whether the run counted what one process counts alone.

    Raises what dagnb.run and Run.result raise.
    """
    texts = library_sources(None if choice.limit_mb is None else choice.limit_mb * 1e6)
    size = sum(map(len, texts))
    _say(
        stream,
        f"Identifiers of Python's own library: {counted(len(texts), 'file')}, {bytes_text(size)} of source.",
    )
    nodes = _nodes(texts)
    terms = {"planner": choice.planner, "workers": choice.workers}
    plan = client.plan(*nodes, **terms)
    _say(stream, f"Graph: {_shape(plan)}.", f"Plan:  {plan_text(plan)}", "")
    run = client.run(*nodes, name="identifiers", store=choice.store, **terms)
    with WorkerWatcher(run.id, choice.workers) as onlooker:
        watch(run, stream=stream)
        counts, best = run.result()
    trace = run.trace
    _say(
        stream,
        "",
        _participants(trace),
        *slots_text(onlooker.seats),
        *starts_text(trace),
        onlooker.left_text(),
    )
    _say(stream, "", trace_text(trace), "")
    is_equal = _check(texts, counts, best, trace, stream)
    _say(stream, "", *_leave(run, plan, trace, choice.out or state_directory() / "demo"))
    return is_equal


def _nodes(texts: Sequence[str]) -> tuple[Node[Counts], Node[list[tuple[str, int]]]]:
    """The sum of all counts, and the commonest of it.

    count x28 -> merge x7 -> merge x2 -> merge -> top
    """
    total = merged([count_identifiers(chunk) for chunk in chunks(texts, N_CHUNKS)], FAN_IN)
    return total, top(total, N_TOP)


def _shape(plan: Plan) -> str:
    """The graph in a line: which functions, how often."""
    functions = Counter(call.function for call in plan.dag.calls)
    return f"{counted(len(plan.dag), 'task')}: " + ", ".join(
        f"{name} x{n}" for name, n in functions.items()
    )


def _participants(trace: Trace) -> str:
    """Who ran how many tasks."""
    ran = Counter(span.worker for span in trace.spans if span.phase is Phase.RUN)
    shares = ", ".join(f"{worker} ran {n}" for worker, n in sorted(ran.items()))
    return f"{counted(len(ran), 'worker')} took part: {shares}."


def _check(
    texts: Sequence[str],
    counts: Counts,
    best: Sequence[tuple[str, int]],
    trace: Trace,
    stream: TextIO,
) -> bool:
    """Count alone, in one go; compare every number."""
    began = time.perf_counter()
    alone = count_identifiers.function(list(texts))
    took_s = time.perf_counter() - began
    wide = max(len(name) for name, _ in best)
    lines = [f"  {name:<{wide}} {n:>8,} {alone[name]:>8,}" for name, n in best]
    _say(stream, f"  {'identifier':<{wide}} {'run':>8} {'alone':>8}", *lines)
    is_equal = counts == alone and best == top.function(alone, N_TOP)
    _say(stream, "", _verdict(counts, alone, is_equal=is_equal))
    begun_s = (
        min(span.begin_s for span in trace.spans if span.phase is Phase.RUN) - trace.submitted_s
    )
    run_took = f"The run took {seconds_text(trace.makespan_s)}"
    before = f"{seconds_text(begun_s)} of it until its first function began"
    _say(stream, f"{run_took}, {before}; one process alone took {seconds_text(took_s)}.")
    return is_equal


def _verdict(counts: Counts, alone: Counts, *, is_equal: bool) -> str:
    if is_equal:
        return f"EQUAL: all {len(alone):,} identifiers, {alone.total():,} occurrences."
    wrong = sorted(name for name in {*counts, *alone} if counts[name] != alone[name])
    shown = ", ".join(f"{name} {counts[name]:,} instead of {alone[name]:,}" for name in wrong[:5])
    return f"DIFFERENT: the run counted {counted(len(wrong), 'identifier')} wrongly: {shown or 'the order of the top'}."


def _leave(run: Run[Any], plan: Plan, trace: Trace, folder: Path) -> list[str]:
    """Write report, planning image and trace; returns where, a line each."""
    report = write_output(folder / "report.html", run.to_html(), make_folder=True)
    folder = folder.absolute()
    write_output(folder / "trace.json", trace.to_json())
    picture, missing = picture_or(lambda: plan_svg(plan))
    if picture:
        write_output(folder / "plan.svg", picture)
    return [
        f"Report: {report}",
        f"Plan:   {folder / 'plan.svg' if picture else missing}",
        f"Trace:  {folder / 'trace.json'}",
    ]


def _say(stream: TextIO, *lines: str) -> None:
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()
