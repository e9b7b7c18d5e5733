"""The flags of `%%dag`: parsed as a shell would, with help and the nearest right name for a wrong one."""

from __future__ import annotations

import argparse
import difflib
import keyword
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from IPython.core.error import UsageError

from dagnb import registry
from dagnb.errors import ConfigError, UnknownNameError
from dagnb.trace.upload import strategy

FLAGS = {
    "--planner": "what decides which worker runs which task: flexible, heft, best, ...",
    "--workers": "what runs the tasks: process, docker, inline, ...",
    "--percentile": "plan for this percentile of the makespan: 50 is the median, 90 is cautious",
    "--metrics": "when workers upload their measurements: each_task, at_exit, every:2.5 (seconds), when_full:64",
    "--plan": "show the plan; nothing runs, and NAME is the node",
    "--detach": "do not wait: NAME is the run",
    "--timeout": "end the run after this many seconds",
    "--help": "show this text; -h is short for it",
}
"""flag -> what it does"""

HELP = frozenset({"-h", "--help"})

KINDS = {"--planner": "planner", "--workers": "launcher"}
"""flags whose value is a registered name -> the kind of name"""

_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What stands after `%%dag`."""

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
    """As argparse, but it never ends the kernel and knows what was meant."""

    def error(self, message: str) -> NoReturn:
        """Raise what IPython shows as one line."""
        raise UsageError(
            f"%%dag: {message}{'' if message.endswith('?') else '.'} `%%dag -h` explains."
        )


def _parser() -> _FlagParser:
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
    """The flags of the line. Raises UsageError that says what is wrong and what may have been meant."""
    parser = _parser()
    try:
        found, unknown = parser.parse_known_args(shlex.split(line, comments=True))
    except ValueError as error:
        raise UsageError(f"%%dag: {error} in {line!r}. `%%dag -h` explains.") from None
    if unknown:
        parser.error(_unknown(unknown[0]))
    flags = Flags(**vars(found))
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
        return f"there is one NAME, so what is {argument!r}"
    return unknown_text("flag", argument.partition("=")[0], list(FLAGS))


def unknown_text(kind: str, name: str, known: Sequence[str]) -> str:
    """That there is no such thing, with the nearest that there is, or the first of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"unknown {kind} '{name}'; did you mean '{close[0]}'?"
    some = ", ".join(known[:_TOLD]) + (", ..." if len(known) > _TOLD else "")
    return f"unknown {kind} '{name}'; there is {some or 'none yet'}"
