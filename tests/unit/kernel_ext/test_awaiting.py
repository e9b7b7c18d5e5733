"""A `%%dag` cell that awaits at the top, in a shell whose loop runs while the cell does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.error import UsageError

import dagnb
from dagnb.errors import GraphError, RunTimeoutError, TaskFailedError
from dagnb.graph.task import Node
from dagnb.handle import Run
from tests.unit.kernel_ext.conftest import Cells

DOUBLE = "def double(n):\n    return 2 * n\n"
FOUR = "import asyncio\nfour = asyncio.Future(loop=loop)\nloop.call_later(0.05, four.set_result, 4)"


@pytest.fixture(autouse=True)
def loop(cells: Cells) -> asyncio.AbstractEventLoop:
    """The one that the shell runs."""
    found = get_asyncio_loop()
    cells.shell.user_ns["loop"] = found
    cells.run("import asyncio, time")
    return found


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("got = await four\ndouble(got)", 8),
        ("double(await four)", 8),
        ("[double(n + await four) for n in range(2)]", [8, 10]),
        ("async with asyncio.timeout(9):\n    got = await four\ndouble(got)", 8),
        (
            "async def each():\n    yield await four\nns = [n async for n in each()]\ndouble(ns[0])",
            8,
        ),
        ("async def each():\n    yield await four\nasync for n in each():\n    pass\ndouble(n)", 8),
    ],
)
def test_a_cell_may_await_what_belongs_to_the_shells_own_loop(
    cells: Cells, body: str, value: object
) -> None:
    cells.run(FOUR)

    shown = cells.run(f"%%dag total\n{DOUBLE}{body}")

    assert shown is None
    assert cells["total"] == value
    assert not [name for name in cells.shell.user_ns if "dagnb" in name]


def test_the_loop_goes_on_while_the_cell_waits_for_its_run(cells: Cells) -> None:
    cells.run(
        "ticks = []\nasync def tick():\n    while True:\n        ticks.append(1)\n        await asyncio.sleep(0.01)"
    )
    cells.run("ticking = loop.create_task(tick())")

    cells.run(
        "%%dag total\ndef nap():\n    time.sleep(0.4)\nbefore = len(ticks)\nawait asyncio.sleep(0)\nnap()"
    )

    assert len(cells["ticks"]) - cells["before"] > 10
    cells.run("ticking.cancel()\nawait asyncio.sleep(0)")


def test_flags_mean_the_same(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    body = f"{DOUBLE}double(await asyncio.sleep(0, 4))"
    cells.run(f"%%dag node --plan\n{body}")
    cells.run(f"%%dag run --detach\n{body}")
    late = cells.attempt(
        "%%dag late --timeout 0.1\nawait asyncio.sleep(0)\ndef nap():\n    time.sleep(0.3)\nnap()"
    )
    capsys.readouterr()
    cells.run(f"%%dag helped -h\n{body}")

    assert isinstance(cells["node"], Node)
    assert isinstance(cells["run"], Run)
    assert cells["run"].result(timeout_s=10) == 8
    assert isinstance(late.error_in_exec, RunTimeoutError)
    assert "--planner NAME" in capsys.readouterr().out
    assert "helped" not in cells
    assert cells.run("%dag run node") == 8


def test_wrong_flags_are_refused_before_anything_is_awaited(cells: Cells) -> None:
    result = cells.attempt(f"%%dag x --plann\n{DOUBLE}done = await asyncio.sleep(0)\ndouble(1)")

    assert isinstance(result.error_in_exec, UsageError)
    assert "done" not in cells


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (
            "await asyncio.sleep(0)\nmissing = nowhere\ndouble(1)",
            NameError,
            "----> 5 missing = nowhere",
        ),
        ("await nowhere\ndouble(1)", NameError, "----> 4 await nowhere"),
        ("await asyncio.sleep(0)", GraphError, "of type NoneType, not a node"),
        ("x = await asyncio.sleep(0)", GraphError, "ends in an assignment"),
        (
            "async def bad():\n    raise ValueError('no rows')\nbad(await asyncio.sleep(0))",
            TypeError,
            "too many",
        ),
        (
            "def bad(n):\n    raise ValueError('no rows')\nbad(await asyncio.sleep(0))",
            TaskFailedError,
            "Cell In[2], line 5, in bad",
        ),
    ],
)
def test_errors_are_told_as_those_of_other_cells(
    cells: Cells, capsys: pytest.CaptureFixture[str], body: str, error: type, words: str
) -> None:
    result = cells.attempt(f"%%dag total\n{DOUBLE}{body}")

    printed = capsys.readouterr().out
    assert isinstance(result.error_in_exec, error)
    assert words in printed
    assert "dagnb_kernel_ext" not in printed
    assert "total" not in cells


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("x = = 1", 5),
        ("class A:\n    await asyncio.sleep(0)", 6),
        ("def f():\n    await asyncio.sleep(0)", 6),
    ],
)
def test_a_syntax_error_names_the_line_the_user_sees(cells: Cells, wrong: str, line: int) -> None:
    error = cells.attempt(
        f"%%dag value\n{DOUBLE}await asyncio.sleep(0)\n{wrong}\ndouble(1)"
    ).error_before_exec

    assert isinstance(error, SyntaxError)
    assert error.lineno == line


def test_await_is_refused_where_autoawait_is_off(cells: Cells) -> None:
    cells.run("%autoawait off")

    error = cells.attempt(
        f"%%dag value\n{DOUBLE}await asyncio.sleep(0)\ndouble(1)"
    ).error_before_exec

    assert isinstance(error, SyntaxError)
    assert "'await' outside function" in str(error)


def test_an_interrupt_cancels_the_run_and_says_so(cells: Cells) -> None:
    before = {line.run for line in dagnb.runs()}
    threading.Thread(target=_interrupt_once_a_task_is_done, args=(before,), daemon=True).start()

    result = cells.attempt(
        "%%dag value\nawait asyncio.sleep(0)\ndef slow(n):\n    time.sleep(0.3)\n[slow(n) for n in range(9)]"
    )

    assert isinstance(result.error_in_exec, asyncio.CancelledError)
    assert "was cancelled, because waiting for it was interrupted" in str(result.error_in_exec)
    assert dagnb.runs()[0].state == "cancelled"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_of_the_cells_own_code_ends_it_before_a_run_begins(cells: Cells) -> None:
    before = len(dagnb.runs())
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    result = cells.attempt(
        f"%%dag value\n{DOUBLE}await asyncio.sleep(0)\nwhile True:\n    pass\ndouble(1)"
    )

    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert len(dagnb.runs()) == before


def _interrupt_once_a_task_is_done(known: set[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if any(
            "done" in dagnb.attach(line.run).status
            for line in dagnb.runs()
            if line.run not in known
        ):
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.01)
