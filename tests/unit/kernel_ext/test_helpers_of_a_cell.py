"""Decorators and other functions that a %%dag cell needs at once are no tasks."""

from __future__ import annotations

import ast

import pytest
from dagnb_kernel_ext.cell import functions_called_early

from dagnb.errors import GraphError
from tests.unit.kernel_ext.conftest import Cells

PLUS = """import contextlib, functools
def plus_one(fn):
    @functools.wraps(fn)
    def wrapper(*given): return fn(*given) + 1
    return wrapper
"""


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("@plus_one\ndef f(n): return n\nf(1)", 2),
        ("@plus_one\n@plus_one\ndef f(n): return n\nf(1)", 3),
        ("def times(k):\n    return plus_one\n@times(3)\ndef f(n): return n\nf(1)", 2),
        ("again = plus_one\n@again\ndef f(n): return n\nf(1)", 2),
        ("def h(n): return n\ng = plus_one(h)\ndef f(n): return g(n) * 10\nf(1)", 20),
        ("class K:\n    @plus_one\n    def m(self): return 1\ndef f(): return K().m()\nf()", 2),
        (
            (
                "@contextlib.contextmanager\ndef opened(): yield 5\n"
                "with opened() as v: w = v\ndef f(n): return n\nf(w)"
            ),
            5,
        ),
        (
            (
                "@functools.singledispatch\ndef f(v): return 'any'\n"
                "@f.register\ndef _(v: int): return 'int'\nf(3)"
            ),
            "int",
        ),
        ("@functools.lru_cache\ndef g(n): return n * 2\ndef f(n): return g(n)\nf(g(1))", 4),
    ],
)
def test_a_function_is_no_task_where_the_cell_calls_what_it_gives(
    cells: Cells, body: str, value: object
) -> None:
    cells.run(f"%%dag x\n{PLUS}{body}")

    assert cells["x"] == value


def test_a_function_whose_result_is_only_passed_on_is_a_task(cells: Cells) -> None:
    cells.run(
        "%%dag x\ndef load(n): return [n] * 3\ndef total(v): return sum(v)\n"
        "parts = load(2)\ntotal(parts)"
    )

    assert cells["x"] == 6
    assert type(cells["load"]).__name__ == "Task"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("@a\ndef f(): pass", {"a"}),
        ("@a(b(1))\ndef f(): pass", {"a"}),
        ("@m.a\ndef f(): pass", set()),
        ("def f():\n    return a(1)(2)", set()),
        ("x = a(1)\nx(2)", {"a"}),
        ("x = a(1)\ndef f(x): return x(2)", set()),
        ("x = y = a(1)\nz = y\nz()", {"a"}),
        ("if 1:\n    a(1)(2)", {"a"}),
        ("x = x(1)\nx()", {"x"}),
        ("f = lambda: a(1)(2)", set()),
        ("async def g():\n    pass\nasync with a(): pass", {"a"}),
    ],
)
def test_what_is_called_or_entered_while_the_body_runs_was_made_by_a_helper(
    source: str, names: set[str]
) -> None:
    assert functions_called_early(ast.parse(source)) == names


@pytest.mark.parametrize("use", ["@{'a': plus_one}['a']", "@functools.partial(plus_one)"])
def test_a_decorator_that_the_rule_does_not_see_is_told_with_the_cure(
    cells: Cells, use: str
) -> None:
    told = (
        r"a decorator of this cell is the task 'plus_one', .* "
        r"Define decorators in a cell of their own, without %%dag"
    )
    with pytest.raises(GraphError, match=told):
        cells.run(f"%%dag x\n{PLUS}{use}\ndef f(n): return n\nf(1)")
