"""The extension in a real kernel, as nbclient runs it; the tutorials themselves are run by nbval."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]

LOAD = "%load_ext dagnb\nimport dagnb, time\ndagnb.configure(workers='inline');"
WIDGET = "application/vnd.jupyter.widget-view+json"


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
        nbformat.v4.new_code_cell("%%dag value\ndef nap(n):\n    time.sleep(0.3)\n[nap(n) for n in range(100)]"),
        nbformat.v4.new_code_cell("[line.state.value for line in dagnb.runs()]"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, allow_errors=True, timeout=60, kernel_name="python3")

    with client.setup_kernel():
        client.execute_cell(cells[0], 0)
        began = time.monotonic()
        timer = threading.Timer(2.0, lambda: client.km.provisioner.process.send_signal(signal.SIGINT))
        timer.start()
        client.execute_cell(cells[1], 1)
        took_s = time.monotonic() - began
        client.execute_cell(cells[2], 2)

    assert took_s < 10
    assert notebook.cells[1].outputs[-1].ename == "KeyboardInterrupt"
    assert "was cancelled, because waiting for it was interrupted" in notebook.cells[1].outputs[-1].evalue
    assert notebook.cells[2].outputs[0].data["text/plain"] == "['cancelled']"
