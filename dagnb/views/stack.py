"""What was raised, and where, line by line as IPython shows it: the user's code in full, installed code folded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from dagnb.errors import Cause, Frame, TaskError
from dagnb.views.markup import plain, shortened
from dagnb.views.wording import counted

MAX_FRAMES = 20
MAX_LINE = 300
MAX_LINES = 400
MAX_MESSAGE = 4_000
"""what is shown at most: frames of an exception, characters of a code line, lines in all, characters of a message"""

_GUTTER = 7
_PREVIEW = 100
_PACKAGES = re.compile(r".*[/\\](?:site-packages|dist-packages|python3\.\d+t?)[/\\]")
_LINKS = {
    "cause": "The above exception was the direct cause of the following exception:",
    "context": "During handling of the above exception, another exception occurred:",
}


@dataclass(frozen=True, slots=True)
class StackLine:
    """One line; its kind is for who has colours."""

    text: str
    kind: Literal["text", "place", "code", "current", "carets", "fold", "error", "link"] = "text"


_BLANK = StackLine("")


def raised_lines(error: TaskError | Cause) -> list[StackLine]:
    """The whole story, the oldest exception first, as Python tells it; the middle of a very long one is left out."""
    lead = lead_lines(error)
    gap = [_BLANK] if lead and lead[-1] != _BLANK else []
    lines = [*lead, *gap, *message_lines(error), *rest_lines(error)]
    if len(lines) <= MAX_LINES:
        return lines
    half = MAX_LINES // 2
    return [
        *lines[:half],
        StackLine(f"  ... {counted(len(lines) - 2 * half, 'more line')} ...", "fold"),
        *lines[-half:],
    ]


def lead_lines(error: TaskError | Cause) -> list[StackLine]:
    """What comes before the message: the exceptions that led to this one, and its own frames."""
    lines: list[StackLine] = []
    for cause in error.causes:
        if cause.how in _LINKS:
            lines += [*raised_lines(cause), _BLANK, StackLine(_LINKS[cause.how], "link"), _BLANK]
    return [*lines, *frame_lines(error.frames)]


def message_lines(error: TaskError | Cause) -> list[StackLine]:
    """Type and message."""
    kind, message = (plain(text[: 4 * MAX_MESSAGE]) for text in (error.type, error.message))
    first, *more = shortened(f"{kind}: {message}" if message else kind, MAX_MESSAGE).split("\n")
    return [StackLine(first, "error"), *map(StackLine, more)]


def rest_lines(error: TaskError | Cause) -> list[StackLine]:
    """What comes after the message: notes, and the parts of a group."""
    lines = [
        StackLine(text) for note in error.notes for text in plain(note[:MAX_MESSAGE]).split("\n")
    ]
    parts = [cause for cause in error.causes if cause.how == "part"]
    for i, part in enumerate(parts, 1):
        lines.append(StackLine(f"  +---------------- {i} of {len(parts)} ----------------", "link"))
        lines += [replace(line, text=f"  | {line.text}".rstrip()) for line in raised_lines(part)]
    return lines


def frame_lines(frames: Sequence[Frame]) -> list[StackLine]:
    """The frames, outermost first; where there are many, those at both ends."""
    blocks: list[list[StackLine]] = []
    for is_library, group in groupby(frames, lambda frame: frame.is_library):
        together = list(group)
        blocks += [[_folded(together)]] if is_library else map(_block, together)
    if len(blocks) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        gap = [StackLine(f"  ... {counted(len(blocks) - 2 * half, 'more frame')} ...", "fold")]
        blocks = [*blocks[:half], gap, *blocks[-half:]]
    lines: list[StackLine] = []
    for block in blocks:
        if (
            lines
            and block[0].kind == "place"
            and (len(block) > 1 or lines[-1].kind not in {"place", "fold"})
        ):
            lines.append(_BLANK)
        lines += block
    return lines


def _block(frame: Frame) -> list[StackLine]:
    """Where, the code around, an arrow at the line and carets below what failed."""
    function = "" if frame.function == "<module>" else f", in {_short(frame.function)}"
    lines = [StackLine(f"{_short(frame.file)}, line {frame.line}{function}", "place")]
    if not frame.source.strip():
        return lines
    first = frame.line - len(frame.before)
    texts = [
        plain(text[: 4 * MAX_LINE]).rstrip() for text in (*frame.before, frame.source, *frame.after)
    ]
    indent = _common_indent(texts)
    for number, text in enumerate(texts, first):
        code = text[indent:][:MAX_LINE]
        if number != frame.line:
            lines.append(StackLine(f"{number:>{_GUTTER}} {code}".rstrip(), "code"))
            continue
        lines.append(
            StackLine(f"{'> '.rjust(_GUTTER - len(str(number)), '-')}{number} {code}", "current")
        )
        if carets := _carets(frame, text, indent):
            lines.append(StackLine(" " * (_GUTTER + 1) + carets, "carets"))
    if frame.times > 1:
        lines.append(StackLine(f"  ... {counted(frame.times - 1, 'more time')} ...", "fold"))
    return lines


def _common_indent(texts: Iterable[str]) -> int:
    return min((len(text) - len(text.lstrip()) for text in texts if text), default=0)


def _carets(frame: Frame, source: str, indent: int) -> str:
    """Carets below the columns of a frame; nothing where columns are unknown, do not fit, or cover the whole line."""
    if frame.column is None or source != frame.source.rstrip():
        return ""
    is_one_line = frame.end_line in {None, frame.line}
    end = frame.end_column if is_one_line and frame.end_column is not None else len(source)
    own = len(source) - len(source.lstrip())
    begin, end = max(frame.column, own), min(end, len(source), indent + MAX_LINE)
    if begin >= end or (begin, end) == (own, len(source)):
        return ""
    blank = "".join(
        " " * _columns(character) if character != "\t" else "\t"
        for character in source[indent:begin]
    )
    return blank + "^" * sum(map(_columns, source[begin:end]))


def _columns(character: str) -> int:
    """How many columns a terminal gives a character."""
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _folded(frames: Sequence[Frame]) -> StackLine:
    """Installed code as one line: how many frames, in which packages, and where it ended."""
    files = [_within(_short(frame.file)) for frame in frames]
    packages = list(
        dict.fromkeys(
            re.split(r"[/\\.]", file.removeprefix("<frozen "), maxsplit=1)[0] for file in files
        )
    )
    last, code = frames[-1], shortened(plain(frames[-1].source[:MAX_LINE]).strip(), _PREVIEW)
    where = (
        f"{files[-1]}, line {last.line}, in {_short(last.function)}{f': {code}' if code else ''}"
    )
    return StackLine(
        f"  ... {counted(len(frames), 'frame')} in {', '.join(packages[:3])} ({where})", "fold"
    )


def _within(file: str) -> str:
    """The path within the folder of installed code."""
    return (
        _PACKAGES.sub("", file)
        if _PACKAGES.match(file)
        else "/".join(re.split(r"[/\\]", file)[-2:])
    )


def _short(text: str) -> str:
    return shortened(plain(text[: 4 * MAX_LINE]), MAX_LINE)
