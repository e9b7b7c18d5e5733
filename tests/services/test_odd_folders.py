"""Runs from folders that are gone or oddly named, with the embedded server and real workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagnb_workers.agent.client import ask_agent, ask_running

from dagnb import session, task
from dagnb.errors import LaunchError
from tests.conformance.agent import private_agent

pytestmark = pytest.mark.redis

GONE = """
import os, sys
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
from dagnb import task
print(task(int)("7").run(workers=sys.argv[1]).result(60))
"""

ODD = """
import os
import helper
from dagnb import task
@task
def told():
    return helper.name(os.getcwdb())
print(ascii(told().run(workers="process").result(60)))
"""
HELPER = "def name(path): return path[-6:]\n"


@pytest.fixture
def short() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="dnb", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def printed(*command: str, cwd: Path, home: Path | None = None) -> tuple[str, str]:
    """What a script of its own prints: stdout, stderr. home: it has an agent of its own, which is
    ended.
    """
    environ = {**os.environ, **({"DAGNB_HOME": os.fspath(home)} if home is not None else {})}
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    finally:
        if home is not None:
            subprocess.run(
                [sys.executable, "-m", "dagnb", "agent", "--stop"], env=environ, check=True
            )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_a_run_from_a_folder_that_was_removed_works_and_says_so(
    tmp_path: Path, workers: str
) -> None:
    with private_agent():
        out, told = printed("-c", GONE, workers, cwd=tmp_path)

    assert out == "7\n"
    assert told.count("the current folder was removed") == 1
    assert "os.chdir" in told


@pytest.mark.parametrize(
    "name", [b"a 'b\" $c", b"two\nlines", "ü漢".encode(), b"no\xffutf-8", b"%20\\?#"]
)
def test_any_folder_may_hold_the_notebook_and_the_home(short: Path, name: bytes) -> None:
    folder = short / os.fsdecode(name) / "folder"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(ODD)
    (folder / "helper.py").write_text(HELPER)

    assert printed("main.py", cwd=folder, home=short / os.fsdecode(name))[0] == "b'folder'\n"


def test_a_file_in_the_place_of_a_folder_of_the_server_is_told_with_the_cure(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(short))
    (short / "run").mkdir(mode=0o700)
    (short / "run" / "store").write_text("")

    try:
        with pytest.raises(LaunchError, match=r"cannot do 'store': .*File exists.*set DAGNB_HOME"):
            session.wait(ask_agent("store"))
    finally:
        session.wait(ask_running("leave", force=True))


def test_an_agent_that_cannot_write_its_log_is_told_with_the_cure(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(short))
    (short / "run").mkdir(mode=0o700)
    (short / "run" / "agent.log").mkdir()

    with pytest.raises(LaunchError, match=r"agent.log.*set DAGNB_HOME"):
        task(int)("7").run(workers="process")
