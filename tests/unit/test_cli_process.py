"""The command line in a process of its own: what it imports, and how it runs scripts and notebooks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagnb import session

HERE = ["--workers", "inline"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)


def in_a_process(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run with this interpreter in this folder."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_agent_starts_before_clients_and_redis_are_imported_and_commands_before_rich(
    tmp_path: Path,
) -> None:
    code = (
        "import {}, sys; "
        "print([name for name in ('rich', 'redis', 'dagnb.client') if name in sys.modules])"
    )

    assert in_a_process("-c", code.format("dagnb.cli"), folder=tmp_path).stdout == "[]\n"
    assert "rich" not in in_a_process("-c", code.format("dagnb.cli.parser"), folder=tmp_path).stdout


SCRIPT = """
import os
import sys
import beside
from dagnb import task

@task
def twice(number):
    return beside.double(number), os.getpid()

if __name__ == "__main__":
    value, pid = twice(21).run().result()
    print(sys.argv[1:], value, "here" if pid == os.getpid() else "elsewhere")
    raise SystemExit(5)
"""


def test_run_executes_a_script_with_its_arguments_its_modules_and_the_defaults_given(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("def double(number): return 2 * number\n")

    ended = in_a_process(
        "-m", "dagnb", "run", *HERE, str(folder / "script.py"), "a", "--store", folder=tmp_path
    )

    assert ended.stdout == "['a', '--store'] 42 here\n"
    assert ended.returncode == 5


def test_run_executes_the_code_cells_of_a_notebook_and_stops_at_the_first_that_fails(
    tmp_path: Path,
) -> None:
    cells: list[tuple[str, Any]] = [
        ("markdown", "print('no code')"),
        ("code", ["from dagnb import task\n", "import os"]),
        ("code", "@task\ndef twice(number):\n    return 2 * number\nawait twice(21).run()"),
        ("code", "print('in', os.path.basename(os.getcwd()))\n1 / 0"),
        ("code", "print('never')"),
    ]
    folder = tmp_path / "work"
    folder.mkdir()
    notebook = {
        "nbformat": 4,
        "cells": [{"cell_type": kind, "source": source} for kind, source in cells],
    }
    (folder / "book.ipynb").write_text(json.dumps(notebook))

    ended = in_a_process("-m", "dagnb", "run", *HERE, "work/book.ipynb", folder=tmp_path)

    assert "Out[2]: 42" in ended.stdout
    assert "in work" in ended.stdout
    assert "ZeroDivisionError" in ended.stdout
    assert "never" not in ended.stdout
    assert "no code" not in ended.stdout
    assert ended.returncode == 1


def test_defaults_may_stand_behind_a_notebook_which_gets_the_other_arguments(
    tmp_path: Path,
) -> None:
    source = (
        "import sys\nfrom dagnb import session\nprint(session.settings().workers, sys.argv[1:])"
    )
    (tmp_path / "book.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": source}]})
    )

    ended = in_a_process(
        "-m", "dagnb", "run", "book.ipynb", "--workers", "inline", "more", folder=tmp_path
    )

    assert ended.stdout == "inline ['more']\n"
