"""Commands on what past runs taught: other planners on a run, what a function takes, what is kept, runs for others."""
# ruff: noqa: PLC0415, T201  # drawing and simulating are imported by who does it, or all would be slow; it prints

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dagnb.cli.runs import short_name
from dagnb.errors import ConfigError
from dagnb.protocol.messages import RunState
from dagnb.storage.home import write_output
from dagnb.views.wording import counted, moment_text, seconds_text

if TYPE_CHECKING:
    from dagnb.forecast.compare import Comparison, PlannerResult
    from dagnb.forecast.past import Past
    from dagnb.run_history.history import HistoryEntry

_HEADS = ("run", "name", "planner", "platform", "state", "started", "plan P50", "real", "in band")
_IN_BAND = {True: "yes", False: "no", None: ""}


def simulate(options: argparse.Namespace) -> int:
    """`dagnb simulate RUN_OR_FILE [--planner NAME ...]`."""
    from dagnb import analysis
    from dagnb.forecast.makespans import makespans

    found = None if options.run.endswith(".json") else _past(options)
    comparison = analysis.compare(
        found or Path(options.run),
        planners=options.planner,
        workers=options.workers if found is None else None,
        costs="predicted" if options.predicted else "measured",
        cap=options.cap,
        cold_s=options.cold,
        bytes_per_s=options.bandwidth,
    )
    print(comparison)
    if found is not None and found.state is RunState.OK:
        print(
            f"\nrun {found.run} itself, planned by {found.description.planner}\n"
            f"{makespans(found.description, found.trace)}"
        )
    if options.svg:
        _written(options.svg, _picture(comparison))
    if options.trace:
        _written(options.trace, _trace(comparison, found))
    return 0 if comparison.best is not None else 1


def predict(options: argparse.Namespace) -> int:
    """`dagnb predict FUNCTION [--bytes N]`."""
    from dagnb import analysis

    print(analysis.predict(options.function, n_bytes=options.bytes))
    return 0


def history(options: argparse.Namespace) -> int:
    """`dagnb history [--forget]`."""
    from dagnb import analysis
    from dagnb.run_history.history import RUNS, History
    from dagnb.views.worker_slots import lines

    kept = analysis.history(limit=RUNS)
    if options.forget:
        History().forget()
        print(f"{counted(len(kept), 'run')} and what they taught are forgotten.")
    elif kept:
        print("\n".join(lines(_HEADS, [_row(line) for line in kept])))
    else:
        print("No runs are kept.")
    return 0


def export(options: argparse.Namespace) -> int:
    """`dagnb export RUN FILE [--to FORMAT]`."""
    from dagnb import analysis

    _written(options.file, analysis.export(_past(options), options.to))
    return 0


def _past(options: argparse.Namespace) -> Past:
    """The run meant, from the history, else from the store."""
    from dagnb import analysis

    return analysis.past(options.run, store=options.store, workers=options.workers)


def _row(line: HistoryEntry) -> list[str]:
    return [
        line.run,
        short_name(line.name),
        line.planner,
        line.platform,
        line.state,
        moment_text(line.submitted_at),
        "" if line.p50_s is None else seconds_text(line.p50_s),
        seconds_text(line.makespan_s),
        _IN_BAND[line.in_band],
    ]


def _picture(comparison: Comparison) -> str:
    """Of the comparison where that can be drawn, else of the best plan."""
    from dagnb.views.show import bundle

    outlook = _best(comparison).plan_forecast
    assert outlook is not None
    for thing in (comparison, outlook.trace):
        shown = bundle(thing)
        if "image/svg+xml" in shown:
            return shown["image/svg+xml"]
    raise ConfigError(f"there is no picture. {shown['text/plain'].splitlines()[-1]}")


def _trace(comparison: Comparison, past: Past | None) -> str:
    """The best plan in virtual time; beside it the run, where there was one."""
    from dagnb.exchange.chrome import chrome_trace

    best = _best(comparison)
    assert best.plan_forecast is not None
    planned = best.plan_forecast.trace
    if past is None:
        return chrome_trace(
            planned,
            name=comparison.name,
            upstream=[s.upstream for s in best.plan_forecast.plan.steps],
        )
    upstream = past.description.upstream if planned.names == past.trace.names else None
    return chrome_trace(past.trace, planned=planned, name=comparison.name, upstream=upstream)


def _best(comparison: Comparison) -> PlannerResult:
    if comparison.best is None:
        raise ConfigError(
            f"no planner found a plan: {comparison.lines[0].problem if comparison.lines else 'none asked'}"
        )
    return comparison.best


def _written(file: Path, text: str) -> None:
    print(write_output(file, text))
