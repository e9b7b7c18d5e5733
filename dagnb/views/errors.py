"""Errors of tasks for people: the task, the lines of code with carets, and its last output.

The same lines serve a terminal (text), a notebook (HTML) and IPython (colours): see
`StackLine.kind`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.errors import TaskError
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, pre
from dagnb.views.stack import StackLine, lead_lines, message_lines, raised_lines, rest_lines
from dagnb.views.wording import counted
from dagnb.worker_label import worker_text

MAX_ERRORS = 30
MAX_OUTPUT = 8_000
"""errors, and characters of each output, that are shown at most"""

_LOOKS = {"error": "text-failed", "fold": "text-dim", "link": "text-dim"}


def errors_html(errors: Sequence[TaskError]) -> str:
    """The errors as HTML, the first MAX_ERRORS of them; nothing in them can become markup."""
    if not errors:
        return fragment(element("p", "No errors."))
    body = list(map(article, errors[:MAX_ERRORS]))
    if len(errors) > MAX_ERRORS:
        body.append(element("p", f"and {counted(len(errors) - MAX_ERRORS, 'more error')}"))
    return fragment(*body)


def errors_text(errors: Sequence[TaskError]) -> str:
    """The errors for a terminal, the first MAX_ERRORS of them."""
    if not errors:
        return "No errors."
    return "\n".join(line.text for line in errors_lines(errors))


def errors_lines(
    errors: Sequence[TaskError], *, most: int = MAX_ERRORS, n_output: int = MAX_OUTPUT
) -> list[StackLine]:
    """The lines of errors_text. most: errors at most. n_output: characters of an output."""
    lines: list[StackLine] = []
    for error in errors[:most]:
        if lines:
            lines.append(StackLine(""))
        lines += _paragraph(error, n_output)
    if len(errors) > most:
        lines += [StackLine(""), StackLine(f"and {counted(len(errors) - most, 'more error')}")]
    return lines


def trace_lines(error: TaskError) -> list[str]:
    """The lines of code of an error and of its causes; Python's own text where frames are unknown.

    The message is left out where nothing comes after it: the caller shows it as a title.
    """
    return [line.text for line in _trace(error)]


def _trace(error: TaskError) -> list[StackLine]:
    if not _has_frames(error):
        return _python_lines(error)
    lines = lead_lines(error)
    if rest := rest_lines(error):
        lines += [StackLine(""), *message_lines(error), *rest]
    return lines


def _has_frames(error: TaskError) -> bool:
    """Returns whether more is known of the error than Python's text."""
    return bool(error.frames or error.causes or error.notes)


def _python_lines(error: TaskError) -> list[StackLine]:
    return [StackLine(line) for line in _capped(error.text(), MAX_OUTPUT).splitlines()]


def _capped(text: str, limit: int) -> str:
    """The end of a text, which is where Python says what the error is."""
    # Cut before cleaning, because an output may have gigabytes; four times the limit, because
    # cleaning drops escape sequences.
    kept = plain(text[-4 * limit :])
    if len(text) <= 4 * limit and len(kept) <= limit:
        return kept
    return f"... more before ...\n{kept[-limit:]}"


def _where(error: TaskError) -> str:
    worker = plain(worker_text(error.worker)) or "no worker"
    parts = [f"attempt {error.attempt} on {worker}"]
    if error.final:
        parts.append("not tried again")
    # Both are of the worker process, if it ended; a task that raised an exception has neither.
    if error.exit_code is not None:
        parts.append(f"exit code {error.exit_code}")
    if error.signal is not None:
        parts.append(f"signal {error.signal}")
    return ", ".join(parts)


def _outputs(error: TaskError, limit: int) -> list[tuple[str, str]]:
    """The last output of the task: (name of the stream, text) of the streams that have text."""
    outputs = []
    for name, tail in (("stderr", error.stderr_tail), ("stdout", error.stdout_tail)):
        text = _capped(tail, limit)
        if text.strip():
            outputs.append((name, text))
    return outputs


def article(error: TaskError) -> str:
    """One error as an element: task, attempt, lines of code, last output."""
    head, *more = message_lines(error)
    message = element("span", escaped(head.text), class_="text-failed")
    parts = [
        element("h3", escaped(error.task), " ", message),
        element("p", escaped(_where(error)), class_="text-dim"),
    ]
    code = [*more, *_trace(error)]
    if any(line.text.strip() for line in code):
        parts.append(element("pre", "\n".join(map(_marked, code))))
    for name, text in _outputs(error, MAX_OUTPUT):
        parts.append(element("details", element("summary", name), pre(text)))
    return element("article", *parts)


def _marked(line: StackLine) -> str:
    text, look = escaped(line.text), _LOOKS.get(line.kind)
    return element("span", text, class_=look) if look else text


def _paragraph(error: TaskError, n_output: int) -> list[StackLine]:
    lines = [StackLine(f"task '{plain(error.task)}', {_where(error)}")]
    if _has_frames(error):
        lines += raised_lines(error)
    else:
        lines += [*_python_lines(error), *message_lines(error)]
    for name, text in _outputs(error, n_output):
        lines.append(StackLine(f"{name}:"))
        lines += [StackLine(f"  {line}") for line in text.splitlines()]
    return lines
