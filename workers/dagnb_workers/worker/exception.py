"""What the user's function raised, as the errors key holds it: the user's own lines, what led to it, Python's text."""

from __future__ import annotations

import asyncio
import concurrent
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import dropwhile, groupby
from types import TracebackType
from typing import Any, Literal, TypeGuard, TypeVar

import dagnb
from dagnb import sources
from dagnb.catchable import class_names
from dagnb.errors import Cause, Frame, TaskError, UnserialisableError
from dagnb.failure import OWN_PACKAGES, TIME_LIMIT, headline, reason_of

_TEXT_LIMIT = 64 * 1024
_CAUSE_LIMIT = 4 * 1024
_FRAMES, _CAUSE_FRAMES, _CAUSES, _NOTES = 50, 20, 16, 20
"""how much is told at most: frames of the error, of each cause; causes and parts in all; notes of each"""

E = TypeVar("E", bound=BaseException)

Label = Callable[[str], str]
"""file -> how people call it"""


def task_error(
    error: BaseException, label: Label = str, *, kind: str = "", message: str = "", **facts: Any
) -> TaskError:
    """Returns the record of an exception and its causes. Never raises because of the user's class.

    label: how people call a file. kind, message: instead of the exception's own.
    facts: further fields of the record: worker, at, stderr_tail, stdout_tail.
    """
    try:
        facts |= _details(error, label)
    except BaseException as second:  # noqa: BLE001  # a class whose attributes raise anything
        facts["notes"] = (
            f"(its lines cannot be shown: {type(second).__name__} in its attributes)",
        )
    return TaskError(
        type=kind or type(error).__qualname__,
        message=message or message_of(error),
        # A task whose time was up was interrupted by us: its caller shall catch a TimeoutError.
        mro=tuple(class_names(TimeoutError if kind == TIME_LIMIT else type(error))),
        **facts,
    )


def _details(error: BaseException, label: Label) -> dict[str, Any]:
    return {
        "frames": tuple(user_frames(error.__traceback__, label)),
        "notes": tuple(_notes(error)),
        "causes": tuple(_causes(error, label, {id(error)})),
        "traceback": tuple(_lines(error, label)),
    }


def user_frames(
    trace: TracebackType | None, label: Label = str, *, most: int = _FRAMES
) -> list[Frame]:
    """The frames on the user's side, outermost first, the innermost at most."""
    found = sources.frames(
        _strip(trace), label, most=most + 10
    )  # those of a task within a task are left out
    return [frame for frame in found if not _is_house(frame.file)][-most:]


def crash_frames(lines: Iterable[tuple[str, int, str]], label: Label) -> list[Frame]:
    """The frames on the user's side of (file, line, function), which come most recent first; outermost first."""
    outermost_first = reversed(list(lines))
    own = dropwhile(
        lambda line: _is_way(line[0]) or line[0].startswith("<frozen "), outermost_first
    )
    found = []
    for line, same in groupby(line for line in own if not _is_house(line[0])):
        frame = sources.frame_at(*line, label)
        found.append(replace(frame, times=len(list(same))))
    return found[-_FRAMES:]


def of_result(refused: UnserialisableError, task: str) -> UnserialisableError:
    """The refusal of a result, of its task; with its cause where that lies in the user's own lines."""
    error, cause = (
        UnserialisableError(task, "the result", refused.reason, refused.cure),
        refused.__cause__,
    )
    if cause is not None and any(
        not frame.is_library for frame in user_frames(cause.__traceback__)
    ):
        error.__cause__ = cause
    return error


def unread_text(what: str, error: BaseException) -> str:
    """The message of an error that was raised when this was unpickled."""
    return (
        f"{what} cannot be unpickled: {reason_of(error)[:_TEXT_LIMIT]}. "
        "Use plain data, or classes that come back from their pickle and that workers can import."
    )


