"""Commands on this machine: the demo, scripts and notebooks, the doctor, settings, workers."""
# ruff: noqa: PLC0415, T201  # each command imports only what it needs, to start fast; it prints

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from dagnb import session
from dagnb.cli.runs import unknown


def demo(options: argparse.Namespace) -> int:
    """Runs `dagnb demo`."""
    from dagnb.demo.job import Choice, run_demo

    choice = Choice(
        planner=options.planner,
        workers=options.workers,
        store=options.store,
        out=options.out,
        limit_mb=options.limit_mb,
    )
    is_equal = run_demo(choice, sys.stdout)
    return int(not is_equal)


def script(options: argparse.Namespace) -> int:
    """Runs `dagnb run SCRIPT_OR_NOTEBOOK`."""
    from dagnb.cli.parser import defaults_of_notebook
    from dagnb.cli.script import execute

    arguments = options.arguments
    chosen = {field.name: vars(options).get(field.name) for field in fields(session.Settings)}
    # Arguments behind a script belong to the script. A notebook has none, so they are ours.
    if options.script.suffix == ".ipynb":
        notebook_options, arguments = defaults_of_notebook(arguments)
        chosen |= {
            name: value for name, value in vars(notebook_options).items() if value is not None
        }
    session.configure_by(session.BY_OPTION, **chosen)
    return execute(options.script, arguments)


def doctor(options: argparse.Namespace) -> int:
    """Runs `dagnb doctor`."""
    from dagnb.doctor import examine, findings_text, is_able

    findings = examine()
    print(findings_text(findings))
    return int(not is_able(findings))


def config(options: argparse.Namespace) -> int:
    """Runs `dagnb config [NAME]`."""
    from dagnb.doctor import IN_FORCE_HEADS, in_force
    from dagnb.views.worker_slots import lines

    settings = {setting.name: setting for setting in in_force()}
    if options.name is None:
        print("\n".join(lines(IN_FORCE_HEADS, [setting.cells for setting in settings.values()])))
        return 0
    if options.name not in settings:
        raise unknown("setting", options.name, list(settings))
    print(settings[options.name].value)
    return 0


def workers(options: argparse.Namespace) -> int:
    """Runs `dagnb workers [--workers NAME]`."""
    from dagnb import client
    from dagnb.views.worker_slots import EMPTY, HEADS, lines, rows

    chosen = options.workers
    table = rows(client.workers(workers=chosen) if chosen else client.everywhere())
    if table:
        print("\n".join(lines(HEADS, table)))
    else:
        print(EMPTY)
    return 0
