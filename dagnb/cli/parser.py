"""The commands and their options."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import dagnb
from dagnb import registry
from dagnb.cli import machine, past, runs
from dagnb.errors import UnknownNameError

USAGE = 2
"""Exit code for wrong arguments."""

PROGRAMS = {
    "agent": (
        "Start or stop the background process that owns the embedded server; "
        "runs start it when they need it."
    ),
    "image": "Build, list and remove the images of Docker workers.",
}
"""Help texts of programs, which are in other packages: these would be slow to import for --help."""

_RUN = "name of the run, its id, the beginning of its id, or 'last'"

_Adder: TypeAlias = Callable[
    [str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser
]


class _Parser(argparse.ArgumentParser):
    """Prints errors as `dagnb: ...`, like all commands do, and suggests the nearest command."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"dagnb: {message}\n{self.format_usage()}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            self.error(str(UnknownNameError("command", str(value), action.choices)))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands. Parsed options have `act`, which runs the command."""
    root = _Parser(
        prog="dagnb",
        description="Run the functions of notebooks and scripts as a DAG of tasks, "
        "on workers that coordinate over Redis.",
    )
    version = f"dagnb {dagnb.__version__}, Python {platform.python_version()}"
    root.add_argument("--version", action="version", version=version)
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, act: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(act=act)
        return command

    _add_starting(add)
    _add_of_run(add)
    _add_of_past(add)
    _add_of_machine(add)
    return root


def _add_starting(add: _Adder) -> None:
    """Adds the commands that start runs, and the list of runs."""
    demo = add(
        "demo",
        machine.demo,
        "Run an example: count the identifiers in Python's standard library, and write a report.",
    )
    script = add(
        "run",
        machine.script,
        "Run a Python script, or the code cells of a notebook, with these settings as defaults.",
    )
    for command in (demo, script):
        _add_defaults(command)
    demo.add_argument("--out", metavar="DIR", type=Path, help="folder to write the report to")
    demo.add_argument(
        "--limit-mb", metavar="MB", type=float, help="read at most this many megabytes of source"
    )
    script.add_argument(
        "script", metavar="SCRIPT_OR_NOTEBOOK", type=Path, help="a .py or .ipynb file"
    )
    script.add_argument(
        "arguments", metavar="...", nargs=argparse.REMAINDER, help="arguments of the script"
    )
    _add_store(add("runs", runs.runs, "List the runs in the store, newest first."))


def _add_of_run(add: _Adder) -> None:
    """Adds the commands on one run."""
    show = add(
        "show",
        runs.show,
        "Show where the time of a run went, or write everything about it as HTML or JSON.",
    )
    errors = add(
        "errors", runs.errors, "Show every failed attempt of a run, with the code that failed."
    )
    log = add("log", runs.log, "Show what a task printed in its last attempt.")
    why = add(
        "why",
        runs.why,
        "Say what a task is waiting for; without TASK, where its time went.",
    )
    cancel = add("cancel", runs.cancel, "End a run and its workers.")
    forget = add("forget", runs.forget, "Delete a run and all its values from the store.")
    attach = add(
        "attach", runs.attach, "Watch a run until it ends; the exit code is 0 if it succeeded."
    )
    for command in (show, errors, log, why, cancel, forget, attach):
        _add_store(command)
        n = "?" if command is forget else None
        command.add_argument("run", metavar="RUN", nargs=n, help=_RUN)
    form = show.add_mutually_exclusive_group()
    form.add_argument(
        "--html", metavar="FILE", type=Path, help="write a report for the browser to FILE"
    )
    form.add_argument("--json", action="store_true", help="print state, errors and spans as JSON")
    for command in (log, why):
        command.add_argument(
            "task",
            metavar="TASK",
            nargs="?" if command is why else None,
            help="name of the task, such as 'merge-0'; 'merge' is enough if it is called once",
        )
    forget.add_argument("--all", action="store_true", help="delete every run that is over")


def _add_of_past(add: _Adder) -> None:
    """Adds the commands on past runs."""
    simulate = add(
        "simulate",
        past.simulate,
        "Compare planners on a past run or a WfFormat file in simulations; no task is executed.",
    )
    predict = add(
        "predict",
        past.predict,
        "Show how long a function is expected to run, and how large its result will be.",
    )
    history = add(
        "history",
        past.history,
        "List the past runs that forecasts are made from, newest first.",
    )
    export = add(
        "export",
        past.export,
        "Write a run to a file: a trace for ui.perfetto.dev, or a workflow for other simulators.",
    )
    for command, what in ((simulate, "RUN_OR_FILE"), (export, "RUN")):
        _add_store(command)
        command.add_argument("run", metavar=what, help=_RUN)
    _add_assumptions(simulate)
    predict.add_argument("function", metavar="FUNCTION", help="name of the function")
    predict.add_argument(
        "--bytes",
        metavar="N",
        type=int,
        help="size of its inputs in bytes (default: their usual size)",
    )
    history.add_argument(
        "--forget", action="store_true", help="delete the history and what was learnt from it"
    )
    export.add_argument("file", metavar="FILE", type=Path, help="path of the file to write")
    export.add_argument(
        "--to",
        metavar="FORMAT",
        default="chrome",
        help="chrome (default) or wfformat",
    )


def _add_assumptions(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--planner",
        metavar="NAME",
        action="append",
        help="compare this planner only; may be given several times",
    )
    command.add_argument(
        "--predicted",
        action="store_true",
        help="use the durations that are expected now, not those of that run; for a file, the "
        "transfers and starts of your own runs, not the defaults",
    )
    command.add_argument(
        "--cap", metavar="N", type=int, help="assume at most this many workers at a time"
    )
    command.add_argument(
        "--cold", metavar="SECONDS", type=float, help="assume that a cold start takes this long"
    )
    command.add_argument(
        "--bandwidth", metavar="BYTES_PER_S", type=float, help="assume that transfers are this fast"
    )
    command.add_argument(
        "--svg", metavar="FILE", type=Path, help="write a picture of the comparison to FILE"
    )
    command.add_argument(
        "--trace",
        metavar="FILE",
        type=Path,
        help="write the best plan to FILE, as a trace for ui.perfetto.dev",
    )


def _add_of_machine(add: _Adder) -> None:
    """Adds the commands on this machine, and the programs of other packages."""
    for name in registry.names("program"):
        add(name, _never, PROGRAMS.get(name, "A program of another package."))
    _add_workers(
        add(
            "workers",
            machine.workers,
            "List the processes and containers where tasks run, or could start at once.",
        )
    )
    add(
        "doctor",
        machine.doctor,
        "Check what is installed and what is missing, and explain how to fix it.",
    )
    config = add(
        "config",
        machine.config,
        "Show the current settings and variables, and where each value comes from.",
    )
    config.add_argument(
        "name", metavar="NAME", nargs="?", help="print only the value of this setting or variable"
    )


def _never(options: argparse.Namespace) -> int:
    """Stands for a program in --help; never called, because program.py starts programs itself."""
    return 1


def defaults_of_notebook(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the options among the arguments behind a notebook's name, and the other arguments."""
    command = _Parser(prog="dagnb run", add_help=False, allow_abbrev=False)
    _add_defaults(command)
    return command.parse_known_args(arguments)


def _add_defaults(command: argparse.ArgumentParser) -> None:
    _add_store(command)
    known = ", ".join(registry.names("planner"))
    command.add_argument(
        "--planner",
        metavar="NAME",
        help=f"planner, which decides which worker runs which task; one of: {known}",
    )


def _add_store(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--store",
        metavar="URL",
        help="URL of the store, instead of DAGNB_REDIS_URL or the embedded server",
    )
    _add_workers(command)


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        metavar="NAME",
        help="kind of workers; one of: " + ", ".join(registry.names("launcher")),
    )
