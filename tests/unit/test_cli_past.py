"""The commands on what past runs taught: simulate, predict, history, export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dagnb
from dagnb import session, task
from dagnb.cli import main
from dagnb.exchange.wfformat import read
from dagnb.handle import Run

HERE = ["--workers", "inline"]
PATIENCE_S = 20


@task
def double(number: int) -> int:
    return 2 * number


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def refuse(number: int) -> int:
    raise ValueError(f"{number} is refused")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own, in which the runs of this test are kept before the next one begins."""
    session.wait_for_pending(PATIENCE_S)
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)
    yield
    session.wait_for_pending(PATIENCE_S)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must go well, and gives what it printed."""

    def command(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return command


@pytest.fixture
def complained(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with a message, and gives the message."""

    def command(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 1
        return capsys.readouterr().err

    return command


@pytest.fixture
def done() -> Run[int]:
    """double x3 -> total, finished and kept."""
    run = total([double(n) for n in range(3)]).run(workers="inline", name="doubled")
    assert run.result(PATIENCE_S) == 6
    dagnb.history()
    return run


# ---- simulate ----


def test_simulate_prints_a_line_a_planner_and_the_three_makespans_of_the_run(
    done: Run[int], said: Callable[..., str]
) -> None:
    printed = said(
        "simulate", "doubled", "--planner", "flexible", "--planner", "one_pass", *HERE
    ).splitlines()

    assert printed[0] == "doubled"
    assert printed[1].split("  ")[0] == "planner"
    assert {line.split()[0] for line in printed[2:4]} == {"flexible", "one_pass"}
    assert printed[5] == f"The run {done.id} itself, planned by flexible:"
    # No plan: its functions had never run before.
    assert [line.split()[0] for line in printed[6:9]] == ["replay", "real"]


def test_simulate_finds_a_run_that_the_store_has_and_the_history_lacks(
    done: Run[int], said: Callable[..., str]
) -> None:
    said("history", "--forget")

    assert said("simulate", done.id[:20], "--planner", "flexible", *HERE).startswith("doubled\n")


def test_simulate_finds_a_run_that_the_history_has_and_the_store_lacks(
    done: Run[int], said: Callable[..., str]
) -> None:
    done.forget()

    assert said("simulate", "last", "--planner", "flexible", *HERE).startswith("doubled\n")


def test_simulate_changes_what_it_is_told_to(done: Run[int], said: Callable[..., str]) -> None:
    colder = said(
        "simulate", "last", "--planner", "flexible", "--cold", "9", "--cap", "2", *HERE
    ).splitlines()[2]

    _, p50, _, _, starts, *_ = colder.split()
    assert 9.0 < float(p50) < 10.0
    assert starts == "2"


def test_simulate_at_prices_expected_now_tells_a_band(
    done: Run[int], said: Callable[..., str]
) -> None:
    """A start of 9 s, because a forecast of milliseconds would be lost in the printed digits."""
    printed = said(
        "simulate", "last", "--planner", "flexible", "--predicted", "--cold", "9", *HERE
    ).splitlines()[2]

    _, p50, p90, *_ = printed.split()
    assert float(p90) > float(p50)


def test_simulate_draws_into_a_file(
    done: Run[int], said: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "plan.svg"
    printed = said("simulate", "last", "--planner", "flexible", "--svg", str(file), *HERE)

    assert "<svg" in file.read_text()
    assert file.as_uri() in printed


def test_simulate_writes_the_run_and_the_best_plan_as_one_trace(
    done: Run[int], said: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    said("simulate", "last", "--planner", "flexible", "--trace", str(file), *HERE)

    events = json.loads(file.read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == [
        "doubled",
        "doubled (planned)",
    ]


def test_simulate_takes_a_workflow_of_others(
    done: Run[int], said: Callable[..., str], tmp_path: Path
) -> None:
    workflow, trace = tmp_path / "doubled.json", tmp_path / "trace.json"
    said("export", "last", str(workflow), "--to", "wfformat", *HERE)
    printed = said("simulate", str(workflow), "--planner", "flexible", "--trace", str(trace), *HERE)

    assert printed.startswith("doubled\n")
    assert "itself" not in printed
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"double-0", "double-1", "double-2", "total-0"} <= names


def test_simulate_of_a_failed_run_leaves_its_makespans_out(said: Callable[..., str]) -> None:
    run = double(refuse(7)).run(workers="inline", name="refused")
    with pytest.raises(dagnb.errors.TaskFailedError):
        run.result(PATIENCE_S)

    assert "itself" not in said("simulate", "refused", "--planner", "flexible", *HERE)


def test_simulate_refuses_what_nobody_knows(done: Run[int], complained: Callable[..., str]) -> None:
    assert "unknown run 'nobody'" in complained("simulate", "nobody", *HERE)
    assert "Did you mean 'flexible'" in complained(
        "simulate", "last", "--planner", "flexibel", *HERE
    )
    assert "cannot be read" in complained("simulate", "nothing.json", *HERE)


# ---- predict ----


def test_predict_prints_a_line_for_each_resources(done: Run[int], said: Callable[..., str]) -> None:
    first, heads, line = said("predict", "double").splitlines()

    assert first.startswith("double: 3 samples")
    assert heads.split("  ")[0] == "resources"
    assert line.split()[:2] == ["default", "3"]


def test_predict_takes_the_bytes_to_read(done: Run[int], said: Callable[..., str]) -> None:
    assert " 5,000 B " in said("predict", "double", "--bytes", "5000")


def test_predict_of_an_unknown_function_names_the_nearest(
    done: Run[int], complained: Callable[..., str]
) -> None:
    assert (
        complained("predict", "dubble")
        == "dagnb: unknown function 'dubble'. Did you mean 'double'?\n"
    )


# ---- history and export ----


def test_history_lists_the_runs_that_are_kept(done: Run[int], said: Callable[..., str]) -> None:
    heads, line = said("history").splitlines()

    assert (
        " ".join(heads.split())
        == "run name planner platform state started forecast real in forecast"
    )
    assert line.split()[:5] == [done.id, "doubled", "flexible", "inline", "ok"]


def test_history_forgets_everything_when_told_to(done: Run[int], said: Callable[..., str]) -> None:
    assert (
        said("history", "--forget") == "Deleted 1 past run and everything learnt from past runs.\n"
    )
    assert said("history") == "No past runs.\n"


def test_export_writes_what_perfetto_opens_and_what_simulators_read(
    done: Run[int], said: Callable[..., str], tmp_path: Path
) -> None:
    chrome, workflow = tmp_path / "run.json", tmp_path / "workflow.json"

    assert said("export", "last", str(chrome), *HERE) == f"{chrome.as_uri()}\n"
    said("export", done.id, str(workflow), "--to", "wfformat", *HERE)
    assert json.loads(chrome.read_text())["otherData"] == {"name": "doubled"}
    assert len(read(workflow.read_text()).dag) == 4
