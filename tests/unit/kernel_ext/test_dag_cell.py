"""`%%dag`: an ordinary cell whose functions are tasks."""

from __future__ import annotations

import _thread
import inspect
import threading
import time

import pytest
from IPython.core.error import UsageError

import dagnb
from dagnb import registry
from dagnb.errors import GraphError, RunTimeoutError, TaskFailedError
from dagnb.graph.task import Node, Task
from dagnb.handle import Run
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from tests.unit.kernel_ext.conftest import Cells

DOUBLE = "def double(n):\n    return 2 * n\n"


def test_the_last_expression_is_run_and_its_value_gets_the_name(cells: Cells) -> None:
    """double x3 -> add"""
    cells.run(
        f"%%dag total\n{DOUBLE}def add(ns):\n    return sum(ns)\nadd([double(n) for n in range(4)])"
    )

    assert cells["total"] == 12


def test_names_of_the_cell_stay_in_the_notebook_and_those_of_the_notebook_are_seen(
    cells: Cells,
) -> None:
    cells.run("factor = 5")
    cells.run(
        "%%dag first\nimport math\ndef scale(n):\n    return factor * n\n"
        "base = math.floor(2.5)\nscale(base)"
    )
    cells.run("%%dag second\nscale(first)")

    assert (cells["first"], cells["base"], cells["second"]) == (10, 2, 50)
    assert isinstance(cells["scale"], Task)
    assert not [name for name in cells.shell.user_ns if "dagnb" in name]


def test_every_kind_of_function_at_the_top_becomes_what_it_can_be(cells: Cells) -> None:
    cells.run(
        "%%dag value\n"
        "from dagnb import task\n"
        "@task(retries=2)\ndef kept(n):\n    return n + 1\n"
        "async def waits(n):\n    return n * 10\n"
        "def parts(n):\n    yield from range(n)\n"
        "class Box:\n    def __init__(self, n):\n        self.n = n\n"
        "def total(n):\n    return sum(parts(n)) + Box(n).n\n"
        "waits(kept(total(3)))"
    )

    assert cells["value"] == 70
    assert cells["kept"].options.retries == 2
    assert isinstance(cells["waits"], Task)
    assert inspect.isgeneratorfunction(cells["parts"])
    assert isinstance(cells["Box"], type)


def test_a_task_of_the_cell_may_call_another_as_an_ordinary_function(cells: Cells) -> None:
    cells.run(f"%%dag value\n{DOUBLE}def twice(n):\n    return double(double(n))\ntwice(3)")

    assert cells["value"] == 12


@pytest.mark.parametrize(
    ("last", "value"),
    [
        ("[double(1), double(2)]", [2, 4]),
        ("(double(1), double(2))", (2, 4)),
        ("double(1), double(2)", (2, 4)),
        ("[double(1)]", [2]),
        ("{'one': double(1), 'more': [double(2), 'x']}", {"one": 2, "more": [4, "x"]}),
    ],
)
def test_a_structure_of_nodes_gives_the_same_structure_of_values(
    cells: Cells, last: str, value: object
) -> None:
    cells.run(f"%%dag both\n{DOUBLE}{last}")

    assert cells["both"] == value


