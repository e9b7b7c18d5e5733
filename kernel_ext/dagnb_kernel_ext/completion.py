"""Completion after `%%dag` and `%dag`: flags, subcommands, names of planners, tasks and runs.

No store is asked, because it may be slow or unreachable. In other lines nothing is offered.
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
from dagnb_kernel_ext.magics import FLAGS, KINDS, SUBCOMMANDS

Matcher: TypeAlias = Callable[[CompletionContext], SimpleMatcherResult]

_ASSIGNED = re.compile(r"\A[\w.,\s]+=\s*(?=%dag\s)")
"""the part of a line before `%dag` where its value is bound to names"""
_OF_A_RUN = {"status", "errors", "cancel", "attach", "forget"}
_OF_A_TASK = {"why", "log"}


def matcher_for(context: CommandContext) -> Matcher:
    """The matcher of the context's shell."""

    def match(cursor: CompletionContext) -> SimpleMatcherResult:
        return _result(_words_before(cursor), context)

    # The priority puts this matcher before Jedi, which would offer keywords.
    matcher: Matcher = context_matcher(identifier="dagnb", priority=200)(match)
    return matcher


def _words_before(cursor: CompletionContext) -> list[str] | None:
    """The words of a `%dag` or `%%dag` line up to the cursor; the last is being completed.

    None when the cursor is in another line.
    """
    line = cursor.text_until_cursor
    line = _ASSIGNED.sub("", line.lstrip())
    head, _, rest = line.partition(" ")
    is_ours = head == "%dag" or (head == "%%dag" and cursor.cursor_line == 0)
    return [head, *rest.split(" ")] if is_ours and " " in line else None


def _result(words: list[str] | None, context: CommandContext) -> SimpleMatcherResult:
    if words is None:
        return {"completions": [], "suppress": False}
    typed = words[-1]
    before = [word for word in words[1:-1] if word]
    offers = _flags(before) if words[0] == "%%dag" else _arguments(before, context)
    fitting = [text for text in dict.fromkeys(offers) if text.startswith(typed)]
    return {
        "completions": [SimpleCompletion(text, type="param") for text in fitting],
        "suppress": True,
        "ordered": True,
        "matched_fragment": typed,
    }


def _flags(before: list[str]) -> Iterable[str]:
    if before and before[-1] in KINDS:
        return registry.names(KINDS[before[-1]])
    return [flag for flag in FLAGS if flag not in before]


def _arguments(before: list[str], context: CommandContext) -> Iterable[str]:
    match before:
        case []:
            return SUBCOMMANDS
        case ["run"]:
            return [*_variables(context, is_runnable), *context.cells]
        case ["predict"]:
            return _variables(context, lambda value: isinstance(value, Task))
        case ["cancel"] | ["forget"]:
            return _runs(context, only_unique=True)
        case [command] if command in _OF_A_RUN:
            return _runs(context)
        case [command] if command in _OF_A_TASK:
            return context.tasks
        case [command, _] if command in _OF_A_TASK:
            return _runs(context)
    return ()


def _variables(context: CommandContext, is_meant: Callable[[object], bool]) -> list[str]:
    names = []
    for name, value in context.shell.user_ns.items():
        # Names of IPython's own variables, such as _ and _i3, begin with an underscore.
        if not name.startswith("_") and is_meant(value):
            names.append(name)
    return names


def _runs(context: CommandContext, *, only_unique: bool = False) -> list[str]:
    """Variables, names and ids of runs, as far as this notebook knows them.

    only_unique: without names of several runs, which are not enough to end or delete one.
    """
    known = context.names
    offers = _variables(context, lambda value: isinstance(value, Run))
    if known:
        offers.append(LAST)
    for name, times in Counter(known.values()).items():
        if name.strip() and not (only_unique and times > 1):
            offers.append(shlex.quote(name))
    return [*offers, *known]
