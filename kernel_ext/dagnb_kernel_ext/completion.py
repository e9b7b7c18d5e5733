"""Completion after `%%dag` and `%dag`: flags, names of planners and workers, subcommands; elsewhere it stays out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from dagnb import registry
from dagnb.graph.task import Node
from dagnb_kernel_ext.flags import FLAGS, KINDS
from dagnb_kernel_ext.manual import SUBCOMMANDS

Matcher: TypeAlias = Callable[[CompletionContext], SimpleMatcherResult]


def matcher_for(shell: InteractiveShell) -> Matcher:
    """The matcher of this shell."""

    def match(context: CompletionContext) -> SimpleMatcherResult:
        return _result(_words_after(context), shell)

    # The priority puts it before Jedi, which would offer keywords.
    made: Matcher = context_matcher(identifier="dagnb", priority=200)(match)
    return made


def _words_after(context: CompletionContext) -> list[str] | None:
    """Words of our line up to the cursor, the last being completed; None when the cursor is somewhere else."""
    line = context.text_until_cursor
    head, _, rest = line.lstrip().partition(" ")
    is_ours = head == "%dag" or (head == "%%dag" and context.cursor_line == 0)
    return [head, *rest.split(" ")] if is_ours and " " in line.lstrip() else None


def _result(words: list[str] | None, shell: InteractiveShell) -> SimpleMatcherResult:
    if words is None:
        return {"completions": [], "suppress": False}
    typed = words[-1]
    found = [SimpleCompletion(text, type="param") for text in _offers(words, shell) if text.startswith(typed)]
    return {"completions": found, "suppress": True, "ordered": True, "matched_fragment": typed}


def _offers(words: list[str], shell: InteractiveShell) -> Iterable[str]:
    before = [word for word in words[1:-1] if word]
    if words[0] == "%%dag":
        if before and before[-1] in KINDS:
            return registry.names(KINDS[before[-1]])
        return [flag for flag in FLAGS if flag not in before]
    if not before:
        return SUBCOMMANDS
    if before == ["run"]:
        return [name for name, value in shell.user_ns.items() if isinstance(value, Node) and not name.startswith("_")]
    return ()
