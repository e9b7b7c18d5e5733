"""The command line as a stranger meets it: the embedded server, the agent and worker processes,
nothing configured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session, task
from dagnb.cli import main
from dagnb.errors import TaskFailedError

pytestmark = pytest.mark.redis


@task
def refuse(number: int) -> int:
    """Fails, saying so."""
    sys.stdout.write("about to refuse")
    raise ValueError(f"{number} is refused")


@task
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@task
def total(numbers: list[int]) -> int:
    """Their sum."""
    return sum(numbers)


def test_demo_runs_on_processes_counts_right_and_can_be_looked_at_afterwards(
    embedded_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--limit-mb", "0.5", "--out", str(embedded_home / "out")]) == 0
    told = capsys.readouterr().out
    assert "EQUAL: all " in told
    assert (embedded_home / "out" / "report.html").exists()

    assert main(["runs"]) == 0
    runs, *_ = capsys.readouterr().out.split("\n\n")
    (line,) = runs.splitlines()
    assert " ok " in line
    assert line.endswith("identifiers")

    assert main(["show", "last", "--html", str(embedded_home / "later.html")]) == 0
    assert "count_identifiers" in (embedded_home / "later.html").read_text(encoding="utf-8")

    assert main(["why", "last", "top-0"]) == 0
    assert "'top-0' is done." in capsys.readouterr().out


def test_a_failed_run_tells_its_error_and_can_be_forgotten(
    embedded_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """refuse -> double"""
    run = double(refuse(7)).run()
    with pytest.raises(TaskFailedError):
        run.result(60)

    assert main(["errors", "last"]) == 0
    told = capsys.readouterr().out
    assert "ValueError: 7 is refused" in told
    assert "about to refuse" in told
    assert main(["attach", run.id]) == 1
    assert "failed" in capsys.readouterr().out

    assert main(["forget", run.id]) == 0
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "No runs.\n"


def test_a_run_whose_only_reader_is_skipped_goes_on_and_is_last_by_every_command_as_soon_as_it_has_ended(
    embedded_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """refuse-0, double-0 ... double-4 -> total-0, on one worker process; an older run is in the
    history already.
    """
    assert double(21).run().result(60) == 42
    session.wait_for_pending(60)
    parts = [refuse(7), *(double(n) for n in range(5))]
    run = dagnb.run(total(parts), on_error="continue", workers=Processes(n=1), name="sums")
    session.wait(run._store.wait_end(run.id, 60))

    assert main(["export", "last", str(embedded_home / "run.json")]) == 0
    assert json.loads((embedded_home / "run.json").read_text(encoding="utf-8"))["otherData"] == {
        "name": "sums"
    }
    capsys.readouterr()
    assert main(["show", "last"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"run {run.id}  sums  failed  ")
    assert "5 of 7 tasks done, 1 failed, 1 skipped" in shown
    assert main(["why", "sums", "total"]) == 0
    assert capsys.readouterr().out == "'total-0' was skipped, because a task it needs failed.\n"
    assert main(["cancel", ""]) == 1
    assert "an empty name means no run" in capsys.readouterr().err


def test_the_doctor_finds_the_agent_that_a_run_started(
    embedded_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert double(21).run().result(60) == 42

    assert main(["doctor"]) == 0
    assert "listens at " in capsys.readouterr().out
