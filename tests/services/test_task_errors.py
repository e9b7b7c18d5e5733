"""Errors of tasks in processes of their own: the text of cells, which are in no file, is there as
well.
"""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import dagnb
from dagnb import sources
from dagnb.errors import TaskError, TaskFailedError
from dagnb.views.errors import errors_text
from tests.conformance.agent import private_agent

pytestmark = pytest.mark.redis

LIMIT_S = 60.0
FILE = "/tmp/ipykernel_1/123.py"
CELL = """\
import inspect, json, sys, traceback, warnings

def helper(row):
    raise ValueError("no rows left")

def fails(row):
    return helper(row) + 1

def shows():
    return inspect.getsource(helper)

def prints():
    warnings.warn("careful")
    try:
        1 / 0
    except ZeroDivisionError:
        traceback.print_exc()
    raise LookupError

class Box:
    def __setstate__(self, state):
        raise ValueError("it does not come back")

def makes():
    box = Box()
    box.size = 3
    return box

def takes(box):
    return box.size

def deeper(n):
    if n:
        return deeper(n - 1)
    import ctypes
    ctypes.string_at(0)

def crashes():
    print("just before", file=sys.stderr)
    deeper(50)

def hangs():
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(120)
"""


@pytest.fixture(scope="module")
def _agent() -> Iterator[None]:
    with private_agent():
        yield


@pytest.fixture
def cell(_agent: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a cell whose text is in this process alone."""
    monkeypatch.setitem(
        linecache.cache, FILE, (len(CELL), None, CELL.splitlines(keepends=True), FILE)
    )
    monkeypatch.setattr(sources, "labellers", [{FILE: "Cell In[7]"}.get])
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, FILE, "exec"), space)
    return space


def failure(*nodes: Any) -> TaskError:
    run = dagnb.run(*nodes, workers="process")
    with pytest.raises(TaskFailedError) as caught:
        run.result(LIMIT_S)
    (error,) = caught.value.errors
    return error


def test_an_error_shows_the_lines_of_the_cell_and_its_name(cell: dict[str, Any]) -> None:
    error = failure(dagnb.task(cell["fails"])(5))

    assert errors_text([error]).splitlines()[1:] == [
        "Cell In[7], line 7, in fails",
        "      6 def fails(row):",
        "----> 7     return helper(row) + 1",
        "                   ^^^^^^^^^^^",
        "",
        "Cell In[7], line 4, in helper",
        "      3 def helper(row):",
        '----> 4     raise ValueError("no rows left")',
        "",
        "ValueError: no rows left",
    ]
    assert (
        '  File "Cell In[7]", line 4, in helper\n    raise ValueError("no rows left")\n'
        in error.text()
    )
    assert FILE not in error.text()


def test_a_task_finds_the_source_of_its_helpers(cell: dict[str, Any]) -> None:
    text = dagnb.run(dagnb.task(cell["shows"])(), workers="process").result(LIMIT_S)

    assert text == 'def helper(row):\n    raise ValueError("no rows left")\n'


def test_tracebacks_and_warnings_that_a_task_prints_name_the_cell_and_its_lines(
    cell: dict[str, Any],
) -> None:
    with warnings.catch_warnings():  # workers have the filters of their client
        warnings.simplefilter("default")
        error = failure(dagnb.task(cell["prints"])())

    assert 'Cell In[7]:13: UserWarning: careful\n  warnings.warn("careful")\n' in error.stderr_tail
    assert 'File "Cell In[7]", line 15, in prints\n    1 / 0\n' in error.stderr_tail


def test_an_input_that_does_not_come_back_is_named_by_the_task_that_gave_it(
    cell: dict[str, Any],
) -> None:
    error = failure(dagnb.task(cell["takes"])(dagnb.task(cell["makes"])()))

    assert (error.task, error.type) == ("takes-0", "ValueError")
    assert error.message.startswith(
        "the value of task 'makes-0', which task 'takes-0' takes, cannot be unpickled: it does not come back."
    )
    assert [frame.line for frame in error.frames] == [22]


def test_a_crash_shows_the_lines_of_the_cell_that_led_there(cell: dict[str, Any]) -> None:
    error = failure(dagnb.task(cell["crashes"])())

    outermost, *between, innermost = [frame for frame in error.frames if not frame.is_library]
    assert (outermost.file, outermost.function) == ("Cell In[7]", "crashes")
    assert (innermost.function, innermost.source) == ("deeper", "    ctypes.string_at(0)")
    assert [(frame.source, frame.times) for frame in between] == [
        ("        return deeper(n - 1)", 50)
    ]
    assert "called from deeper at Cell In[7], line" in error.message
    assert error.stderr_tail.startswith(
        "just before\nFatal Python error: Segmentation fault\nMost recent call first:"
    )
    assert "run_host" not in error.stderr_tail
    assert "ctypes.string_at(0)" in errors_text([error])


def test_a_task_that_hung_past_its_time_limit_shows_where(cell: dict[str, Any]) -> None:
    error = failure(dagnb.task(timeout_s=0.2)(cell["hangs"])())

    assert (error.type, error.frames[-1].source) == ("TimeLimit", "    time.sleep(120)")
    assert "in hangs" in error.stderr_tail