def test_plan_shows_the_plan_and_runs_nothing(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(dagnb.runs())
    cells.run(f"%%dag value --plan --planner one_pass\n{DOUBLE}double(4)")

    assert "Planner one_pass: 1 task on 1 worker" in capsys.readouterr().out
    assert isinstance(cells["value"], Node)
    assert len(dagnb.runs()) == before


def test_the_planner_is_told_the_percentile_of_the_cell_as_a_share(cells: Cells) -> None:
    told: list[float] = []

    class Asked:
        name = "asked"

        def plan(self, problem: Problem) -> Plan:
            told.append(problem.percentile)
            return Plan(dag=problem.dag, steps=(Step(task=0),), planner=self.name)

    registry.add("planner", "asked", Asked)
    cells.run(f"%%dag value --planner asked --percentile 90\n{DOUBLE}double(4)")

    assert (told, cells["value"]) == ([0.9], 8)


def test_metrics_say_when_workers_upload(cells: Cells) -> None:
    cells.run(f"%%dag value --metrics each_task\n{DOUBLE}double(4)")

    assert cells["value"] == 8


def test_detach_gives_the_run(cells: Cells) -> None:
    cells.run(f"%%dag run --detach\n{DOUBLE}double(4)")

    assert isinstance(cells["run"], Run)
    assert cells["run"].result(timeout_s=10) == 8
    assert cells["run"].description.name == "run"


def test_a_task_that_fails_raises_with_the_line_of_the_cell(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    result = cells.attempt(
        "%%dag value\n\ndef broken(n):\n    if n:\n        raise ValueError('no rows')\nbroken(1)"
    )

    assert isinstance(result.error_in_exec, TaskFailedError)
    (error,) = result.error_in_exec.errors
    assert (error.type, error.message, error.frames[-1].line) == ("ValueError", "no rows", 5)
    assert "Cell In[1], line 5, in broken" in capsys.readouterr().out
    assert "value" not in cells


def test_the_deadline_ends_the_run(cells: Cells) -> None:
    source = "import time\ndef slow():\n    time.sleep(0.6)\n    return 1\nslow()"
    result = cells.attempt(f"%%dag value --timeout 0.1\n{source}")

    assert isinstance(result.error_in_exec, RunTimeoutError)
    assert dagnb.runs()[0].state == "deadline"


def test_an_error_of_the_cell_itself_names_its_line(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    result = cells.attempt(f"%%dag value\n\n{DOUBLE}missing = nowhere\ndouble(1)")

    assert isinstance(result.error_in_exec, NameError)
    assert "----> 5 missing = nowhere" in capsys.readouterr().out


def test_the_source_of_a_function_can_be_looked_up(cells: Cells) -> None:
    cells.run(f"%%dag value\n\n{DOUBLE}double(1)")

    assert inspect.getsource(cells["double"].function) == DOUBLE


def test_line_magics_in_the_body_work_and_lines_still_count(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    result = cells.attempt(f"%%dag value\n\n%env DAGNB_TEST_ANY=1\n{DOUBLE}1 / 0\ndouble(1)")

    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "----> 6 1 / 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("x = 1\n", "ends in an assignment"),
        (DOUBLE, "the definition of 'double'"),
        (f"{DOUBLE}double\n", "does not call it"),
        (f"{DOUBLE}5\n", "of type int"),
        (f"{DOUBLE}['x', 1]\n", "the list in the last line holds no node"),
        (f"{DOUBLE}{{}}\n", "the dict in the last line holds no node"),
    ],
)
def test_a_last_line_that_is_no_node_is_refused_with_the_cure(
    cells: Cells, body: str, words: str
) -> None:
    result = cells.attempt(f"%%dag value\n{body}")

    assert isinstance(result.error_in_exec, GraphError)
    assert words in str(result.error_in_exec)
    assert "End it with what shall be run" in str(result.error_in_exec)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "needs a name"),
        ("total --planer heft", "did you mean '--planner'?"),
        ("total --planner one_pas", "Did you mean 'one_pass'?"),
        ("total --workers inlin", "Did you mean 'inline'?"),
        ("total more", "got also 'more'"),
        ("2nd", "no name a variable can have"),
        ("class", "no name a variable can have"),
        ("total --timeout soon", "invalid float value"),
        ("total --timeout 0", "more than 0 seconds"),
        ("total --percentile 100", "below 100"),
        ("total --plan --detach", "nothing to --detach from"),
        ("total 'open", "No closing quotation"),
        ("total --metrics never", "never"),
    ],
)
def test_wrong_flags_are_refused_before_anything_runs(cells: Cells, line: str, words: str) -> None:
    result = cells.attempt(f"%%dag {line}\n{DOUBLE}double(1)")

    assert isinstance(result.error_in_exec, UsageError)
    assert words in str(result.error_in_exec)
    assert "total" not in cells


@pytest.mark.parametrize(
    "source", ["%%dag -h", "%%dag --help\n", f"%%dag total -h\n{DOUBLE}", "%dag", "%dag -h"]
)
def test_help_explains_and_runs_nothing(
    cells: Cells, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    cells.run(source)

    printed = capsys.readouterr().out
    assert "--planner NAME" in printed
    assert "why [TASK" in printed
    assert "double" not in cells


def test_the_question_mark_explains_the_cell(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run("%%dag?")

    assert "Every function at the top of the cell becomes a task" in capsys.readouterr().out


def interrupt_once_a_task_is_done(known: set[str]) -> None:
    """By then the main thread waits for the result."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if any(
            "done" in dagnb.attach(line.run).status
            for line in dagnb.runs()
            if line.run not in known
        ):
            _thread.interrupt_main()
            return
        time.sleep(0.01)


def test_an_interrupt_cancels_the_run_and_says_so(cells: Cells) -> None:
    cells.run("import time")
    source = "def slow(n):\n    time.sleep(0.4)\n    return n\n[slow(n) for n in range(9)]"
    before = {line.run for line in dagnb.runs()}
    threading.Thread(target=interrupt_once_a_task_is_done, args=(before,), daemon=True).start()
    result = cells.attempt(f"%%dag value\n{source}")

    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert dagnb.runs()[0].state == "cancelled"


def test_a_cell_that_fails_leaves_no_value_of_an_earlier_one(cells: Cells) -> None:
    cells.run(f"%%dag total\n{DOUBLE}double(1)")
    assert cells["total"] == 2

    result = cells.attempt("%%dag total\ndef bad(n):\n    raise ValueError(n)\nbad(1)")

    assert isinstance(result.error_in_exec, TaskFailedError)
    assert "total" not in cells.shell.user_ns
