"""Exceptions of the user's functions as data: lines of the user's own code, causes, Python's text.

    call_here, runtime -> [ dagnb, asyncio ] -> [ the user's code, libraries ] -> raise
                          left out (_strip)      frames of the record

Classes of exceptions are user code: reading an attribute may raise anything, or give a wrong value.
So this file relies only on `type(error)`, and returns a record in any case.
"""

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
"""Limits of a record: frames of the error, of each cause; causes and parts in all; notes of each"""

E = TypeVar("E", bound=BaseException)

Label = Callable[[str], str]
"""file -> its name for people, as in 'Cell In[4]'"""


def task_error(
    error: BaseException,
    label: Label = str,
    *,
    kind: str = "",
    message: str = "",
    **facts: Any,
) -> TaskError:
    """Returns the record of an exception and its causes. Never raises because of the user's class.

    label: file -> name for people. kind, message: used instead of the exception's own.
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
        # dagnb interrupted a task whose time was up: its caller can catch that as TimeoutError.
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
    """Returns the frames of the user's code, outermost first; of many, the innermost ones."""
    # Ten more than needed, because dagnb's frames between nested tasks are left out below.
    frames = sources.frames(_strip(trace), label, most=most + 10)
    return [frame for frame in frames if not _is_own(frame.file)][-most:]


def crash_frames(lines: Iterable[tuple[str, int, str]], label: Label) -> list[Frame]:
    """Returns the frames of the user's code, outermost first.

    lines: (file, line, function), the most recent first, as faulthandler writes them.
    """

    def is_ahead(line: tuple[str, int, str]) -> bool:
        return _is_ahead(line[0]) or line[0].startswith("<frozen ")

    inner = dropwhile(is_ahead, reversed(list(lines)))
    frames = []
    for line, repeats in groupby(line for line in inner if not _is_own(line[0])):
        frame = sources.frame_at(*line, label)
        frames.append(replace(frame, times=len(list(repeats))))
    return frames[-_FRAMES:]


def of_result(refused: UnserialisableError, task: str) -> UnserialisableError:
    """Returns the refusal of a result, with the name of its task."""
    error = UnserialisableError(task, "the result", refused.reason, refused.cure)
    cause = refused.__cause__
    if cause is None:
        return error
    # A cause within pickle tells the user nothing, but one in a user's __reduce__ does.
    if not all(frame.is_library for frame in user_frames(cause.__traceback__)):
        error.__cause__ = cause
    return error


def unread_text(culprit: str, error: BaseException) -> str:
    """Returns the message for an error that unpickling the culprit raised."""
    return (
        f"{culprit} cannot be unpickled: {reason_of(error)[:_TEXT_LIMIT]}. "
        "Use plain data, or classes that come back from their pickle and that workers can import."
    )


def _causes(error: BaseException, label: Label, seen: set[int]) -> list[Cause]:
    """Returns the exceptions behind this one, and the parts of a group.

    seen: ids of exceptions that are in the record already, because chains may form a circle.
    """
    causes = []
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
        causes.append(cause)
    return causes


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
    """Returns the traceback from the first frame of the user's side on."""
    while trace is not None and _is_ahead(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ahead(file: str) -> bool:
    """Returns whether frames of this file may be between the worker and the user's function."""
    return _is_own(file) or file.startswith((_ASYNCIO, _THREADS))


def _is_own(file: str) -> bool:
    """Returns whether the file is dagnb's own. Its frames may be amid the user's, in a pickler."""
    return file.startswith(_OWN_FOLDERS) and not file.startswith(_DEMO)


def is_of(error: BaseException, kind: type[E]) -> TypeGuard[E]:
    """Returns whether the error is of this kind.

    Unlike isinstance, which asks the object for `__class__`, it runs no code of the user's.
    """
    return issubclass(type(error), kind)


def message_of(error: BaseException) -> str:
    """Returns the error's message; another text if its class cannot give one."""
    if is_of(error, SystemExit):
        return f"the task called sys.exit({error.code!r}); return a value instead"
    try:
        if is_of(error, EOFError) and str(error) == "EOF when reading a line":
            return f"{error}: a task cannot ask with input(); give it what it needs as an argument"
        return str(error)[:_TEXT_LIMIT]
    except BaseException as second:  # noqa: BLE001  # an exception whose __str__ raises
        return f"(its message cannot be shown: {type(second).__name__} in __str__)"


def _notes(error: BaseException) -> list[str]:
    # Static, so that no __getattr__ of the user's class runs.
    notes = inspect.getattr_static(error, "__notes__", ())
    if not isinstance(notes, list):
        return []
    return [note[:_CAUSE_LIMIT] for note in notes[:_NOTES] if isinstance(note, str)]


def _lines(error: BaseException, label: Label) -> list[str]:
    """Returns Python's text of the exception, its end if it is long."""
    try:
        text = traceback.TracebackException(type(error), error, _strip(error.__traceback__))
        _name_files(text, label)
        lines = list(text.format())
    except BaseException:  # noqa: BLE001  # as above
        lines = [headline(type(error).__qualname__, message_of(error)) + "\n"]
    joined = "".join(lines)
    if len(joined) > _TEXT_LIMIT:
        return [joined[-_TEXT_LIMIT:]]
    return lines


def _name_files(text: traceback.TracebackException, label: Label) -> None:
    """Leave out frames of dagnb, and replace files by their names for people, in the whole chain.

    The loop ends, because a TracebackException has no circles.
    """
    pending: list[traceback.TracebackException | None] = [text]
    while pending:
        each = pending.pop()
        if each is None:
            continue
        pending += [each.__cause__, each.__context__, *(each.exceptions or ())]
        frames = [frame for frame in each.stack if not _is_own(frame.filename)]
        each.stack = traceback.StackSummary.from_list(frames)
        for frame in each.stack:
            _ = frame.line  # read now: the line is looked up by the file's real name
            frame.filename = label(frame.filename)
