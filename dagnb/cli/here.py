"""Commands that need no run: the demo, scripts and notebooks, the doctor, the settings."""
# ruff: noqa: PLC0415, T201  # each command imports what it alone needs, or all would be slow; a command line prints

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from dagnb import session
from dagnb.cli.runs import unknown


def demo(options: argparse.Namespace) -> int:
    """`dagnb demo`."""
    from dagnb.demo.job import Choice, run_demo

    choice = Choice(
        planner=options.planner,
        workers=options.workers,
        store=options.store,
        out=options.out,
        limit_mb=options.limit_mb,
    )
    return 0 if run_demo(choice, sys.stdout) else 1


def script(options: argparse.Namespace) -> int:
    """`dagnb run SCRIPT_OR_NOTEBOOK`; behind a script all arguments are the script's."""
    from dagnb.cli.parser import defaults_of_notebook
    from dagnb.cli.script import execute

    arguments = options.arguments
    chosen = {field.name: vars(options).get(field.name) for field in fields(session.Settings)}
    if options.script.suffix == ".ipynb":
        behind, arguments = defaults_of_notebook(arguments)
        chosen |= {name: value for name, value in vars(behind).items() if value is not None}
    session.configure_by(session.BY_OPTION, **chosen)
    return execute(options.script, arguments)


def doctor(options: argparse.Namespace) -> int:
    """`dagnb doctor`."""
    from dagnb.doctor import examine, findings_text, is_able

    findings = examine()
    print(findings_text(findings))
    return 0 if is_able(findings) else 1


def config(options: argparse.Namespace) -> int:
    """`dagnb config [NAME]`."""
    from dagnb.doctor import IN_FORCE_HEADS, in_force
    from dagnb.views.worker_slots import lines

    found = {setting.name: setting for setting in in_force()}
    if options.name is None:
        print("\n".join(lines(IN_FORCE_HEADS, [setting.cells for setting in found.values()])))
        return 0
    if options.name not in found:
        raise unknown("setting", options.name, list(found))
    print(found[options.name].value)
    return 0


def workers(options: argparse.Namespace) -> int:
    """`dagnb workers [--workers NAME]`."""
    from dagnb import client
    from dagnb.views.worker_slots import EMPTY, HEADS, lines, rows

    found = rows(
        client.workers(workers=options.workers) if options.workers else client.everywhere()
    )
    print("\n".join(lines(HEADS, found)) if found else EMPTY)
    return 0