def _causes(error: BaseException, label: Label, seen: set[int]) -> list[Cause]:
    """What this exception was raised from or while handling, and its parts if it is a group; none of them twice."""
    found = []
    for how, other in _others(error):
        if id(other) in seen or len(seen) > _CAUSES:
            continue
        seen.add(id(other))
        cause = Cause(
            how=how,
            type=type(other).__qualname__,
            message=message_of(other)[:_CAUSE_LIMIT],
            frames=tuple(user_frames(other.__traceback__, label, most=_CAUSE_FRAMES)),
            notes=tuple(_notes(other)),
            causes=tuple(_causes(other, label, seen)),
        )
        found.append(cause)
    return found


def _others(
    error: BaseException,
) -> Iterator[tuple[Literal["cause", "context", "part"], BaseException]]:
    if error.__cause__ is not None:
        yield "cause", error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "context", error.__context__
    if is_of(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield "part", part


_OWN_FOLDERS = tuple(
    os.path.dirname(os.path.abspath(str(sys.modules[name].__file__))) + os.sep
    for name in sorted(OWN_PACKAGES & sys.modules.keys())
)
_DEMO = os.path.join(os.path.dirname(os.path.abspath(dagnb.__file__)), "demo") + os.sep
"""The demo's tasks are code of a user, though dagnb ships them."""
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_THREADS = os.path.dirname(os.path.abspath(str(concurrent.__file__))) + os.sep


def _strip(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not ours."""
    while trace is not None and _is_way(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_way(file: str) -> bool:
    """Whether it lies on the way from the worker to the user's function."""
    return _is_house(file) or file.startswith((_ASYNCIO, _THREADS))


def _is_house(file: str) -> bool:
    """Whether it is dagnb's own: a task called inside a task, the handler that interrupted it, a pickler."""
    return file.startswith(_OWN_FOLDERS) and not file.startswith(_DEMO)


def is_of(error: BaseException, kind: type[E]) -> TypeGuard[E]:
    """Returns what isinstance would, which asks the object for its class: that may run code of the user's."""
    return issubclass(type(error), kind)


def message_of(error: BaseException) -> str:
    """Its message, whatever its class does when it is asked for it."""
    if is_of(error, SystemExit):
        return f"the task called sys.exit({error.code!r}); return a value instead"
    try:
        if is_of(error, EOFError) and str(error) == "EOF when reading a line":
            return f"{error}: nobody can type into input() of a task; give it what it needs as an argument"
        return str(error)[:_TEXT_LIMIT]
    except BaseException as second:  # noqa: BLE001  # an exception whose __str__ raises
        return f"(its message cannot be shown: {type(second).__name__} in __str__)"


def _notes(error: BaseException) -> list[str]:
    notes = inspect.getattr_static(
        error, "__notes__", ()
    )  # no __getattr__ of the user's class is asked
    return (
        [note[:_CAUSE_LIMIT] for note in notes[:_NOTES] if isinstance(note, str)]
        if isinstance(notes, list)
        else []
    )


def _lines(error: BaseException, label: Label) -> list[str]:
    try:
        told = traceback.TracebackException(type(error), error, _strip(error.__traceback__))
        _name_files(told, label)
        lines = list(told.format())
    except BaseException:  # noqa: BLE001  # as above
        lines = [headline(type(error).__qualname__, message_of(error)) + "\n"]
    text = "".join(lines)
    return [text[-_TEXT_LIMIT:]] if len(text) > _TEXT_LIMIT else lines


def _name_files(told: traceback.TracebackException, label: Label) -> None:
    """Leave the house out, and call files as people do, in the whole chain; Python has broken its loops already."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        waiting += [
            other
            for other in (one.__cause__, one.__context__, *(one.exceptions or ()))
            if other is not None
        ]
        one.stack = traceback.StackSummary.from_list(
            [entry for entry in one.stack if not _is_house(entry.filename)]
        )
        for entry in one.stack:
            _ = entry.line  # read before the file it is in loses its name
            entry.filename = label(entry.filename)
