"""The extension in a real kernel, as nbclient runs it; the tutorials themselves are run by nbval."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.home import own_home
from tests.notebooks.kernel import Kernel, running_kernel, text
from tests.services.processes import await_that, is_alive

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]

LOAD = "%load_ext dagnb\nimport dagnb, time\ndagnb.configure(workers='inline');"
SOON_S = 4.0


def _execute(*sources: str) -> list[list[nbformat.NotebookNode]]:
    """The outputs of each cell, after LOAD."""
    cells = [nbformat.v4.new_code_cell(source) for source in (LOAD, *sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, allow_errors=True, timeout=60, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells[1:]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """With dagnb loaded and inline workers; what its runs start ends with it."""
    with own_home(), running_kernel() as kernel:
        kernel.run(LOAD)
        yield kernel


def test_every_view_of_a_run_ends_as_a_picture_that_needs_no_kernel() -> None:
    """nap x6 -> add"""
    define = "def nap(n):\n    time.sleep(0.1)\n    return n\ndef add(ns):\n    return sum(ns)\n"
    outputs = _execute(
        f"%%dag total\n{define}add([nap(n) for n in range(6)])",
        "run = add([nap(n) for n in range(6)]).run()\nrun",
        "run",
        "run.result(), total",
    )

    shown = [output for cell in outputs for output in cell if output.output_type == "display_data"]
    assert len(shown) == 3  # a run started and displayed by one cell is shown once
    for output in shown:
        assert set(output.data) == {"text/html", "text/plain"}
        assert "<svg" in output.data["text/html"]
        assert "7 of 7 tasks done" in output.data["text/plain"]
    assert outputs[3][0].data["text/plain"] == "(15, 15)"


def test_a_failed_run_shows_the_lines_of_its_cell_and_no_way_through_dagnb() -> None:
    source = "%%dag value\ndef inner(n):\n    return 1 / n\n\ndef outer(n):\n    return inner(n)\nouter(0)"
    (outputs,) = _execute(source)

    picture, error = outputs
    told = "\n".join(error.traceback)
    assert error.ename == "TaskFailedError"
    assert "Cell In[2], line 6, in outer" in told
    assert "Cell In[2], line 3, in inner" in told
    assert "    return 1 / n" in told
    assert "ZeroDivisionError: division by zero" in told
    assert not [file for file in ("handle.py", "session.py", "magics.py") if file in told]
    assert "ZeroDivisionError" in picture.data["text/html"]


def test_an_interrupt_ends_the_wait_and_the_run_and_says_so() -> None:
    cells = [
        nbformat.v4.new_code_cell(LOAD),
        nbformat.v4.new_code_cell(
            "%%dag value\ndef nap(n):\n    time.sleep(0.3)\n[nap(n) for n in range(100)]"
        ),
        nbformat.v4.new_code_cell("[line.state.value for line in dagnb.runs()]"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, allow_errors=True, timeout=60, kernel_name="python3")

    with client.setup_kernel():
        client.execute_cell(cells[0], 0)
        began = time.monotonic()
        timer = threading.Timer(
            2.0, lambda: client.km.provisioner.process.send_signal(signal.SIGINT)
        )
        timer.start()
        client.execute_cell(cells[1], 1)
        took_s = time.monotonic() - began
        client.execute_cell(cells[2], 2)

    assert took_s < 10
    assert notebook.cells[1].outputs[-1].ename == "KeyboardInterrupt"
    assert (
        "was cancelled, because waiting for it was interrupted"
        in notebook.cells[1].outputs[-1].evalue
    )
    assert notebook.cells[2].outputs[0].data["text/plain"] == "['cancelled']"


TOLD = [
    (
        "%%dag value\ndef f(n):\n    return n\nx = = 1\nf(1)",
        "  Cell In[2], line 4\n    x = = 1\n        ^\nSyntaxError: invalid syntax\n",
    ),
    (
        "%%dag value --planer x\n1",
        "UsageError: %%dag: unknown flag '--planer'; did you mean '--planner'? `%%dag -h` explains.\n",
    ),
    (
        "%%dag value --planner one_pas\n1",
        "UsageError: %%dag: unknown planner 'one_pas'. Did you mean 'one_pass'?\n",
    ),
    (
        "%%dag\n1",
        "UsageError: %%dag: it needs a name for the result, as in `%%dag total`. `%%dag -h` explains.\n",
    ),
    (
        "%%dag",
        "UsageError: %%dag: it needs a name for the result, as in `%%dag total`. `%%dag -h` explains.\n",
    ),
    ("%dag run valu", "UsageError: %dag run: unknown node 'valu'; there is none yet\n"),
    ("%dag status valu", "UsageError: %dag status: unknown run 'valu': there are no runs yet.\n"),
]


def test_wrong_cells_are_told_in_few_words(kernel: Kernel) -> None:
    for source, told in TOLD:
        (output,) = kernel.run(source)
        assert text(output) == told


def test_an_error_of_a_cells_own_code_begins_there_and_help_is_short(kernel: Kernel) -> None:
    (error,) = kernel.run("%%dag value\ndef f(n):\n    return n\nx = nowhere\nf(1)")
    (shown,) = kernel.run("%%dag -h")

    first, *_, last = text(error).splitlines()[2:]
    assert (first, last) == ("Cell In[2], line 4", "NameError: name 'nowhere' is not defined")
    assert "----> 4 x = nowhere" in text(error).splitlines()
    assert "get_ipython" not in text(error)
    assert text(shown).startswith("%%dag NAME [flags]")
    assert len(text(shown).splitlines()) < 45


def test_a_cell_awaits_on_the_kernels_own_loop_and_shows_its_run(kernel: Kernel) -> None:
    kernel.run("import asyncio\nfour = asyncio.get_running_loop().create_future()")
    kernel.run("asyncio.get_running_loop().call_later(0.2, four.set_result, 4);")
    (view,) = kernel.run("%%dag total\ndef double(n):\n    return 2 * n\ndouble(await four)")
    (total,) = kernel.run("total")

    assert "run " in text(view)
    assert text(total) == "8"


WAYS = {
    "a cell": "%%dag value\n{nap}\n[nap(n) for n in range(9)]",
    "a cell that awaits": "%%dag value\n{nap}\n[nap(n) for n in [await asyncio.sleep(0, n) for n in range(9)]]",
    "result": "{nap}\nrun = dagnb.run(*[dagnb.task(nap)(n) for n in range(9)])\nrun.result()",
    "await": "{nap}\nrun = dagnb.run(*[dagnb.task(nap)(n) for n in range(9)])\nawait run",
    "%dag run": "{nap}\nnode = dagnb.task(list)([dagnb.task(nap)(n) for n in range(9)])\n%dag run node",
}


@pytest.mark.redis
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_ends_the_run_and_its_workers_soon_and_says_so(
    kernel: Kernel, tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    nap = f"def nap(n):\n    pathlib.Path({str(folder)!r}, str(os.getpid())).touch()\n    time.sleep(60)"
    kernel.run("import asyncio, os, pathlib\ndagnb.configure(workers='process');")
    cell = kernel.begin(WAYS[way].format(nap=nap))
    await_that(lambda: len(list(folder.iterdir())) >= 2, "two workers")
    workers = [int(path.name) for path in folder.iterdir()]

    kernel.interrupt()
    await_that(lambda: not any(map(is_alive, workers)), "no worker is left", SOON_S)
    await_that(lambda: kernel.is_over(cell) is not None, "the cell is over", SOON_S)
    *_, error = kernel.end(cell)
    (state,) = kernel.run("dagnb.runs()[0].state.value")

    assert error.ename in {"KeyboardInterrupt", "CancelledError"}
    assert error.evalue.endswith("was cancelled, because waiting for it was interrupted.")
    assert text(state) == "'cancelled'"


@pytest.mark.redis
def test_restarting_the_kernel_leaves_the_run_going_however_the_cell_waits(
    kernel: Kernel, tmp_path: Path
) -> None:
    states, results = {}, {}
    ways = [*((way, False) for way in WAYS), ("result", True)]
    for number, (way, now) in enumerate(ways):
        started, gate = tmp_path / f"started-{number}", tmp_path / f"gate-{number}"
        nap = (
            f"def nap(n):\n    pathlib.Path({str(started)!r}).touch()\n"
            f"    while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n    return n"
        )
        kernel.run("import asyncio, pathlib, time\ndagnb.configure(workers='process');")
        kernel.begin(WAYS[way].format(nap=nap))
        await_that(started.exists, f"a task of {way}")

        kernel.restart(now=now)
        kernel.run("%load_ext dagnb\nimport dagnb")
        (state,) = kernel.run("run = dagnb.attach(dagnb.runs()[0].run)\nrun.state.value")
        gate.touch()
        kernel.run("value = run.result()")
        (result,) = kernel.run("len(value)")
        states[way, now], results[way, now] = text(state), text(result)

    assert states == dict.fromkeys(ways, "'running'")
    assert results == dict.fromkeys(ways, "9")
