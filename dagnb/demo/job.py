"""The demo job: read, plan, run, watch, check, and write a report for the browser."""

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
from dagnb.graph.task import Node
from dagnb.handle import Run
from dagnb.planning.plan import Plan
from dagnb.progress import watch
from dagnb.storage.home import state_directory, write_output
from dagnb.trace.trace import Phase, Trace
from dagnb.views.plan import plan_svg
from dagnb.views.show import picture_or
from dagnb.views.text import plan_text, trace_text
from dagnb.views.wording import bytes_text, counted, seconds_text
from dagnb.worker_label import worker_text

N_CHUNKS = 28
FAN_IN = 4
N_TOP = 10

Counts = Counter[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The options of the demo; None means the session's setting.

    out: folder of the report. limit_mb: read at most this many megabytes of source.
    """

    planner: Any = None
    workers: Any = None
    store: Any = None
    out: Path | None = None
    limit_mb: float | None = None


def run_demo(choice: Choice, stream: TextIO) -> bool:
    """Counts the identifiers of the standard library, and prints the steps and results.

    Returns True if the run counted the same as this process alone. Raises what dagnb.run and
    Run.result raise.
    """
    limit_bytes = None if choice.limit_mb is None else choice.limit_mb * 1e6
    texts = library_sources(limit_bytes)
    amount = f"{counted(len(texts), 'file')}, {bytes_text(sum(map(len, texts)))} of source"
    _print(stream, f"Counting identifiers in Python's standard library: {amount}.")

    nodes = _nodes(texts)
    terms = {"planner": choice.planner, "workers": choice.workers}
    plan = client.plan(*nodes, **terms)
    _print(stream, f"Graph: {_functions_text(plan)}.", f"Plan:  {plan_text(plan)}", "")

    run = client.run(*nodes, name="identifiers", store=choice.store, **terms)
    with WorkerWatcher(run.id, choice.workers) as watcher:
        watch(run, stream=stream)
        counts, most_frequent = run.result()

    trace = run.trace
    _print(stream, "", _workers_text(trace), *slots_text(watcher.slots), *starts_text(trace))
    _print(stream, watcher.remaining_text(), "", trace_text(trace), "")
    is_equal = _check(texts, counts, most_frequent, trace, stream)
    folder = choice.out or state_directory() / "demo"
    _print(stream, "", *_write_files(run, plan, trace, folder))
    return is_equal


def _nodes(texts: Sequence[str]) -> tuple[Node[Counts], Node[list[tuple[str, int]]]]:
    """Returns the nodes of the sum of all counts, and of its most frequent identifiers.

    count x28 -> merge x7 -> merge x2 -> merge -> top
    """
    total = merged(list(map(count_identifiers, chunks(texts, N_CHUNKS))), FAN_IN)
    return total, top(total, N_TOP)


def _functions_text(plan: Plan) -> str:
    functions = Counter(call.function for call in plan.dag.calls)
    calls = ", ".join(f"{name} x{n}" for name, n in functions.items())
    return f"{counted(len(plan.dag), 'task')}: {calls}"


def _workers_text(trace: Trace) -> str:
    ran = Counter(span.worker for span in trace.spans if span.phase is Phase.RUN)
    shares = ", ".join(f"{worker_text(worker)} ran {n}" for worker, n in sorted(ran.items()))
    return f"{counted(len(ran), 'worker')} took part: {shares}."


def _check(
    texts: Sequence[str],
    counts: Counts,
    most_frequent: Sequence[tuple[str, int]],
    trace: Trace,
    stream: TextIO,
) -> bool:
    """Counts again in this process alone, compares every number, and prints the comparison."""
    began = time.perf_counter()
    alone = count_identifiers.function(list(texts))
    took_s = time.perf_counter() - began

    width = max(len(name) for name, _ in most_frequent)
    _print(stream, f"  {'identifier':<{width}} {'run':>8} {'alone':>8}")
    for name, n in most_frequent:
        _print(stream, f"  {name:<{width}} {n:>8,} {alone[name]:>8,}")

    is_equal = counts == alone and most_frequent == top.function(alone, N_TOP)
    _print(stream, "", _verdict(counts, alone, is_equal=is_equal))
    first_run = min(span.begin_s for span in trace.spans if span.phase is Phase.RUN)
    run_took = f"The run took {seconds_text(trace.makespan_s)}"
    before = f"{seconds_text(first_run - trace.submitted_s)} of it until its first function began"
    _print(stream, f"{run_took}, {before}; one process alone took {seconds_text(took_s)}.")
    return is_equal


def _verdict(counts: Counts, alone: Counts, *, is_equal: bool) -> str:
    if is_equal:
        return f"EQUAL: all {len(alone):,} identifiers, {alone.total():,} occurrences."
    wrong = sorted(name for name in {*counts, *alone} if counts[name] != alone[name])
    # Without a wrong count only the order of the most frequent identifiers can differ.
    shown = ", ".join(f"{name} {counts[name]:,} instead of {alone[name]:,}" for name in wrong[:5])
    n_wrong = counted(len(wrong), "identifier")
    return f"DIFFERENT: the run counted {n_wrong} wrongly: {shown or 'the order of the top'}."


def _write_files(run: Run[Any], plan: Plan, trace: Trace, folder: Path) -> list[str]:
    """Writes report, picture of the plan, and trace. Returns a line about each."""
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


def _print(stream: TextIO, *lines: str) -> None:
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()
