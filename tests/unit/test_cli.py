"""The command line, on workers in this process and the store in its memory."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dagnb import registry, session, task
from dagnb.cli import main
from dagnb.errors import TaskFailedError
from dagnb.handle import Run
from dagnb.protocol.launcher import WorkerSlot
from dagnb.storage.open import MEMORY_URL
from dagnb.trace.trace import Trace
from dagnb.views import worker_slots

HERE = ["--workers", "inline"]
PATIENCE_S = 20


class Gate:
    """For tasks to wait at. A class, because it is pickled by name: its events stay these."""

    begun, opened = threading.Event(), threading.Event()


@task
def double(number: int) -> int:
    return 2 * number


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def refuse(number: int) -> int:
    raise ValueError(f"{number} is refused")


@task
def wait_at_the_gate() -> bool:
    Gate.begun.set()
    return Gate.opened.wait(PATIENCE_S)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)


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
    """Runs a command that must fail with a message alone, and gives the message."""

    def command(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        return printed.err

    return command


@pytest.fixture
def done() -> Run[int]:
    """double x3 -> total, finished."""
    run = total([double(n) for n in range(3)]).run(workers="inline", name="doubled")
    assert run.result(PATIENCE_S) == 6
    return run


@pytest.fixture
def failed() -> Run[int]:
    """refuse -> double, failed."""
    run = double(refuse(7)).run(workers="inline")
    with pytest.raises(TaskFailedError):
        run.result(PATIENCE_S)
    return run


@pytest.fixture
def held() -> Iterator[Run[int]]:
    """wait_at_the_gate -> double, running until the gate opens."""
    Gate.begun.clear()
    Gate.opened.clear()
    run = double(wait_at_the_gate()).run(workers="inline")
    assert Gate.begun.wait(PATIENCE_S)
    yield run
    Gate.opened.set()


# ---- finding runs ----


def test_runs_lists_the_newest_first_with_state_and_number_of_tasks(
    done: Run[int], failed: Run[int], said: Callable[..., str]
) -> None:
    newest, before, *_ = said("runs", *HERE).splitlines()

    assert newest.startswith(failed.id)
    assert " failed " in newest
    assert " 2 tasks " in newest
    assert before.startswith(done.id)
    assert " ok " in before
    assert before.endswith("doubled")


def test_runs_shows_below_the_list_what_the_store_holds_of_each_and_in_all(
    done: Run[int], failed: Run[int], said: Callable[..., str]
) -> None:
    _, sizes, total = said("runs", *HERE).split("\n\n")

    heads, newest, before, *_, cure = sizes.splitlines()
    assert heads.split("  ")[0] == "bytes of run"
    assert [newest.split()[0], before.split()[0]] == [failed.id, done.id]
    assert "`dagnb forget RUN` frees" in cure
    assert re.match(r"The store uses \d.* without a limit\. It holds \d+ runs: ", total)


def test_runs_says_what_clients_left_that_died_before_they_submitted_a_run(
    said: Callable[..., str],
) -> None:
    said("forget", *HERE, "--all")
    assert said("runs", *HERE) == "No runs.\n"
    store = session.wait(session.reopened(session.terms_of(MEMORY_URL)))
    session.wait(store.share({"h": bytes(5_000)}, run="never submitted", ttl_s=60))

    listed, total = said("runs", *HERE).splitlines()

    assert listed == "No runs."
    assert total.endswith("; 5 kB of code and inputs belong to no run listed.")
    session.wait(store.forget("never submitted"))


def test_a_run_is_found_by_id_by_its_beginning_in_any_case_and_as_last(
    done: Run[int], said: Callable[..., str]
) -> None:
    first_lines = {
        said("show", *HERE, name).splitlines()[0]
        for name in (done.id, done.id[:24].lower(), "last")
    }

    (line,) = first_lines
    assert line.startswith(f"run {done.id}  doubled  ok  ")


def test_a_beginning_of_several_runs_is_refused_with_their_ids(
    done: Run[int], failed: Run[int], complained: Callable[..., str]
) -> None:
    message = complained("show", *HERE, "01")

    assert message.startswith("dagnb: '01' begins the ids of ")
    assert f"\n    {failed.id}  double  failed  " in message


COMMANDS = (
    ("show",),
    ("errors",),
    ("log", "total"),
    ("why", "total-0"),
    ("attach",),
    ("cancel",),
    ("forget",),
)
"""Every command on a run, and the task it is asked about if any"""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("text", ["", " "])
def test_no_command_takes_an_empty_name_for_a_run(
    held: Run[int], complained: Callable[..., str], command: Sequence[str], text: str
) -> None:
    name, *task = command

    assert complained(name, *HERE, text, *task).startswith(
        "dagnb: an empty name means no run; those known are:\n"
    )
    assert held.state == "running"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("how", ["name", "id", "beginning", "last"])
def test_every_command_finds_a_run_in_every_way(
    said: Callable[..., str], command: Sequence[str], how: str, request: pytest.FixtureRequest
) -> None:
    unique = f"total of {command[0]} by {how}"
    run = total([double(1)]).run(workers="inline", name=unique)
    assert run.result(PATIENCE_S) == 2
    text = {"name": unique, "id": run.id.lower(), "beginning": run.id[:24], "last": "LAST"}[how]
    name, *task = command

    output = said(name, *HERE, text, *task)

    wanted = {
        "errors": "No errors.",
        "log": "no output of task 'total-0'",
        "why": "'total-0' is done",
    }
    assert wanted.get(name, run.id) in output


def test_a_name_of_several_runs_shows_the_newest_and_says_so_but_forgets_and_cancels_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [double(n).run(workers="inline", name="thrice") for n in range(3)]
    assert [run.result(PATIENCE_S) for run in runs] == [0, 2, 4]
    capsys.readouterr()

    assert main(["show", *HERE, "thrice"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"run {runs[2].id}  thrice  ok  ")
    assert shown.err.startswith(
        f"dagnb: 3 runs are named 'thrice'. The newest is taken: {runs[2].id}  thrice  ok  "
    )

    for command in ("cancel", "forget"):
        assert main([command, *HERE, "thrice"]) == 1
        refused = capsys.readouterr()
        assert refused.out == ""
        assert all(run.id in refused.err for run in runs)
        assert [run.state for run in runs] == ["ok", "ok", "ok"]


def test_a_name_of_several_runs_cancels_the_only_one_that_is_running(
    held: Run[int], said: Callable[..., str]
) -> None:
    """The others of that name are over, so that nothing else can be meant."""
    assert double(1).run(workers="inline", name=held.name).result(PATIENCE_S) == 2

    assert said("cancel", *HERE, held.name) == f"run {held.id} is cancelled.\n"
    assert held.state == "cancelled"


def test_a_misspelt_run_gets_the_nearest_id(done: Run[int], complained: Callable[..., str]) -> None:
    wrong = done.id[:-1] + ("0" if done.id[-1] != "0" else "1")

    assert (
        complained("errors", *HERE, wrong)
        == f"dagnb: unknown run '{wrong}'. Did you mean '{done.id}'?\n"
    )


def test_a_misspelt_command_gets_the_nearest_one_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["shwo", "last"])

    assert ended.value.code == 2
    assert "unknown command 'shwo'. Did you mean 'show'?" in capsys.readouterr().err


def test_misspelt_workers_get_the_nearest_name(complained: Callable[..., str]) -> None:
    assert "Did you mean 'inline'?" in complained("runs", "--workers", "inlin")


# ---- looking at runs ----


def test_show_prints_counts_makespan_and_phases(done: Run[int], said: Callable[..., str]) -> None:
    shown = said("show", *HERE, done.id)

    assert "4 of 4 tasks done" in shown
    assert "makespan " in shown
    assert "\n  run " in shown


def test_show_html_writes_a_page_that_needs_nothing_else(
    failed: Run[int], tmp_path: Path, said: Callable[..., str]
) -> None:
    file = tmp_path / "report.html"

    shown = said("show", *HERE, failed.id, "--html", str(file))

    page = file.read_text(encoding="utf-8")
    assert shown.strip() == file.as_uri()
    assert failed.id in page
    assert "7 is refused" in page
    assert "dagnb-view" in page


def test_show_json_holds_states_errors_and_a_trace_that_can_be_read_back(
    failed: Run[int], said: Callable[..., str]
) -> None:
    shown = json.loads(said("show", *HERE, failed.id, "--json"))

    assert shown["state"] == "failed"
    assert shown["tasks"] == {"refuse-0": "failed", "double-0": "cancelled"}
    assert "ValueError: 7 is refused" in shown["errors"][0]
    assert Trace.from_json(json.dumps(shown["trace"])).names == ("refuse-0", "double-0")


def test_errors_shows_the_line_that_failed(failed: Run[int], said: Callable[..., str]) -> None:
    shown = said("errors", *HERE, failed.id)

    assert 'raise ValueError(f"{number} is refused")' in shown
    assert "ValueError: 7 is refused" in shown


def test_why_says_what_a_task_waits_for_and_corrects_its_name(
    held: Run[int], said: Callable[..., str], complained: Callable[..., str]
) -> None:
    waits = "'double-0' waits for 1 of its 1 upstream tasks: 'wait_at_the_gate-0' (running).\n"

    assert said("why", *HERE, held.id, "double-0") == waits
    assert said("why", *HERE, held.id, "double") == waits
    assert "Did you mean 'double-0'?" in complained("why", *HERE, held.id, "dubble-0")


def test_why_without_a_task_says_where_the_time_of_the_run_went(
    done: Run[int], said: Callable[..., str]
) -> None:
    shown = said("why", *HERE, done.id)

    assert shown == f"{done.why()}\n"
    assert "the chain of tasks that took these" in shown
    assert "total-0" in shown


def test_a_function_that_is_called_several_times_is_no_task_and_its_tasks_are_told(
    done: Run[int], complained: Callable[..., str]
) -> None:
    for command in ("why", "log"):
        output = complained(command, *HERE, done.id, "double")
        assert output.splitlines() == [
            "dagnb: 'double' is called 3 times:",
            "    double-0",
            "    double-1",
            "    double-2",
            "Give the whole name of one.",
        ]


def test_log_tells_of_a_task_that_printed_nothing_and_corrects_its_name(
    done: Run[int], held: Run[int], said: Callable[..., str], complained: Callable[..., str]
) -> None:
    assert said("log", *HERE, done.id, "total-0") == "there is no output of task 'total-0'.\n"
    assert said("log", *HERE, held.id, "double-0") == "there is no output of task 'double-0' yet.\n"
    assert "Did you mean 'total-0'?" in complained("log", *HERE, done.id, "totel-0")


def test_attach_watches_till_the_end_and_its_exit_code_says_whether_it_went_well(
    done: Run[int], failed: Run[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attach", *HERE, done.id]) == 0
    assert f"run {done.id} ok" in capsys.readouterr().out

    assert main(["attach", *HERE, failed.id]) == 1
    assert f"run {failed.id} failed" in capsys.readouterr().out


class Ringing(io.StringIO):
    """Interrupts this process when a run is first written about."""

    def write(self, text: str) -> int:
        if not self.getvalue():
            super().write(text)
            signal.raise_signal(signal.SIGINT)
            return len(text)
        return super().write(text)


def test_an_interrupt_while_attached_cancels_the_run_says_so_and_exits_with_130(
    held: Run[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Ringing()
    monkeypatch.setattr(sys, "stdout", out)

    assert main(["attach", *HERE, held.id]) == 130

    assert out.getvalue().endswith(f"interrupted: run {held.id} is cancelled.\n")
    assert held.state == "cancelled"


# ---- ending and forgetting runs ----


def test_cancel_ends_a_run_once(held: Run[int], said: Callable[..., str]) -> None:
    assert said("cancel", *HERE, held.id) == f"run {held.id} is cancelled.\n"
    assert held.state == "cancelled"
    assert said("cancel", *HERE, held.id) == f"run {held.id} was over already: cancelled.\n"


def test_forget_deletes_one_run(
    done: Run[int], said: Callable[..., str], complained: Callable[..., str]
) -> None:
    assert said("forget", *HERE, done.id).startswith(f"run {done.id} is forgotten")
    assert done.id not in said("runs", *HERE)
    assert f"run {done.id} is over and kept in the history" in complained("show", *HERE, done.id)


def test_forgetting_the_last_run_again_does_not_forget_the_one_before(
    done: Run[int], failed: Run[int], said: Callable[..., str], complained: Callable[..., str]
) -> None:
    session.wait_for_pending(PATIENCE_S)
    assert said("forget", *HERE, "last").startswith(f"run {failed.id} is forgotten")

    assert f"run {failed.id} is over and kept in the history" in complained("forget", *HERE, "last")
    assert done.id in said("runs", *HERE)


def test_forget_all_leaves_what_is_going_on(
    done: Run[int], held: Run[int], said: Callable[..., str]
) -> None:
    shown = said("forget", *HERE, "--all")

    assert shown.endswith(" 1 run still running.\n")
    runs, *_ = said("runs", *HERE).split("\n\n")
    (left,) = runs.splitlines()
    assert left.startswith(held.id)


@pytest.mark.parametrize("arguments", [(), ("last", "--all")])
def test_forget_wants_one_run_or_all(
    arguments: Sequence[str], complained: Callable[..., str]
) -> None:
    assert "Give one RUN, or --all" in complained("forget", *HERE, *arguments)


# ---- this machine ----


def test_workers_lists_where_tasks_run_of_every_platform_or_of_one(
    held: Run[int], said: Callable[..., str]
) -> None:
    heads, row = said("workers", *HERE).splitlines()

    assert heads.split()[:5] == ["name", "platform", "state", "run", "worker"]
    assert row.split()[:5] == ["pid", str(os.getpid()), "inline", "busy", held.id[:12]]
    assert row in said("workers").splitlines()


def test_no_workers_are_told_in_words(said: Callable[..., str]) -> None:
    assert said("workers", "--workers", "docker") == "no worker is running or warm\n"


def test_a_row_tells_what_is_known_of_a_worker_slot_and_steers_no_terminal() -> None:
    slot = WorkerSlot(
        name="dagnb-\x1b[2J1",
        platform="docker",
        state="idle",
        worker="~/1",
        cpus=0.5,
        memory_mb=2048,
        made_of="image:1\nx",
        age_s=75,
        n_lent=3,
    )

    heads, row = worker_slots.lines(worker_slots.HEADS, worker_slots.rows([slot]))

    assert (
        row
        == "dagnb-1  docker    idle        worker 1  0.5   2,048 MB  image:1 x         1 min 15 s  3"
    )
    assert len(heads.split("  ")) >= len(worker_slots.HEADS)


def test_config_shows_settings_and_variables_without_secrets(
    said: Callable[..., str], complained: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(session.STORE_VARIABLE, "rediss://me:hunter2@far.example:6380/1")

    shown = said("config")

    assert "rediss://far.example:6380/1" in shown
    assert "hunter2" not in shown
    assert said("config", session.STORE_VARIABLE) == "rediss://far.example:6380/1\n"
    assert said("config", "planner") == f"{session.settings().planner}\n"
    assert "Did you mean 'planner'?" in complained("config", "planer")


def test_the_agent_gets_its_own_arguments_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[str]] = []

    def agent(arguments: Sequence[str]) -> int:
        given.append(arguments)
        return 7

    monkeypatch.setitem(registry._added, ("program", "agent"), agent)

    assert main(["agent", "--idle-s", "3", "--help"]) == 7
    assert given == [["--idle-s", "3", "--help"]]


def test_any_program_is_found_by_name_gets_its_own_arguments_and_stands_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Sequence[str]] = []

    def program(arguments: Sequence[str]) -> int:
        given.append(arguments)
        return 3

    monkeypatch.setitem(registry._added, ("program", "image"), program)
    monkeypatch.setitem(registry._added, ("program", "polish"), program)

    assert main(["image", "build", "--help"]) == main(["polish"]) == 3
    assert given == [["build", "--help"], []]
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "image     Build, list and remove the images of Docker workers." in shown
    assert "polish    A program of another package." in shown


# ---- files ----


def test_run_refuses_what_is_no_file_and_what_is_no_notebook(
    tmp_path: Path, complained: Callable[..., str]
) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{}")
    path, argv = sys.path[:], sys.argv[:]

    assert "there is no file nowhere.py" in complained("run", "nowhere.py")
    assert "is not a notebook of format 4" in complained("run", str(broken))
    sys.path[:], sys.argv[:] = path, argv


@pytest.mark.parametrize("file", ["missing/page.html", "", "a folder"])
def test_a_page_that_cannot_be_written_is_told_with_the_file_and_the_cure(
    done: Run[int], complained: Callable[..., str], tmp_path: Path, file: str
) -> None:
    (tmp_path / "a folder").mkdir()

    output = complained("show", *HERE, done.id, "--html", str(tmp_path / file))

    assert f"'{tmp_path / file}' cannot be written: " in output
    assert "Name a file in a folder that exists" in output
