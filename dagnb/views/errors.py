"""Errors of tasks for people: the task, the lines of code with carets, and its last output.

The same lines serve a terminal (text), a notebook (HTML) and IPython (colours): see
`StackLine.kind`.

An exception and its frames are shown as IPython shows them. The user's code is shown in full,
installed code folded to a line:

    Cell In[6], line 7, in read                                 place
          6 def read(lines):                                    code
    ----> 7     return dict(parse(line) for line in lines)      current
                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^           carets
      ... 2 frames in numpy (core/x.py, line 9, in f) ...       fold
    ValueError: could not convert string to float: 'tall'       error
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from dagnb.errors import Cause, Frame, TaskError
from dagnb.views.markup import element, escaped, plain, shortened
from dagnb.views.page import fragment, pre
from dagnb.views.wording import counted
from dagnb.worker_label import worker_text

MAX_FRAMES = 20
MAX_LINE = 300
MAX_LINES = 400
MAX_MESSAGE = 4_000
"""limits: frames of an exception, characters of a line, lines in all, characters of a message"""

_GUTTER = 7
"""columns of the line number, with the arrow before it"""

_PREVIEW = 100
"""characters of the last code line of folded frames"""

_PACKAGES = re.compile(r".*[/\\](?:site-packages|dist-packages|python3\.\d+t?)[/\\]")
_LINKS = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
}


@dataclass(frozen=True, slots=True)
class StackLine:
    """One line; its kind is for viewers that have colours."""

    text: str
    kind: Literal["text", "place", "code", "current", "carets", "fold", "error", "link"] = "text"


_BLANK = StackLine("")


def raised_lines(error: TaskError | Cause) -> list[StackLine]:
    """All lines, the oldest exception first, as Python prints them.

    When there are too many lines, those in the middle are left out.
    """
    lines = lead_lines(error)
    if lines and lines[-1] != _BLANK:
        lines.append(_BLANK)
    lines += [*message_lines(error), *rest_lines(error)]
    if len(lines) <= MAX_LINES:
        return lines
    half = MAX_LINES // 2
    gap = StackLine(f"  ... {counted(len(lines) - 2 * half, 'more line')} ...", "fold")
    return [*lines[:half], gap, *lines[-half:]]


def lead_lines(error: TaskError | Cause) -> list[StackLine]:
    """The lines before the message: the exceptions that led to this one, and its own frames."""
    lines: list[StackLine] = []
    for cause in error.causes:
        if cause.how in _LINKS:
            lines += [*raised_lines(cause), _BLANK, StackLine(_LINKS[cause.how], "link"), _BLANK]
    return [*lines, *frame_lines(error.frames)]


def message_lines(error: TaskError | Cause) -> list[StackLine]:
    """Type and message."""
    # Cut before it is cleaned: a message may have megabytes.
    text = plain(error.type[: 4 * MAX_MESSAGE])
    if message := plain(error.message[: 4 * MAX_MESSAGE]):
        text += f": {message}"
    first, *more = shortened(text, MAX_MESSAGE).split("\n")
    return [StackLine(first, "error"), *map(StackLine, more)]


def rest_lines(error: TaskError | Cause) -> list[StackLine]:
    """The lines after the message: notes, and the parts of an exception group."""
    lines: list[StackLine] = []
    for note in error.notes:
        lines += [StackLine(text) for text in plain(note[:MAX_MESSAGE]).split("\n")]
    parts = [cause for cause in error.causes if cause.how == "part"]
    for i, part in enumerate(parts, 1):
        lines.append(StackLine(f"  +---------------- {i} of {len(parts)} ----------------", "link"))
        lines += [replace(line, text=f"  | {line.text}".rstrip()) for line in raised_lines(part)]
    return lines


def frame_lines(frames: Sequence[Frame]) -> list[StackLine]:
    """The frames, outermost first; where there are many, those at both ends."""
    blocks: list[list[StackLine]] = []
    # Only neighbours are folded: the user's frames between two parts of a library stay in place.
    for is_library, group in groupby(frames, lambda frame: frame.is_library):
        neighbours = list(group)
        if is_library:
            blocks.append([_folded(neighbours)])
        else:
            blocks += map(_block, neighbours)
    if len(blocks) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        gap = [StackLine(f"  ... {counted(len(blocks) - 2 * half, 'more frame')} ...", "fold")]
        blocks = [*blocks[:half], gap, *blocks[-half:]]
    lines: list[StackLine] = []
    for block in blocks:
        # A blank line before a frame with code, and after one; frames of one line stay together.
        is_apart = len(block) > 1 or (lines and lines[-1].kind not in {"place", "fold"})
        if lines and block[0].kind == "place" and is_apart:
            lines.append(_BLANK)
        lines += block
    return lines


def _block(frame: Frame) -> list[StackLine]:
    """File and line, the code around, an arrow at the line and carets below the failing part."""
    place = f"{_short(frame.file)}, line {frame.line}"
    if frame.function != "<module>":
        place += f", in {_short(frame.function)}"
    lines = [StackLine(place, "place")]
    if not frame.source.strip():
        return lines

    source = (*frame.before, frame.source, *frame.after)
    texts = [plain(text[: 4 * MAX_LINE]).rstrip() for text in source]
    indent = _common_indent(texts)
    for number, text in enumerate(texts, frame.line - len(frame.before)):
        code = text[indent:][:MAX_LINE]
        if number != frame.line:
            lines.append(StackLine(f"{number:>{_GUTTER}} {code}".rstrip(), "code"))
            continue
        arrow = "> ".rjust(_GUTTER - len(str(number)), "-")
        lines.append(StackLine(f"{arrow}{number} {code}", "current"))
        if carets := _carets(frame, text, indent):
            lines.append(StackLine(" " * (_GUTTER + 1) + carets, "carets"))
    if frame.times > 1:
        lines.append(StackLine(f"  ... {counted(frame.times - 1, 'more time')} ...", "fold"))
    return lines


def _common_indent(texts: Iterable[str]) -> int:
    return min((len(text) - len(text.lstrip()) for text in texts if text), default=0)


def _carets(frame: Frame, source: str, indent: int) -> str:
    """Carets below the columns of a frame.

    Returns '' where columns are unknown, do not fit, or cover the whole line.
    """
    # Cleaning or shortening the line has moved its columns.
    if frame.column is None or source != frame.source.rstrip():
        return ""
    end = min(len(source), indent + MAX_LINE)
    # A part that goes on in the next line has carets to the end of this one.
    if frame.end_column is not None and frame.end_line in {None, frame.line}:
        end = min(end, frame.end_column)
    own = len(source) - len(source.lstrip())
    begin = max(frame.column, own)
    if begin >= end or (begin, end) == (own, len(source)):
        return ""
    blank = ""
    for character in source[indent:begin]:
        # A tab stays a tab: only the terminal knows how wide it is.
        blank += "\t" if character == "\t" else " " * _columns(character)
    return blank + "^" * sum(map(_columns, source[begin:end]))


def _columns(character: str) -> int:
    """The number of columns that a terminal gives a character."""
    is_wide = unicodedata.east_asian_width(character) in "WF"
    return 1 + is_wide


def _folded(frames: Sequence[Frame]) -> StackLine:
    """Installed code as one line: the number of frames, their packages, and the last of them."""
    files = [_within(_short(frame.file)) for frame in frames]
    packages: dict[str, bool] = {}  # as a set that keeps its order
    for file in files:
        name = re.split(r"[/\\.]", file.removeprefix("<frozen "), maxsplit=1)[0]
        packages[name] = True

    last = frames[-1]
    end = f"{files[-1]}, line {last.line}, in {_short(last.function)}"
    if code := shortened(plain(last.source[:MAX_LINE]).strip(), _PREVIEW):
        end += f": {code}"
    n_frames = counted(len(frames), "frame")
    return StackLine(f"  ... {n_frames} in {', '.join(list(packages)[:3])} ({end})", "fold")


def _within(file: str) -> str:
    """The path within the folder of installed code; elsewhere the last folder and the file."""
    if _PACKAGES.match(file):
        return _PACKAGES.sub("", file)
    return "/".join(re.split(r"[/\\]", file)[-2:])


def _short(text: str) -> str:
    return shortened(plain(text[: 4 * MAX_LINE]), MAX_LINE)


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
