"""Exceptions of the user's functions as data: lines of the user's own code, causes, Python's text.

    call_here, runtime -> [ dagnb, asyncio ] -> [ the user's code, libraries ] -> raise
                          left out (_strip)      frames of the record

Classes of exceptions are user code: reading an attribute may raise anything, or give a wrong value.
So this file relies only on `type(error)`, and returns a record in any case.

`FailureReporter` makes the reports of failed attempts from them, and says whether to retry.
"""

from __future__ import annotations

import asyncio
import concurrent
import inspect
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import dropwhile, groupby
from types import TracebackType
from typing import Any, Literal, TypeGuard, TypeVar

import dagnb
from dagnb import sources
from dagnb.errors import Cause, Frame, TaskError, UnserialisableError
from dagnb.failure import OWN_PACKAGES, TIME_LIMIT, class_names, headline, reason_of
from dagnb.graph.options import back_off_bound_s
from dagnb.graph.payload import Signer
from dagnb.protocol.messages import Failure, Offer, Record
from dagnb.protocol.program import Body, FunctionLine
from dagnb.protocol.run_description import RunDescription
from dagnb.storage.interface import Store
from dagnb_workers.worker.executor import TakeOutput, Watch
from dagnb_workers.worker.library import Library
from dagnb_workers.worker.retry import until_available

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


class FailureReporter:
    """Makes the failures of one instance. worker: the worker that it staffs."""

    def __init__(
        self,
        store: Store,
        run: str,
        signer: Signer,
        library: Library,
        watch: Watch,
        take_output: TakeOutput,
        now: Callable[[], float],
        *,
        container: str = "",
    ) -> None:
        """Begin without a worker.

        now: the store's clock, epoch seconds. container: name of this instance's container, or ''.
        """
        self.worker = ""
        self._store, self._run, self._signer = store, run, signer
        self._library, self._watch = library, watch
        self._take_output, self._now = take_output, now
        self._container = container

    def failure(
        self,
        offer: Offer,
        error: BaseException,
        *,
        delay_s: float | None = None,
        kind: str = "",
        message: str = "",
    ) -> Failure:
        """Returns the failure of the attempt, with its output.

        delay_s: wait before the retry, None for no retry.
        kind, message: used instead of the error's own.
        """
        if self._container and is_of(error, ModuleNotFoundError):
            error.add_note(_not_in_container(error.name or "?"))

        # This empties the capture, so that the next attempt does not report this output again.
        stdout, stderr = self._take_output()
        record = task_error(
            error,
            self._library.label,
            kind=kind,
            message=message,
            worker=self.worker,
            at=self._now(),
            stdout_tail=self._library.labelled(stdout),
            stderr_tail=self._library.labelled(stderr),
        )

        return Failure(
            task=offer.task,
            attempt=offer.attempt,
            error=record.to_json(),
            delay_s=delay_s,
            log=stdout + stderr,
        )

    def raised(
        self,
        offer: Offer,
        error: BaseException,
        line: FunctionLine,
        retry_on: tuple[type[BaseException], ...],
    ) -> Failure:
        """Returns the failure of a call that raised, or was interrupted at its time limit."""
        is_late = is_of(error, KeyboardInterrupt) and self._watch.timed_out(
            offer.task, offer.attempt
        )
        # The interrupt of a time limit counts as TimeoutError for `retry_on` as for `except`.
        kind = TimeoutError if is_late else type(error)

        delay_s = _delay_s(offer, line) if issubclass(kind, retry_on) else None
        if not is_late:
            return self.failure(offer, error, delay_s=delay_s)

        message = f"the task ran longer than its limit of {line.timeout_s:g} s and was interrupted"
        return self.failure(offer, error, delay_s=delay_s, kind=TIME_LIMIT, message=message)

    async def unread(
        self, offer: Offer, record: Record, error: BaseException, n_read: int
    ) -> Failure:
        """Returns the failure of a call that could not be unpickled, naming the culprit.

        n_read: values that were unpickled before the error; -1 when the function was not.
        """
        task, upstream = self.task_name(offer, record), record.upstream
        if n_read < 0:
            culprit = f"the function of task '{task}'"
        elif n_read < len(upstream):
            # Names of other tasks are needed only for this message, so they are read only now.
            run = await until_available(lambda: self._store.observe(self._run))
            names = RunDescription.read(run.meta).names
            culprit = f"the value of task '{names[upstream[n_read]]}', which task '{task}' takes,"
        else:
            culprit = f"an argument of task '{task}'"
        return self.failure(offer, error, message=unread_text(culprit, error))

    def task_name(self, offer: Offer, record: Record) -> str:
        """Returns the name of the task for people: its function and a number."""
        calls = self._library.calls
        body = Body.open(record.body, self._signer, self._run, offer.task, record.upstream, calls)
        return f"{self._library.lines[body.function].name}-{body.ordinal}"


def _not_in_container(module: str) -> str:
    return (
        f"The container of this worker has no module '{module}'. If a package brings it, name that "
        "package in @task(requirements=[...]) or Docker(requirements=[...]). Your own modules "
        "travel when tasks, or modules that they need, import them by name; else mount their "
        "folder with Docker(mounts=[...]), or take workers='process'."
    )


def _delay_s(offer: Offer, line: FunctionLine) -> float:
    """Returns a random wait until the next attempt, see back_off_bound_s."""
    return random.uniform(0.0, back_off_bound_s(line.backoff_s, offer.attempt))
