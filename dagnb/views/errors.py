"""Errors of tasks for people: whose, where, the lines of code with carets, and what the task last wrote."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.errors import TaskError
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, pre
from dagnb.views.stack import StackLine, lead_lines, message_lines, raised_lines, rest_lines
from dagnb.views.wording import counted

MAX_ERRORS = 30
MAX_OUTPUT = 8_000
"""what is shown at most: errors, characters of an output"""

_LOOKS = {"error": "text-failed", "fold": "text-dim", "link": "text-dim"}


def errors_html(errors: Sequence[TaskError]) -> str:
    """The errors as HTML, the first MAX_ERRORS of them; nothing in them can become markup."""
    if not errors:
        return fragment(element("p", "No errors."))
    body = [article(error) for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        body.append(element("p", f"and {counted(len(errors) - MAX_ERRORS, 'more error')}"))
    return fragment(*body)


def errors_text(errors: Sequence[TaskError]) -> str:
    """The errors for a terminal, the first MAX_ERRORS of them."""
    return "\n".join(line.text for line in errors_lines(errors)) if errors else "No errors."


def errors_lines(
    errors: Sequence[TaskError], *, most: int = MAX_ERRORS, n_output: int = MAX_OUTPUT
) -> list[StackLine]:
    """As errors_text, by lines. most: errors at most. n_output: characters of each of their outputs."""
    lines: list[StackLine] = []
    for error in errors[:most]:
        lines += [*([StackLine("")] if lines else []), *_paragraph(error, n_output)]
    if len(errors) > most:
        lines += [StackLine(""), StackLine(f"and {counted(len(errors) - most, 'more error')}")]
    return lines


def trace_lines(error: TaskError) -> list[str]:
    """The lines of code, of what led to them too: of frames if there are any, else as Python wrote it.

    Its own message is left out where nothing comes after it.
    """
    return [line.text for line in _trace(error)]


def _trace(error: TaskError) -> list[StackLine]:
    if not _is_told(error):
        return _python_lines(error)
    rest = rest_lines(error)
    return [*lead_lines(error), *([StackLine(""), *message_lines(error), *rest] if rest else [])]


def _is_told(error: TaskError) -> bool:
    """Whether there is more than Python's text."""
    return bool(error.frames or error.causes or error.notes)


def _python_lines(error: TaskError) -> list[StackLine]:
    return [StackLine(line) for line in _capped(error.text(), MAX_OUTPUT).splitlines()]


def _capped(text: str, limit: int) -> str:
    """The end of a text, which is where errors say what they are, cleaned after most of it is cut away."""
    kept = plain(text[-4 * limit :])
    if len(text) <= 4 * limit and len(kept) <= limit:
        return kept
    return f"... more before ...\n{kept[-limit:]}"


def _where(error: TaskError) -> str:
    parts = [f"attempt {error.attempt} on {plain(error.worker) or 'no worker'}"]
    if error.final:
        parts.append("not tried again")
    if error.exit_code is not None:
        parts.append(f"exit code {error.exit_code}")
    if error.signal is not None:
        parts.append(f"signal {error.signal}")
    return ", ".join(parts)


def _outputs(error: TaskError, limit: int) -> list[tuple[str, str]]:
    """What the task wrote last: (name of the stream, text), those with text."""
    tails = (("stderr", error.stderr_tail), ("stdout", error.stdout_tail))
    capped = ((name, _capped(tail, limit)) for name, tail in tails)
    return [(name, text) for name, text in capped if text.strip()]


def article(error: TaskError) -> str:
    """One error as an element: whose, where, the lines of code, what it wrote last."""
    head, *more = message_lines(error)
    title = element(
        "h3", escaped(error.task), " ", element("span", escaped(head.text), class_="text-failed")
    )
    parts = [title, element("p", escaped(_where(error)), class_="text-dim")]
    code = [*more, *_trace(error)]
    if any(line.text.strip() for line in code):
        parts.append(element("pre", "\n".join(map(_marked, code))))
    for name, text in _outputs(error, MAX_OUTPUT):
        parts.append(element("details", element("summary", name), pre(text)))
    return element("article", *parts)


def _marked(line: StackLine) -> str:
    look = _LOOKS.get(line.kind)
    return element("span", escaped(line.text), class_=look) if look else escaped(line.text)


def _paragraph(error: TaskError, n_output: int) -> list[StackLine]:
    lines = [StackLine(f"task '{plain(error.task)}', {_where(error)}")]
    if _is_told(error):
        lines += raised_lines(error)
    else:
        lines += [*_python_lines(error), *message_lines(error)]
    for name, text in _outputs(error, n_output):
        lines += [StackLine(f"{name}:"), *(StackLine(f"  {line}") for line in text.splitlines())]
    return lines
