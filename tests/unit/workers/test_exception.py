"""Exceptions of tasks as the errors key holds them."""

from __future__ import annotations

import json
import linecache
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from dagnb_workers.worker.exception import (
    message_of,
    of_result,
    task_error,
    unread_text,
    user_frames,
)

from dagnb.errors import UnserialisableError
from dagnb.graph.payload import encode_value

CELL = "<a cell>"
TEXT = """\
import json

def inner(row):
    limit = 3
    if row > limit:
        raise ValueError("no rows")
    return row

def outer(row):
    return inner(row) + 1

def parse(text):
    return json.loads(text)

def down(n):
    return down(n + 1)

class Refuses:
    def __getstate__(self):
        raise RuntimeError("not me")
"""


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a cell defines; its text is known to this process."""
    monkeypatch.setitem(
        linecache.cache, CELL, (len(TEXT), None, TEXT.splitlines(keepends=True), CELL)
    )
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(TEXT, CELL, "exec"), space)
    return space


def label(file: str) -> str:
    return "Cell In[4]" if file == CELL else file


def caught(function: Callable[..., Any], *args: Any) -> BaseException:
    """Returns the exception that it raises, its traceback beginning with the function itself."""
    with pytest.raises(BaseException) as raised:
        function(*args)
    error = raised.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


def recorded(error: BaseException, **facts: Any) -> dict[str, Any]:
    """The record as JSON; fields that it leaves out are empty."""
    written: dict[str, Any] = json.loads(task_error(error, label, **facts).to_json())
    return {key: [] for key in ("frames", "notes", "causes", "traceback")} | written


def test_frames_bear_the_label_the_line_its_columns_and_its_neighbours(
    cell: dict[str, Any],
) -> None:
    outer, inner = recorded(caught(cell["outer"], 5))["frames"]

    assert outer == {
        "file": "Cell In[4]", "line": 10, "function": "outer",
        "source": "    return inner(row) + 1",
        "end_line": 10, "column": 11, "end_column": 21, "before": ["def outer(row):"], "after": [],
        "is_library": False, "times": 1,
    }  # fmt: skip
    assert (inner["line"], inner["before"], inner["after"]) == (
        6,
        ["    limit = 3", "    if row > limit:"],
        ["    return row"],
    )


def test_pythons_own_text_names_the_cell_and_has_its_lines(cell: dict[str, Any]) -> None:
    text = "".join(recorded(caught(cell["outer"], 5))["traceback"])

    assert re.sub(
        r"\n +[~^]+\n", "\n", text
    ) == (  # Python 3.13 underlines calls otherwise than 3.11
        "Traceback (most recent call last):\n"
        '  File "Cell In[4]", line 10, in outer\n    return inner(row) + 1\n'
        '  File "Cell In[4]", line 6, in inner\n    raise ValueError("no rows")\n'
        "ValueError: no rows\n"
    )


def test_columns_count_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def f():\n    'größer', missing\n"
    monkeypatch.setitem(
        linecache.cache, CELL, (len(text), None, text.splitlines(keepends=True), CELL)
    )
    space: dict[str, Any] = {}
    exec(compile(text, CELL, "exec"), space)

    (frame,) = user_frames(caught(space["f"]).__traceback__)

    assert frame.source[frame.column : frame.end_column] == "missing"


def test_frames_of_libraries_are_marked_and_have_no_neighbours(cell: dict[str, Any]) -> None:
    frames = recorded(caught(cell["parse"], "{"))["frames"]

    assert [frame["function"] for frame in frames] == ["parse", "loads", "decode", "raw_decode"]
    assert [frame["is_library"] for frame in frames] == [False, True, True, True]
    assert not any(frame["before"] or frame["after"] for frame in frames[1:])


def test_a_recursion_is_one_frame_and_who_began_it_is_told(cell: dict[str, Any]) -> None:
    def begin() -> None:
        cell["down"](0)

    first, *_, last = user_frames(caught(begin).__traceback__)

    assert (first.function, last.function) == ("begin", "down")
    assert sys.getrecursionlimit() / 2 < last.times < sys.getrecursionlimit()


def test_causes_contexts_and_notes_are_told() -> None:
    def chained() -> None:
        try:
            try:
                int("a")
            except ValueError:
                raise KeyError("b")  # noqa: B904  # that is what a context is
        except KeyError as error:
            error.add_note("seen on the way")
            raise LookupError("c") from error

    error = recorded(caught(chained))
    (cause,) = error["causes"]
    (context,) = cause["causes"]

    assert (error["type"], cause["how"], cause["type"], cause["message"]) == (
        "LookupError",
        "cause",
        "KeyError",
        "'b'",
    )
    assert (cause["notes"], error["notes"]) == (["seen on the way"], [])
    assert (context["how"], context["type"], context["causes"]) == ("context", "ValueError", [])
    assert [frame["source"].strip() for frame in context["frames"]] == ['int("a")']


def test_a_context_that_was_suppressed_is_not_told() -> None:
    def chained() -> None:
        try:
            int("a")
        except ValueError:
            raise KeyError("b") from None

    assert recorded(caught(chained))["causes"] == []


def test_the_parts_of_groups_are_told_within_limits() -> None:
    def grouped() -> None:
        raise ExceptionGroup(
            "many", [ExceptionGroup("inner", [OSError(1)]), *(KeyError(i) for i in range(1_000))]
        )

    inner, *keys = recorded(caught(grouped))["causes"]

    assert (inner["how"], inner["causes"][0]["type"]) == ("part", "OSError")
    assert {key["type"] for key in keys} == {"KeyError"}
    assert len(keys) == 14


def test_exceptions_that_lead_to_each_other_are_told_once() -> None:
    left, right = ValueError("left"), ValueError("right")
    left.__cause__, right.__cause__ = right, left

    (cause,) = recorded(left)["causes"]

    assert (cause["message"], cause["causes"]) == ("right", [])


def test_what_an_exception_class_of_the_user_does_wrong_stops_nothing() -> None:
    class OddError(Exception):
        __notes__ = 5

        def __str__(self) -> str:
            raise KeyError

    error = recorded(OddError())

    assert error["message"] == "(its message cannot be shown: KeyError in __str__)"
    assert error["notes"] == []


class _Body(Exception):  # noqa: N818  # as users write them
    """Its attributes are those of an answer, as in clients of web services."""

    def __init__(self, body: dict[str, int]) -> None:
        super().__init__("no answer")
        self.body = body

    def __getattr__(self, name: str) -> int:
        return self.body[name]


class _Notes(Exception):  # noqa: N818
    @property
    def __notes__(self) -> list[str]:
        raise OSError("no notes")


class _Nothing(Exception):  # noqa: N818
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


@pytest.mark.parametrize(
    ("make", "kind"), [(lambda: _Body({}), "_Body"), (_Notes, "_Notes"), (_Nothing, "_Nothing")]
)
def test_an_exception_whose_attributes_raise_is_told_all_the_same(
    make: Callable[[], Exception], kind: str
) -> None:
    error = recorded(make())

    assert error["type"] == kind
    assert error["mro"][0].endswith(f":{kind}")
    assert "no answer" in error["message"] or kind != "_Body"


def test_a_refused_result_has_a_cause_where_a_class_of_the_user_refused(
    cell: dict[str, Any],
) -> None:
    def refused(value: object) -> dict[str, Any]:
        with pytest.raises(UnserialisableError) as caught:
            encode_value(value, "?")
        return recorded(of_result(caught.value, "f-3"))

    user, generator = refused([cell["Refuses"]()]), refused(n for n in "ab")

    assert user["message"].startswith(
        "the result of task 'f-3' cannot be pickled: "
        "`result[0]` is of type Refuses: RuntimeError: not me."
    )
    assert [frame["line"] for frame in user["causes"][0]["frames"]] == [20]
    assert generator["causes"] == []


def test_what_could_not_be_unpickled_is_named() -> None:
    assert unread_text(
        "the function of task 'f-0'", ModuleNotFoundError("No module named 'x'.")
    ) == (
        "the function of task 'f-0' cannot be unpickled: No module named 'x'. "
        "Use plain data, or classes that come back from their pickle and that workers can import."
    )


def test_who_asks_for_input_in_a_task_is_told_that_nobody_can_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(EOFError) as raised:
            input()

    message = message_of(raised.value)

    assert message.startswith("EOF when reading a line: a task cannot ask with input(); give it")
    assert message_of(EOFError("of a socket")) == "of a socket"
