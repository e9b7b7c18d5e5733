"""A run that is over is recorded in the history, by its client or its host, whichever is first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dagnb_workers.launchers.inline import Inline

from dagnb import session, task
from dagnb.errors import RunMissingError
from dagnb.handle import Run
from dagnb.run_history import history as module
from dagnb.run_history.history import History, record_finished

LIMIT_S = 20


@task
def double(n: int) -> int:
    return 2 * n


@task
def doze(s: float) -> None:
    time.sleep(s)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client records its runs in a history of its own."""
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


def recorded(run: Run[object], history: History) -> bool:
    return session.wait(record_finished(run._store, run.id, history))


def test_a_run_that_is_over_is_recorded_once_with_its_trace(history: History) -> None:
    run = double(double(1)).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 4

    assert recorded(run, history)
    assert not recorded(run, history)

    assert history.knows(run.id)
    (kept, *_), _ = history.samples(["double"])
    assert len(kept.samples) == 2


def test_a_run_that_goes_on_is_not_recorded(history: History) -> None:
    run = doze(1.0).run(workers=Inline(n=1))

    assert not recorded(run, history)

    assert not history.knows(run.id)
    run.cancel()


def test_spans_that_never_come_are_awaited_for_a_limited_time(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_S", 0.0)
    monkeypatch.setattr(module, "is_last", lambda chunk: False)
    run = double(1).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 2

    assert recorded(run, history)


def test_a_run_that_was_forgotten_is_missing(history: History) -> None:
    run = double(1).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 2
    run.forget()

    with pytest.raises(RunMissingError):
        recorded(run, history)


def test_a_run_is_recorded_although_executors_take_no_more_work(history: History) -> None:
    run = double(1).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 2
    session.wait_for_pending(LIMIT_S)

    async def record_at_exit() -> bool:
        ended = ThreadPoolExecutor(1)
        ended.shutdown()
        asyncio.get_running_loop().set_default_executor(ended)
        return await record_finished(run._store, run.id, history)

    assert asyncio.run(record_at_exit())
    assert history.knows(run.id)


def test_a_script_that_ends_with_the_result_has_its_run_in_the_history(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import dagnb\n"
        "@dagnb.task\n"
        "def one():\n"
        "    return 1\n"
        "dagnb.run(one(), workers='inline').result(20)\n"
    )
    for number in range(4):
        home = tmp_path / f"home-{number}"
        environment = {**os.environ, "DAGNB_HOME": str(home)}
        subprocess.run([sys.executable, str(script)], env=environment, check=True)

        assert len(History(home / "data" / "history.sqlite").runs()) == 1


def test_a_host_of_workers_loads_no_sqlite_before_a_run_is_over() -> None:
    """All that it has imported is in the memory of every worker that it forks."""
    code = (
        "import sys, dagnb_workers.hosting.run_host, dagnb_workers.worker.main;"
        "print(sorted({'sqlite3', 'dagnb.run_history.history'} & sys.modules.keys()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )

    assert done.stdout == "[]\n"
