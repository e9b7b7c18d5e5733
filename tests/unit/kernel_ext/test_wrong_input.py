"""What IPython prints when a cell or a line is wrong: the user's own line, what is wrong, the cure,
no more.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dagnb import session
from tests.unit.kernel_ext.conftest import Cells

RULE = "-" * 75
DOUBLE = "def double(n):\n    return 2 * n\n"


@pytest.fixture(autouse=True)
def quiet(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was printed yet."""
    capsys.readouterr()


def heading(kind: str) -> list[str]:
    """What IPython begins with."""
    return [RULE, f"{kind}{'Traceback (most recent call last)':>{75 - len(kind)}}"]


@pytest.mark.parametrize(
    ("wrong", "line", "shown"),
    [
        ("x = = 1", 6, "    x = = 1\n        ^\nSyntaxError: invalid syntax"),
        ("return 5", 6, "    return 5\n    ^\nSyntaxError: 'return' outside function"),
        ("for n in ns:\n    pass\n  y = 2", 8, "    y = 2\n"),
        (
            "def f():\n    await g()",
            7,
            "    await g()\n    ^\nSyntaxError: 'await' outside async function",
        ),
        ("%env A=1\nx = = 1", 7, "    x = = 1\n        ^\nSyntaxError: invalid syntax"),
    ],
)
def test_a_syntax_error_is_its_line_and_a_caret(
    cells: Cells, capsys: pytest.CaptureFixture[str], wrong: str, line: int, shown: str
) -> None:
    result = cells.attempt(f"%%dag value\n\n\n{DOUBLE}{wrong}\ndouble(1)")

    error, printed = result.error_before_exec, capsys.readouterr().out
    assert isinstance(error, SyntaxError)
    assert error.lineno == line
    assert printed.startswith(f"  Cell In[1], line {line}\n{shown}")
    assert len(printed.rstrip().splitlines()) == 4
    assert "double" not in cells


def test_an_error_of_the_cells_own_code_begins_there(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.attempt(f"%%dag value\n{DOUBLE}x = nowhere\ndouble(1)")

    head, *shown = capsys.readouterr().out.split("\n\n")[0].partition("Cell In[1], line 4\n")
    assert head.splitlines() == heading("NameError")
    assert "----> 4 x = nowhere" in shown[1].splitlines()


def test_an_error_below_the_cells_own_code_shows_the_way_there(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run("def ask(n):\n    return n / 0")
    cells.attempt(f"%%dag value\n{DOUBLE}double(ask(1))")

    shown = [line for line in capsys.readouterr().out.splitlines() if ", line " in line]
    assert shown == ["Cell In[2], line 4", "Cell In[1], line 2, in ask(n)"]


def test_an_error_that_refuses_marks_is_shown_as_it_is(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(
        "class Hard(Exception):\n    def __setattr__(self, name, value):\n        raise AttributeError(name)"
    )
    cells.attempt(f"%%dag value\n{DOUBLE}raise Hard('no')\ndouble(1)")

    assert capsys.readouterr().out.rstrip().endswith("Hard: no")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (
            "5",
            "the last line gives a value of type int, not a node. End it with what shall be run: ",
        ),
        (
            "x = double(1)",
            "the %%dag cell ends in an assignment, which gives no node. End it with what shall be run: ",
        ),
    ],
)
def test_what_we_refuse_shows_none_of_our_frames(
    cells: Cells, capsys: pytest.CaptureFixture[str], last: str, words: str
) -> None:
    cells.attempt(f"%%dag value\n{DOUBLE}{last}")

    *shown, message = capsys.readouterr().out.splitlines()
    assert shown == [*heading("GraphError"), "Cell In[1], line 1", "----> 1 %%dag value", ""]
    assert message.startswith(f"GraphError: {words}")


def test_a_store_that_is_away_shows_none_of_our_frames(
    cells: Cells, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session, "_settings", replace(session.settings(), store="unix:///tmp/nothing.here")
    )
    cells.attempt("%dag runs")

    *shown, message = capsys.readouterr().out.splitlines()
    assert shown == [
        *heading("StorageUnavailableError"),
        "Cell In[1], line 1",
        "----> 1 %dag runs",
        "",
    ]
    assert message.startswith(
        "StorageUnavailableError: the store at unix:/tmp/nothing.here cannot be reached"
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            f"%%dag\n{DOUBLE}",
            "%%dag: it needs a name for the result, as in `%%dag total`. `%%dag -h` explains.",
        ),
        (
            "%%dag",
            "%%dag: it needs a name for the result, as in `%%dag total`. `%%dag -h` explains.",
        ),
        ("%%dag total\n\n", "%%dag: the cell is empty below its first line. `%%dag -h` explains."),
        (
            "%%dag total --planer x",
            "%%dag: unknown flag '--planer'; did you mean '--planner'? `%%dag -h` explains.",
        ),
        (
            f"%%dag total --planer x\n{DOUBLE}",
            "%%dag: unknown flag '--planer'; did you mean '--planner'? `%%dag -h` explains.",
        ),
        (
            f"%%dag total --planner one_pas\n{DOUBLE}",
            "%%dag: unknown planner 'one_pas'. Did you mean 'one_pass'?",
        ),
        ("%dag run valu", "%dag run: unknown node 'valu'; there is none yet"),
        ("%dag status", "%dag status: this notebook started no run yet; `%dag runs` lists others."),
        ("%dag stats", "%dag: unknown subcommand 'stats'; did you mean 'status'?"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    cells: Cells, capsys: pytest.CaptureFixture[str], source: str, told: str
) -> None:
    cells.attempt(source)

    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"UsageError: {told}\n")


def test_a_name_that_is_nearly_one_is_told_the_nearest(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(1)")
    capsys.readouterr()

    cells.attempt("%dag run valu")
    cells.attempt("%dag status valu")

    assert capsys.readouterr().err.splitlines() == [
        "UsageError: %dag run: unknown node 'valu'; did you mean 'value'?",
        "UsageError: %dag status: unknown run 'valu'. Did you mean 'value'?",
    ]


@pytest.mark.parametrize(
    "source", ["%%dag?", "%dag?", "%%dag -h", "%%dag total --help\nx", "%dag -h", "%dag"]
)
def test_help_is_the_same_wherever_it_is_asked_for(
    cells: Cells, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    cells.run(source)

    printed = capsys.readouterr().out
    assert "%%dag NAME [flags]: run this cell as a DAG and bind the result to NAME." in printed
    assert re.search(r"    log TASK \[RUN\] +what a task printed in its last attempt", printed)
    assert "Traceback" not in printed


def test_more_lines_are_waited_for_until_a_cell_has_ended(cells: Cells) -> None:
    complete = cells.shell.input_transformer_manager.check_complete

    assert complete("%%dag total\nx = await")[0] == "incomplete"
    assert complete("%%dag total")[0] == "incomplete"
    assert complete(f"%%dag total\n{DOUBLE}\n")[0] == "complete"
