"""Errors of tasks for people: whose, where, the lines of code with carets, and what the task last wrote."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from dagnb.errors import Frame, TaskError
from dagnb.views.markup import element, escaped, plain, shortened
from dagnb.views.page import fragment, pre
from dagnb.views.wording import counted

MAX_ERRORS = 30
MAX_FRAMES = 20
MAX_LINE = 300
MAX_MESSAGE = 4_000
MAX_OUTPUT = 8_000
"""what is shown at most: errors, frames of each, characters of a code line, of a message, of an output"""


def errors_html(errors: Sequence[TaskError]) -> str:
    """The errors as HTML, the first MAX_ERRORS of them; nothing in them can become markup."""
    if not errors:
        return fragment(element("p", "No errors."))
    body = [_article(error) for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        body.append(element("p", f"and {counted(len(errors) - MAX_ERRORS, 'more error')}"))
    return fragment(*body)


def errors_text(errors: Sequence[TaskError]) -> str:
    """The errors for a terminal, the first MAX_ERRORS of them."""
    if not errors:
        return "No errors."
    parts = [_paragraph(error) for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        parts.append(f"and {counted(len(errors) - MAX_ERRORS, 'more error')}")
    return "\n\n".join(parts)


def trace_lines(error: TaskError) -> list[str]:
    """The traceback, a line each: of the frames if there are any, else as Python wrote it.

    The middle of a long one is left out.
    """
    if not error.frames:
        return _capped("".join(error.traceback), MAX_OUTPUT).splitlines()
    frames, half = error.frames, MAX_FRAMES // 2
    if len(frames) <= MAX_FRAMES:
        return [line for frame in frames for line in _frame_lines(frame)]
    first = [line for frame in frames[:half] for line in _frame_lines(frame)]
    last = [line for frame in frames[-half:] for line in _frame_lines(frame)]
    return [*first, f"  ... {counted(len(frames) - 2 * half, 'more frame')} ...", *last]


def _frame_lines(frame: Frame) -> list[str]:
    """Where, the code, and carets below what failed."""
    file, function = (shortened(plain(text[: 4 * MAX_LINE]), MAX_LINE) for text in (frame.file, frame.function))
    lines = [f"{file}, line {frame.line}, in {function}"]
    source = plain(frame.source[: 4 * MAX_LINE]).rstrip()
    code = source.lstrip()
    if code:
        lines.append("    " + code[:MAX_LINE])
        carets = _carets(frame, source, len(source) - len(code))
        if carets:
            lines.append("    " + carets)
    return lines


def _carets(frame: Frame, source: str, indent: int) -> str:
    """Carets below the columns of a frame; nothing where columns are unknown, do not fit, or cover the whole line."""
    if frame.column is None or source != frame.source.rstrip():
        return ""
    is_one_line = frame.end_line in {None, frame.line}
    end = frame.end_column if is_one_line and frame.end_column is not None else len(source)
    begin, end = max(frame.column, indent), min(end, len(source), indent + MAX_LINE)
    if begin >= end or (begin, end) == (indent, len(source)):
        return ""
    blank = "".join(" " * _columns(character) if character != "\t" else "\t" for character in source[indent:begin])
    return blank + "^" * sum(map(_columns, source[begin:end]))


def _columns(character: str) -> int:
    """How many columns a terminal gives a character."""
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


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


def _outputs(error: TaskError) -> list[tuple[str, str]]:
    """What the task wrote last: (name of the stream, text), those with text."""
    tails = (("stderr", error.stderr_tail), ("stdout", error.stdout_tail))
    capped = ((name, _capped(tail, MAX_OUTPUT)) for name, tail in tails)
    return [(name, text) for name, text in capped if text.strip()]


def _message(error: TaskError) -> str:
    kind, message = (plain(text[: 4 * MAX_MESSAGE]) for text in (error.type, error.message))
    return shortened(f"{kind}: {message}" if message else kind, MAX_MESSAGE)


def _article(error: TaskError) -> str:
    head, _, rest = _message(error).partition("\n")
    title = element("h3", escaped(error.task), " ", element("span", escaped(head), class_="text-failed"))
    parts = [title, element("p", escaped(_where(error)), class_="text-dim")]
    code = "\n".join([*([rest] if rest else []), *trace_lines(error)])
    if code.strip():
        parts.append(pre(code))
    for name, text in _outputs(error):
        parts.append(element("details", element("summary", name), pre(text)))
    return element("article", *parts)


def _paragraph(error: TaskError) -> str:
    lines = [f"task '{plain(error.task)}', {_where(error)}"]
    lines += [f"  {line}" for line in trace_lines(error)]
    lines += [f"  {line}" for line in _message(error).splitlines()]
    for name, text in _outputs(error):
        lines.append(f"  {name}:")
        lines += [f"    {line}" for line in text.splitlines()]
    return "\n".join(lines)
