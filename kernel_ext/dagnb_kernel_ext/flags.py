"""The flags of `%%dag`: parsed as a shell would, with the nearest right name for a wrong one.

`TEXT` is what `%%dag -h`, `%%dag?` and `%dag?` show.
"""

from __future__ import annotations

import argparse
import difflib
import keyword
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from IPython.core.error import UsageError

from dagnb import registry
from dagnb.errors import ConfigError, UnknownNameError
from dagnb.trace.upload import strategy


class Usage(NamedTuple):
    """A line of the help: names of the arguments, '' for none, and the meaning."""

    arguments: str
    meaning: str


FLAGS = {
    "--planner": Usage("NAME", "how tasks are given to workers: flexible, heft, best, ..."),
    "--workers": Usage("NAME", "where the tasks run: process, docker, inline, ..."),
    "--percentile": Usage(
        "P", "plan for this percentile of the duration: 50 is the median, 90 is cautious"
    ),
    "--metrics": Usage(
        "WHEN",
        "when workers upload measurements: each_task, at_exit, every:2.5 (seconds), when_full:64",
    ),
    "--plan": Usage("", "show the plan and run nothing; NAME is bound to the node"),
    "--detach": Usage("", "do not wait; NAME is bound to the run"),
    "--timeout": Usage("SECONDS", "end the run after so many seconds"),
    "--help": Usage("", "show this text; -h for short"),
}
"""flag -> its value and its meaning"""

HELP = frozenset({"-h", "--help"})

KINDS = {"--planner": "planner", "--workers": "launcher"}
"""flags whose value is a registered name -> the kind of name"""

_LISTED = 8
"""known names that a message lists at most"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The words after `%%dag`, parsed."""

    name: str
    planner: str | None = None
    workers: str | None = None
    percentile: float | None = None
    metrics: str | None = None
    plan: bool = False
    detach: bool = False
    timeout_s: float | None = None
    wants_help: bool = False


class _FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises: argparse's own would end the kernel."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, which IPython shows as one line."""
        stop = "" if message.endswith("?") else "."
        raise UsageError(f"%%dag: {message}{stop} `%%dag -h` explains.")


def _parser() -> _FlagParser:
    # No abbreviations: `--plan` would be one of `--planner`.
    parser = _FlagParser(prog="%dag", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--planner")
    parser.add_argument("--workers")
    parser.add_argument("--percentile", type=float)
    parser.add_argument("--metrics")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--timeout", type=float, dest="timeout_s")
    parser.add_argument(*HELP, action="store_true", dest="wants_help")
    return parser


def parse(line: str) -> Flags:
    """Parse the line after `%%dag`.

    Raises UsageError, which says what is wrong and what may have been meant.
    """
    parser = _parser()
    try:
        known, unknown = parser.parse_known_args(shlex.split(line, comments=True))
    except ValueError as error:
        raise UsageError(f"%%dag: {error} in {line!r}. `%%dag -h` explains.") from None
    if unknown:
        parser.error(_unknown(unknown[0]))
    flags = Flags(**vars(known))
    if not flags.wants_help:
        _check(parser, flags)
    return flags


def _check(parser: _FlagParser, flags: Flags) -> None:
    if not flags.name:
        parser.error("it needs a name for the result, as in `%%dag total`")
    if not flags.name.isidentifier() or keyword.iskeyword(flags.name):
        parser.error(f"{flags.name!r} is no name a variable can have")
    if flags.plan and flags.detach:
        parser.error("--plan runs nothing, so there is nothing to --detach from")
    if flags.timeout_s is not None and not flags.timeout_s > 0:
        parser.error(f"--timeout {flags.timeout_s:g} must be more than 0 seconds")
    if flags.percentile is not None and not 0 < flags.percentile < 100:
        parser.error(f"--percentile {flags.percentile:g} must be above 0 and below 100")
    if flags.metrics is not None:
        _check_metrics(flags.metrics)
    for flag, name in (("--planner", flags.planner), ("--workers", flags.workers)):
        kind = KINDS[flag]
        if name is not None and name not in (known := registry.names(kind)):
            raise UsageError(f"%%dag: {UnknownNameError(kind, name, known)}")


def _check_metrics(text: str) -> None:
    try:
        strategy(text)
    except ConfigError as error:
        raise UsageError(f"%%dag: {error}") from None


def _unknown(argument: str) -> str:
    if not argument.startswith("-"):
        return f"expected one name, got also {argument!r}"
    return unknown_text("flag", argument.partition("=")[0], list(FLAGS))


def unknown_text(kind: str, name: str, known: Sequence[str]) -> str:
    """A message about an unknown name: the nearest known one, or the first of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"unknown {kind} '{name}'; did you mean '{close[0]}'?"
    some = ", ".join(known[:_LISTED]) or "none yet"
    if len(known) > _LISTED:
        some += ", ..."
    return f"unknown {kind} '{name}'; there is {some}"


SUBCOMMANDS = {
    "run": Usage("NAME", "run a node, or the last %%dag cell of that name again; gives the value"),
    "runs": Usage("", "list the runs in the store, newest first"),
    "status": Usage("[RUN]", "how many tasks are in which state"),
    "errors": Usage("[RUN]", "every failed attempt, with the lines of code"),
    "log": Usage("TASK [RUN]", "what a task printed in its last attempt"),
    "why": Usage("TASK [RUN]", "why a task has not run yet, or what became of it"),
    "cancel": Usage("[RUN]", "end a run and its workers"),
    "attach": Usage(
        "[RUN]", "show a run and give it as an object; without RUN after a restart: what is running"
    ),
    "forget": Usage("RUN", "delete everything the store holds of a run"),
    "workers": Usage("", "the processes and containers where tasks run, or could start at once"),
    "predict": Usage(
        "FUNCTION [BYTES]", "expected duration and output size of a function, with the evidence"
    ),
    "config": Usage("", "the settings and variables in force, and where each value comes from"),
    "doctor": Usage("", "what is installed, what is missing, and what to do about it"),
}
"""subcommand of `%dag` -> its arguments and its meaning"""


def _rows(usages: Mapping[str, Usage]) -> str:
    lefts = [f"{name} {usage.arguments}".rstrip() for name, usage in usages.items()]
    wide = max(map(len, lefts))
    lines = []
    for left, usage in zip(lefts, usages.values(), strict=True):
        lines.append(f"    {left:<{wide}}  {usage.meaning}")
    return "\n".join(lines)


TEXT = f"""%%dag NAME [flags]: run this cell as a DAG and bind the result to NAME.

Every function at the top of the cell becomes a task, with or without @task; generators and classes
do not. A call of a task does not run it: it makes a node of the DAG. The last line says what to
run: a call of a task, or a list, dict or other structure of calls. NAME gets the value, or the same
structure of values. Everything else is ordinary Python, `await` included, and its names stay in the
notebook.

    %%dag total --planner heft
    def count(text): return len(text.split())
    def merge(counts): return sum(counts)
    merge([count(text) for text in texts])

Flags:
{_rows(FLAGS)}

Interrupting the kernel while it waits cancels the run. Restarting or shutting it down does not.

%dag SUBCOMMAND: look at runs, or change them.

{_rows(SUBCOMMANDS)}

RUN is a variable that holds a run, the name of a run, its id or the beginning of that, or `last`
for the newest run of all. Left out, it is the latest run of this notebook.
TASK is the name of a task, such as merge-0; merge is enough where it is called once."""
