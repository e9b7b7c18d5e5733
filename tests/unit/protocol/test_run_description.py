"""The errors key, read back."""

from __future__ import annotations

import json
import linecache
from typing import Any

import pytest

from dagnb.errors import Cause, Frame, TaskError
from dagnb.failure import read_errors
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.run_description import RunDescription

DESCRIPTION = RunDescription(
    name="n", planner="p", names=("f-0",), functions=("f",), upstream=((),), sinks=(0,),
    is_single=True,
)  # fmt: skip
RAISED = {"type": "ValueError", "message": "no rows"}


def read(**told: Any) -> TaskError:
    seen = Observation(
        run="01RUN", state=RunState.FAILED, states="F", meta="{}", now=9.0, submitted_at=1.0,
        finished_at=9.0, reason="", events=(), errors={(0, 1): json.dumps(RAISED | told)},
        workers={}, results={}, n_instances=1, cursor="",
    )  # fmt: skip
    (error,) = read_errors(seen.errors, DESCRIPTION.names, seen.failed)
    return error


def test_an_error_written_before_causes_notes_and_context_were_told_reads() -> None:
    frame = {
        "file": "a.py",
        "line": 3,
        "function": "f",
        "source": "1 / 0",
        "end_line": 3,
        "column": 0,
        "end_column": 5,
    }

    assert read(worker="w", frames=[frame], traceback=["text"], at=2.0) == TaskError(
        task="f-0", attempt=1, worker="w", **RAISED, traceback=("text",), at=2.0, final=True,
        frames=(
            Frame(
                file="a.py", line=3, function="f", source="1 / 0",
                end_line=3, column=0, end_column=5,
            ),
        ),
    )  # fmt: skip


def test_an_error_written_by_a_later_version_reads_without_what_is_new() -> None:
    assert read(
        frames=[{"file": "a.py", "line": 3, "function": "f", "colour": "red"}], mood="bad"
    ).frames == (Frame(file="a.py", line=3, function="f"),)


def test_causes_notes_and_the_lines_around_come_back() -> None:
    frame = {
        "file": "a.py",
        "line": 3,
        "function": "f",
        "source": "x",
        "before": ["w"],
        "after": ["y"],
        "times": 4,
    }
    deeper = {"how": "context", **RAISED}
    cause = {"how": "cause", **RAISED, "frames": [frame], "notes": ["one"], "causes": [deeper]}

    error = read(notes=["two"], causes=[cause])

    assert error.notes == ("two",)
    assert error.causes == (
        Cause(
            how="cause",
            **RAISED,
            frames=(
                Frame(
                    file="a.py",
                    line=3,
                    function="f",
                    source="x",
                    before=("w",),
                    after=("y",),
                    times=4,
                ),
            ),
            notes=("one",),
            causes=(Cause(how="context", **RAISED),),
        ),
    )


def test_a_line_that_its_worker_could_not_read_is_filled_in_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        linecache.cache, "<cell>", (9, None, ["def f():\n", "    1 / 0\n"], "<cell>")
    )

    (frame,) = read(frames=[{"file": "<cell>", "line": 2, "function": "f"}]).frames

    assert frame.source == "    1 / 0"
