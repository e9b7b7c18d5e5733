"""The README as a stranger follows it: every block is executed, from the top, on the workers it
says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from dagnb import session
from tests.documents import ROOT, Block, blocks

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

README = ROOT / "README.md"
RUN = [block for block in blocks(README) if not block.reason]
KEPT_S = 20.0
"""how long the history may take to take in a run"""


@pytest.fixture
def notebook(tmp_path: Path, embedded_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the notebook, with nothing configured."""
    folder = tmp_path / "notebook"
    (folder / "data").mkdir(parents=True)
    (folder / "requirements.txt").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(session, "_settings", session.Settings())
    monkeypatch.setattr(session, "_origins", {})
    return folder


@pytest.fixture
def shell(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """IPython as it starts, without a history of inputs."""
    monkeypatch.setenv("IPYTHONDIR", str(notebook.parent))
    config = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = InteractiveShell.instance(config=config)
    yield shell
    shell.run_line_magic("unload_ext", "dagnb")
    InteractiveShell.clear_instance()


def test_every_block_of_the_readme_runs_as_it_stands(
    shell: InteractiveShell, summary: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    n_run = 0
    for block in RUN:
        if block.language == "python":
            run_cell(shell, block)
        else:
            run_commands(block)
        n_run += 1

    summary.append(f"README: {n_run} blocks run")
    space = shell.user_ns
    assert n_run == len(RUN) >= 10
    assert space["total"] == Counter(to=6, be=3, see=2, do=1, **{"or": 2, "not": 2, "is": 1})
    assert space["run"].result() == space["total"]
    assert space["plan"].planner == "heft"
    assert space["both"].result()[0] == space["total"]
    assert space["both"].plan.planner == "heft"
    assert session.settings().workers.memory_mb == 512  # type: ignore[union-attr]  # Docker's
    printed = capsys.readouterr().out
    assert "DAG" in printed or "4 tasks" in printed
    assert "Planner heft: 4 tasks" in printed


def test_the_picture_of_a_plan_comes_from_functions_that_were_measured(notebook: Path) -> None:
    """Whether the run that follows lies within the forecast is the machine's affair: then the exit
    code is 1.
    """
    asked = [sys.executable, str(ROOT / "docs" / "plan.py"), "--out", "plan.svg", "--runs", "1"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=200)

    assert "functions known: 100%; predicted " in done.stdout, done.stderr
    assert (done.returncode == 0) == (notebook / "plan.svg").exists()


def run_cell(shell: InteractiveShell, block: Block) -> None:
    result = shell.run_cell(block.text, store_history=True)
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        pytest.fail(f"README.md, line {block.line}: {type(error).__name__}: {error}\n{block.text}")


def run_commands(block: Block) -> None:
    """As a terminal would, each command; the kernel goes on meanwhile."""
    session.wait_for_pending(KEPT_S)
    script = f"set -euo pipefail\n{block.text}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=200
    )
    if done.returncode:
        pytest.fail(
            f"README.md, line {block.line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    sys.stdout.write(done.stdout)
