"""Commands on runs in the store: list, show, watch, cancel, forget."""
# ruff: noqa: T201  # a command line prints

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from dagnb import client, session
from dagnb.errors import ConfigError, UnknownNameError
from dagnb.handle import Run
from dagnb.protocol.messages import RunState, TaskState
from dagnb.protocol.naming import Purpose, find_task
from dagnb.protocol.usage import StoreUsage
from dagnb.storage.home import write_output
from dagnb.storage.interface import RunLine
from dagnb.views.errors import errors_text
from dagnb.views.markup import plain, shortened
from dagnb.views.store_usage import USAGE_HEADS, usage_cells, usage_text
from dagnb.views.text import counts_text, trace_text
from dagnb.views.wording import counted, moment_text, seconds_text
from dagnb.views.worker_slots import lines as table_lines

_NAME = 40
"""Characters of a run's name that lists show."""
_MOST = 6
"""Names that an error suggests at most."""


def runs(options: argparse.Namespace) -> int:
    """Runs `dagnb runs`."""
    lines = _listed(options)
    for line in lines:
        took = seconds_text(line.finished_at - line.submitted_at) if line.finished_at else "so far"
        print(
            f"{line.run}  {line.state:<9}  {moment_text(line.submitted_at)}  {took:>11}"
            f"  {counted(line.n_tasks, 'task'):>12}  {short_name(line.name)}"
        )
    usage = session.usage(session.settings(store=options.store, workers=options.workers))
    print(_sizes_text(lines, usage) if lines else "No runs.")
    # Without runs there is nothing to tell, unless a client died before it submitted one.
    if lines or usage.unused_bytes:
        print(usage_text(usage))
    return 0


def _sizes_text(listed: Sequence[RunLine], usage: StoreUsage) -> str:
    """Returns a table of what the store holds of each run, and a line that explains it."""
    rows = [[line.run, *usage_cells(usage.runs.get(line.run))] for line in listed]
    table = "\n".join(table_lines(("bytes of run", *USAGE_HEADS), rows))
    return f"\n{table}\n`dagnb forget RUN` frees all of a run but what it shares with other runs.\n"


def show(options: argparse.Namespace) -> int:
    """Runs `dagnb show RUN [--html FILE | --json]`."""
    run = found_run(options)
    if options.json:
        print(_as_json(run))
    elif options.html:
        print(write_output(options.html, run.to_html()))
    else:
        seen = run.look()
        submitted = moment_text(seen.submitted_at)
        print(f"run {run.id}  {short_name(run.description.name)}  {seen.state}  {submitted}")
        print(counts_text(run.status))
        print(trace_text(run.snapshot().whole_trace))
        print(f"`dagnb why {run.id}` says which chain of tasks took the time.")
        if seen.errors:
            print(f"{counted(len(seen.errors), 'failed attempt')}: `dagnb errors {run.id}`")
    return 0


def errors(options: argparse.Namespace) -> int:
    """Runs `dagnb errors RUN`."""
    print(errors_text(found_run(options).errors))
    return 0


def log(options: argparse.Namespace) -> int:
    """Runs `dagnb log RUN TASK`."""
    run, task = _of_task(options)
    text = plain(run.log(task)).rstrip("\n")
    if text:
        print(text)
    else:
        print(f"there is no output of task '{task}'{'' if run.done else ' yet'}.")
    return 0


def why(options: argparse.Namespace) -> int:
    """Runs `dagnb why RUN [TASK]`."""
    if options.task is None:
        print(found_run(options).why())
        return 0
    run, task = _of_task(options)
    print(run.why(task))
    return 0


def cancel(options: argparse.Namespace) -> int:
    """Runs `dagnb cancel RUN`."""
    run = found_run(options, Purpose.CANCEL)
    if run.cancel():
        print(f"run {run.id} is cancelled.")
    else:
        print(f"run {run.id} was over already: {run.state}.")
    return 0


def forget(options: argparse.Namespace) -> int:
    """Runs `dagnb forget RUN` or `dagnb forget --all`."""
    if options.all == (options.run is not None):
        raise ConfigError("forget which run? Give one RUN, or --all for every run that is over.")
    if options.run is not None:
        run = found_run(options, Purpose.FORGET)
        print(f"run {run.id} is forgotten, {counted(run.forget(), 'key')}.")
        return 0

    lines = _listed(options)
    over = [line.run for line in lines if line.state is not RunState.RUNNING]
    n_keys = sum(_attached(run, options).forget() for run in over)
    text = f"{counted(len(over), 'run')} forgotten, {counted(n_keys, 'key')}."
    if len(lines) > len(over):
        text += f" {counted(len(lines) - len(over), 'run')} still running."
    print(text)
    return 0


def attach(options: argparse.Namespace) -> int:
    """Runs `dagnb attach RUN`."""
    from dagnb.progress import watch  # noqa: PLC0415  # imports rich, which is slow

    run = found_run(options)
    watch(run)
    return int(run.state is not RunState.OK)


def unknown(kind: str, name: str, known: Sequence[str]) -> UnknownNameError:
    """Returns an error that lists similar names; the first few names if none is similar."""
    similar = get_close_matches(name, known, _MOST, 0.5)
    return UnknownNameError(kind, name, similar or known[:_MOST])


def _listed(options: argparse.Namespace) -> list[RunLine]:
    return client.runs(store=options.store, workers=options.workers)


def _attached(run: str, options: argparse.Namespace) -> Run[Any]:
    return client.attach(run, store=options.store, workers=options.workers)


def found_run(options: argparse.Namespace, purpose: Purpose = Purpose.LOOK) -> Run[Any]:
    """Returns the run of the options.

    Raises UnknownRunError, RunNotStoredError, AmbiguousNameError.
    """
    known = client.find_run(
        options.run, purpose=purpose, store=options.store, workers=options.workers
    )
    return _attached(known.run, options)


def _of_task(options: argparse.Namespace) -> tuple[Run[Any], str]:
    """Returns the run and the name of the task. Raises UnknownTaskError, AmbiguousNameError."""
    run = found_run(options)
    return run, find_task(options.task, run.description.names)


def _as_json(run: Run[Any]) -> str:
    seen, trace = run.look(), run.trace
    states = [TaskState(state).word for state in seen.states]
    data = {
        "run": run.id,
        "name": run.description.name,
        "planner": run.description.planner,
        "state": seen.state,
        "reason": seen.reason,
        "counts": run.status,
        "submitted_at": seen.submitted_at,
        "finished_at": seen.finished_at or None,
        "makespan_s": trace.makespan_s,
        "tasks": dict(zip(run.description.names, states, strict=True)),
        "errors": [error.line() for error in run.errors],
        "trace": json.loads(trace.to_json()),
    }
    return json.dumps(data, indent=2)


def short_name(text: str) -> str:
    """Returns the name of a run on one line, shortened."""
    return shortened(" ".join(plain(text).split()), _NAME)
