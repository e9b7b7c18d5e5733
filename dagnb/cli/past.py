"""Commands on past runs: compare planners, predict functions, list the history, export runs."""
# ruff: noqa: PLC0415, T201  # each command imports only what it needs, to start fast; it prints

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

_HEADS = (
    "run",
    "name",
    "planner",
    "platform",
    "state",
    "started",
    "forecast",
    "real",
    "in forecast",
)
_IN_FORECAST = {True: "yes", False: "no", None: ""}


def simulate(options: argparse.Namespace) -> int:
    """Runs `dagnb simulate RUN_OR_FILE [--planner NAME ...]`."""
    from dagnb import analysis
    from dagnb.forecast.makespans import makespans

    past = None if options.run.endswith(".json") else _past_run(options)
    comparison = analysis.compare(
        past or Path(options.run),
        planners=options.planner,
        # A past run is compared on its own pool; for a file, --workers says which pool to assume.
        workers=options.workers if past is None else None,
        costs="predicted" if options.predicted else "measured",
        cap=options.cap,
        cold_s=options.cold,
        bytes_per_s=options.bandwidth,
    )
    print(comparison)
    if past is not None and past.state is RunState.OK:
        print(f"\nThe run {past.run} itself, planned by {past.description.planner}:")
        print(makespans(past.description, past.trace))
    if options.svg:
        print(write_output(options.svg, _picture(comparison)))
    if options.trace:
        print(write_output(options.trace, _trace(comparison, past)))
    return int(comparison.best is None)


def predict(options: argparse.Namespace) -> int:
    """Runs `dagnb predict FUNCTION [--bytes N]`."""
    from dagnb import analysis

    print(analysis.predict(options.function, n_bytes=options.bytes))
    return 0


def history(options: argparse.Namespace) -> int:
    """Runs `dagnb history [--forget]`."""
    from dagnb import analysis
    from dagnb.run_history.history import RUNS, History
    from dagnb.views.worker_slots import lines

    entries = analysis.history(limit=RUNS)
    if options.forget:
        History().forget()
        print(f"Deleted {counted(len(entries), 'past run')} and everything learnt from past runs.")
    elif entries:
        print("\n".join(lines(_HEADS, list(map(_row, entries)))))
    else:
        print("No past runs.")
    return 0


def export(options: argparse.Namespace) -> int:
    """Runs `dagnb export RUN FILE [--to FORMAT]`."""
    from dagnb import analysis

    text = analysis.export(_past_run(options), options.to)
    print(write_output(options.file, text))
    return 0


def _past_run(options: argparse.Namespace) -> Past:
    """Returns the run from the history, or from the store if the history lacks it."""
    from dagnb import analysis

    return analysis.past(options.run, store=options.store, workers=options.workers)


def _row(entry: HistoryEntry) -> list[str]:
    return [
        entry.run,
        short_name(entry.name),
        entry.planner,
        entry.platform,
        entry.state,
        moment_text(entry.submitted_at),
        "" if entry.p50_s is None else seconds_text(entry.p50_s),
        seconds_text(entry.makespan_s),
        _IN_FORECAST[entry.in_band],
    ]


def _picture(comparison: Comparison) -> str:
    """Returns the SVG of the comparison if that can be drawn, else of the best plan."""
    from dagnb.views.show import bundle

    forecast = _best(comparison).plan_forecast
    assert forecast is not None
    for subject in (comparison, forecast.trace):
        shown = bundle(subject)
        if "image/svg+xml" in shown:
            return shown["image/svg+xml"]
    raise ConfigError(f"there is no picture: {shown['text/plain'].splitlines()[-1]}")


def _trace(comparison: Comparison, past: Past | None) -> str:
    """Returns the best plan as a Chrome trace, beside the past run if there is one."""
    from dagnb.exchange.chrome import chrome_trace

    best = _best(comparison)
    assert best.plan_forecast is not None
    planned = best.plan_forecast.trace
    if past is None:
        edges = [step.upstream for step in best.plan_forecast.plan.steps]
        return chrome_trace(planned, name=comparison.name, upstream=edges)
    # Arrows need the same steps in both: a plan may have copies of tasks that the run had not.
    upstream = past.description.upstream if planned.names == past.trace.names else None
    return chrome_trace(past.trace, planned=planned, name=comparison.name, upstream=upstream)


def _best(comparison: Comparison) -> PlannerResult:
    if comparison.best is not None:
        return comparison.best
    problem = comparison.lines[0].problem if comparison.lines else "no planner was asked"
    raise ConfigError(f"no planner found a plan: {problem}")
