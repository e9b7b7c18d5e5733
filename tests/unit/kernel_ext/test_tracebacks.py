"""What IPython prints when a run fails: where it was asked for, and where it failed."""

from __future__ import annotations

import re

import pytest

from dagnb import sources
from dagnb.errors import RunError, TaskFailedError
from tests.unit.kernel_ext.conftest import Cells

DEFINE = """\
from dagnb import task
def inner(row):
    if row > 3:
        raise ValueError("no rows left")
    return row
@task
def outer(row):
    return inner(row) + 1
"""


def printed(cells: Cells, source: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the last cell shows as it fails, without ids of runs."""
    capsys.readouterr()
    assert isinstance(cells.attempt(source).error_in_exec, RunError)
    return [
        re.sub(r"\b[0-9A-Z]{26}\b", "RUN", line) for line in capsys.readouterr().out.splitlines()
    ]


def test_the_cell_that_asked_comes_first_and_the_lines_that_failed_after_it(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(DEFINE)

    assert printed(cells, "n = 5\nouter(n).run().result()", capsys) == [
        "-" * 75,
        "TaskFailedError" + "Traceback (most recent call last)".rjust(60),
        "Cell In[2], line 2",
        "      1 n = 5",
        "----> 2 outer(n).run().result()",
        "",
        (
            "TaskFailedError: task 'outer-0' failed after 1 attempt(s) on worker 1: "
            "ValueError: no rows left. "
            "`dagnb errors RUN` shows everything."
        ),
        "",
        "task 'outer-0', attempt 1 on worker 1, not tried again",
        "Cell In[1], line 8, in outer",
        "      6 @task",
        "      7 def outer(row):",
        "----> 8     return inner(row) + 1",
        "                   ^^^^^^^^^^",
        "",
        "Cell In[1], line 4, in inner",
        "      2 def inner(row):",
        "      3     if row > 3:",
        '----> 4         raise ValueError("no rows left")',
        "      5     return row",
        "",
        "ValueError: no rows left",
    ]


def test_a_helper_that_waits_for_the_run_is_shown_and_the_way_through_dagnb_is_not(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(DEFINE)
    cells.run("def ask(n):\n    return outer(n).run().result()")

    lines = printed(cells, "ask(5)", capsys)

    assert [line for line in lines if ", line " in line] == [
        "Cell In[3], line 1",
        "Cell In[2], line 2, in ask",
        "Cell In[1], line 8, in outer",
        "Cell In[1], line 4, in inner",
    ]


def test_a_dag_cell_shows_its_magic_as_it_was_typed(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(cells, "%%dag total\ndef bad(n):\n    return 1 / n\nbad(0)", capsys)

    assert "----> 1 %%dag total" in lines
    assert "----> 3     return 1 / n" in lines
    assert not [line for line in lines if "get_ipython" in line]


def test_a_line_magic_is_shown_as_it_was_typed(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run("from dagnb import task\nbad = task(lambda n: 1 / n)(0)")

    assert "----> 1 %dag run bad" in printed(cells, "%dag run bad", capsys)


def test_every_task_that_failed_is_told_with_its_own_lines(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(DEFINE + "import dagnb")

    lines = printed(
        cells, "dagnb.run(outer(5), outer(6), outer(1), on_error='continue').result()", capsys
    )

    assert {line.partition(",")[0] for line in lines if line.startswith("task ")} == {
        "task 'outer-0'",
        "task 'outer-1'",
    }
    assert lines.count("ValueError: no rows left") == 2
    assert any("(and 1 more)" in line for line in lines)


def test_of_many_failed_tasks_ten_are_told(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(DEFINE + "import dagnb")

    lines = printed(
        cells, "dagnb.run(*[outer(9) for _ in range(15)], on_error='continue').result()", capsys
    )

    assert lines.count("ValueError: no rows left") == 10
    assert lines[-1] == "and 5 more errors"


def test_a_run_past_its_deadline_tells_the_limit_and_who_asked(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run("import dagnb, time\nnap = dagnb.task(lambda: time.sleep(0.3))")

    lines = printed(cells, "dagnb.run(nap(), deadline_s=0.05).result()", capsys)

    assert lines[2:4] == [
        "Cell In[2], line 1",
        "----> 1 dagnb.run(nap(), deadline_s=0.05).result()",
    ]
    assert lines[-1].endswith(
        "run RUN gave no result within 0.05 s: it passed its deadline and was ended."
    )


def test_there_are_colours_where_the_shell_has_colours(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(DEFINE)
    cells.shell.colors = "linux"

    lines = printed(cells, "outer(5).run().result()", capsys)

    assert lines[-1] == "\x1b[31mValueError: no rows left\x1b[0m"
    assert '\x1b[32m----> 4         raise ValueError("no rows left")\x1b[0m' in lines


def test_an_error_that_was_never_raised_here_is_shown_without_who_asked(cells: Cells) -> None:
    cells.run(DEFINE)
    error = cells.attempt("outer(5).run().result()").error_in_exec
    assert isinstance(error, TaskFailedError)

    lines = TaskFailedError("01RUN", error.errors)._render_traceback_()  # type: ignore[attr-defined]  # put on at load

    assert lines[0].startswith("TaskFailedError: task 'outer-0' failed")


def test_source_of_cells_is_there_in_a_task(cells: Cells) -> None:
    cells.run("import inspect")

    cells.run("%%dag text\ndef own():\n    return inspect.getsource(own)\nown()")

    assert cells["text"] == "def own():\n    return inspect.getsource(own)\n"


def test_after_unload_nothing_is_left(cells: Cells) -> None:
    assert len(sources.labellers) == 1

    cells.shell.run_line_magic("unload_ext", "dagnb")

    assert sources.labellers == []
    assert not hasattr(RunError, "_render_traceback_")


def test_a_class_of_the_notebook_can_be_caught_around_a_dag_cell(cells: Cells) -> None:
    cells.run(
        "class ApiError(Exception):\n    def __init__(self, code, body):\n"
        "        super().__init__(code, body)"
    )
    source = "def call():\n    raise ApiError(404, 'gone')\ncall()"

    cells.run(
        f"try:\n    get_ipython().run_cell_magic('dag', 'total', {source!r})\n"
        "except ApiError as error:\n"
        "    seen = type(error).__name__, str(error.__cause__)"
    )

    assert cells["seen"] == ("TaskFailedError", "ApiError: (404, 'gone')")
