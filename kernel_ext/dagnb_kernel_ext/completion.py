"""Completion after `%%dag` and `%dag`: flags, subcommands, names of planners, workers, nodes, tasks and runs.

It asks no store, which may be slow or away. Elsewhere it stays out.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from dagnb import registry
from dagnb.graph.task import Task
from dagnb.handle import Run
from dagnb.protocol.naming import LAST
from dagnb_kernel_ext.cell import is_runnable
from dagnb_kernel_ext.commands import CommandContext
from dagnb_kernel_ext.flags import FLAGS, KINDS
from dagnb_kernel_ext.help_text import SUBCOMMANDS

Matcher: TypeAlias = Callable[[CompletionContext], SimpleMatcherResult]

_ASSIGNED = re.compile(r"\A[\w.,\s]+=\s*(?=%dag\s)")
"""what stands before `%dag` where its value is bound to names"""
_OF_A_RUN = {"status", "errors", "cancel", "attach", "forget"}
_OF_A_TASK = {"why", "log"}


def matcher_for(desk: CommandContext) -> Matcher:
    """The matcher of the desk's shell."""

    def match(context: CompletionContext) -> SimpleMatcherResult:
        return _result(_words_after(context), desk)

    # The priority puts it before Jedi, which would offer keywords.
    made: Matcher = context_matcher(identifier="dagnb", priority=200)(match)
    return made


def _words_after(context: CompletionContext) -> list[str] | None:
    """Words of our line up to the cursor, the last being completed; None when the cursor is somewhere else."""
    line = context.text_until_cursor
    line = _ASSIGNED.sub("", line.lstrip())
    head, _, rest = line.partition(" ")
    is_ours = head == "%dag" or (head == "%%dag" and context.cursor_line == 0)
    return [head, *rest.split(" ")] if is_ours and " " in line else None


def _result(words: list[str] | None, desk: CommandContext) -> SimpleMatcherResult:
    if words is None:
        return {"completions": [], "suppress": False}
    typed = words[-1]
    before = [word for word in words[1:-1] if word]
    offers = _flags(before) if words[0] == "%%dag" else _arguments(before, desk)
    found = [
        SimpleCompletion(text, type="param")
        for text in dict.fromkeys(offers)
        if text.startswith(typed)
    ]
    return {"completions": found, "suppress": True, "ordered": True, "matched_fragment": typed}


def _flags(before: list[str]) -> Iterable[str]:
    if before and before[-1] in KINDS:
        return registry.names(KINDS[before[-1]])
    return [flag for flag in FLAGS if flag not in before]


def _arguments(before: list[str], desk: CommandContext) -> Iterable[str]:
    match before:
        case []:
            return SUBCOMMANDS
        case ["run"]:
            return [*_variables(desk, is_runnable), *desk.cells]
        case ["predict"]:
            return _variables(desk, lambda held: isinstance(held, Task))
        case ["cancel"] | ["forget"]:
            return _runs(desk, only_unique=True)
        case [command] if command in _OF_A_RUN:
            return _runs(desk)
        case [command] if command in _OF_A_TASK:
            return desk.tasks
        case [command, _] if command in _OF_A_TASK:
            return _runs(desk)
    return ()


def _variables(desk: CommandContext, is_meant: Callable[[object], bool]) -> list[str]:
    space = desk.shell.user_ns
    return [name for name, held in space.items() if not name.startswith("_") and is_meant(held)]


def _runs(desk: CommandContext, *, only_unique: bool = False) -> list[str]:
    """What the lookup of runs accepts, as far as this notebook knows.

    only_unique: without names of several runs, which are not enough to end or delete one.
    """
    known = desk.names
    times = Counter(known.values())
    names = [
        shlex.quote(name)
        for name in times
        if name.strip() and not (only_unique and times[name] > 1)
    ]
    last = [LAST] if known else []
    return [*_variables(desk, lambda held: isinstance(held, Run)), *last, *names, *known]
