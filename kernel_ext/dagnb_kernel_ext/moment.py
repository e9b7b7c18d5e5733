"""What a view shows at one moment, and what changed between two: a few boxes, however many tasks there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from dagnb.errors import TaskError
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.story import Story, counts, errors_of
from dagnb.views import layout
from dagnb.views.errors import MAX_ERRORS, trace_lines
from dagnb.views.layout import Picture, Progress
from dagnb.views.markup import plain, shortened

MAX_TEXT = 4_000
"""characters of a message, of a traceback, of an output in one error"""

WORDS: Mapping[str, str] = {state.value: state.word for state in TaskState}
"""byte in the store -> word"""

Message: TypeAlias = dict[str, object]
"""What goes to the browser: JSON"""

Label: TypeAlias = Callable[[str], str]
"""file -> how people call it: a cell's file is 'Cell In[3]'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What there is to show. boxes: id -> progress. errors: the first MAX_ERRORS, in the order they were seen."""

    state: str
    counts: Mapping[str, int]
    n_workers: int
    n_failed: int
    elapsed_s: float
    boxes: Mapping[str, Progress]
    errors: Mapping[tuple[int, int], TaskError]
    n_errors: int


def moment(seen: Observation, story: Story, picture: Picture, before: Moment | None = None) -> Moment:
    """The moment of a look. before: the errors it holds are kept and not read again. O(tasks + new errors)."""
    states = {i: WORDS[state] for i, state in enumerate(seen.states)}
    known = before.errors if before is not None else {}
    fresh = {key: text for key, text in seen.errors.items() if key not in known}
    room = MAX_ERRORS - len(known)
    kept = dict(sorted(fresh.items())[: max(room, 0)])
    read = errors_of(replace(seen, errors=kept), story) if kept else []
    place = {name: i for i, name in enumerate(story.names)} if read else {}
    is_over = seen.state is not RunState.RUNNING
    return Moment(
        state=seen.state.value,
        counts=counts(seen),
        n_workers=max(seen.n_instances, before.n_workers if before is not None and is_over else 0),
        n_failed=seen.states.count(TaskState.FAILED),
        elapsed_s=max(0.0, (seen.finished_at if is_over else seen.now) - seen.submitted_at),
        boxes={box.id: layout.progress(box, states) for box in picture.boxes},
        errors={**known, **{(place[error.task], error.attempt): error for error in read}},
        n_errors=len(seen.errors),
    )


def message(now: Moment, before: Moment | None, serial: int, label: Label) -> Message:
    """What changed, everything when there was nothing before; counts and times are always whole."""
    boxes = {
        box: {"state": progress.state, "counts": dict(progress.counts)}
        for box, progress in now.boxes.items()
        if before is None or before.boxes.get(box) != progress
    }
    known = before.errors if before is not None else {}
    return {
        "serial": serial,
        "state": now.state,
        "counts": dict(now.counts),
        "workers": now.n_workers,
        "failed": now.n_failed,
        "elapsed_s": round(now.elapsed_s, 3),
        "boxes": boxes,
        "errors": [_error(error, label) for key, error in now.errors.items() if key not in known],
        "n_errors": now.n_errors,
    }


def is_news(now: Moment, before: Moment | None) -> bool:
    """Whether more than the time went on."""
    return before is None or replace(now, elapsed_s=before.elapsed_s) != before


def labelled(error: TaskError, label: Label) -> TaskError:
    """The error with the names of files as people know them."""
    return replace(error, frames=tuple(replace(frame, file=label(frame.file)) for frame in error.frames))


def _error(error: TaskError, label: Label) -> Message:
    text = "\n".join(trace_lines(labelled(error, label)))
    return {
        "task": plain(error.task),
        "attempt": error.attempt,
        "worker": plain(error.worker),
        "type": plain(error.type),
        "message": shortened(plain(error.message), MAX_TEXT),
        "code": shortened(text, MAX_TEXT),
        "output": shortened(plain(error.stderr_tail or error.stdout_tail), MAX_TEXT),
        "final": error.final,
    }
