"""A run that is over is recorded in the history, by its client or its host, whichever is first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from dagnb_workers.launchers.inline import Inline

from dagnb import session, task
from dagnb.errors import RunMissingError
from dagnb.handle import Run
from dagnb.run_history import finished_run
from dagnb.run_history.finished_run import record_finished
from dagnb.run_history.history import History

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
    (samples, *_), _ = history.samples(["double"])
    assert len(samples) == 2


def test_a_run_that_goes_on_is_not_recorded(history: History) -> None:
    run = doze(1.0).run(workers=Inline(n=1))

    assert not recorded(run, history)

    assert not history.knows(run.id)
    run.cancel()


def test_spans_that_never_come_are_awaited_for_a_limited_time(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished_run, "LATE_S", 0.0)
    monkeypatch.setattr(finished_run, "is_last", lambda chunk: False)
    run = double(1).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 2

    assert recorded(run, history)


def test_a_run_that_was_forgotten_is_missing(history: History) -> None:
    run = double(1).run(workers=Inline(n=1))
    assert run.result(LIMIT_S) == 2
    run.forget()

    with pytest.raises(RunMissingError):
        recorded(run, history)
