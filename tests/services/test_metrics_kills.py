"""What becomes of spans: nothing is lost when a run ends, and no more than each strategy promises
after kill -9.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dagnb_workers.agent.client import ask_agent
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import AtExit, EachTask, Every, WhenFull, session, task
from dagnb.errors import RunCancelledError, RunTimeoutError
from dagnb.handle import Run
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from dagnb.protocol.messages import Event
from dagnb.trace.trace import Phase
from dagnb.trace.upload import Upload
from tests.services.processes import await_that

pytestmark = pytest.mark.redis

STRATEGIES = [AtExit(), EachTask(), Every(seconds=0.1), WhenFull(n=16)]
N_CHORES = 30
N_KILLS = 6

LEFT_BY_EACH = {Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.COMMIT}
"""spans that every task leaves that is done; others are there or not"""


@task
def chore(folder: str, number: int) -> int:
    """A few milliseconds of work; leaves the pid of who does it under the name of the worker."""
    note = Path(folder, f"{os.getpid()}.new")
    note.write_text(str(os.getpid()))
    note.replace(Path(folder, dagnb.context().worker.replace("/", "-")))
    until = time.perf_counter() + 0.008
    while time.perf_counter() < until:
        pass
    return number


@task
def hold(folder: str) -> int:
    """Takes as long as nobody opens the gate."""
    Path(folder, "held").touch()
    while not Path(folder, "gate").exists():
        time.sleep(0.005)
    return 0


@task
def chore_meanwhile(folder: str, number: int) -> int:
    """A chore while another worker holds: whoever did it has no other task to go on with."""
    while not Path(folder, "held").exists():
        time.sleep(0.005)
    return chore(folder, number)


@task
def follow(number: int) -> int:
    """One after another."""
    return number + 1


@dataclass(frozen=True, kw_only=True)
class TwoWorkers:
    """The first half of the steps on w0, the others on w1, each in their order."""

    name: ClassVar[str] = "two_workers"

    def plan(self, problem: Problem) -> Plan:
        """Pinned, by position among the nodes given."""
        first = 1 + N_CHORES
        steps = tuple(
            Step(task=i, upstream=call.upstream, worker="w0" if i < first else "w1", priority=i)
            for i, call in enumerate(problem.dag.calls)
        )
        return Plan(dag=problem.dag, steps=steps, planner=self.name)


@pytest.fixture(params=STRATEGIES, ids=lambda upload: upload.text.partition(":")[0])
def upload(request: pytest.FixtureRequest) -> Upload:
    return request.param  # type: ignore[no-any-return]


# ---- kill -9
# --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a killed instance left: its own done events, and which spans of them are missing, by
    task.
    """

    events: tuple[Event, ...]
    done: tuple[Event, ...]
    missing: dict[int, set[Phase]]

    @property
    def n_spans(self) -> int:
        return sum(map(len, self.missing.values()))


def killed(folder: Path, upload: Upload, after: int) -> Loss:
    """A run in which the process at w0 is killed after so many of its tasks; asserts that nobody
    else loses anything.

    w0: chore x 30, hold     w1: chore x 30, hold
    """
    folder.mkdir()
    nodes = [*(chore(str(folder), n) for n in range(N_CHORES)), hold(str(folder))]
    others = [*(chore(str(folder), N_CHORES + n) for n in range(N_CHORES)), hold(str(folder))]
    run = dagnb.run(*nodes, *others, planner=TwoWorkers(), workers=Processes(n=2), metrics=upload)
    await_that(
        lambda: len(done_by(run, "w0")) >= after and (folder / "w0").exists(), "w0 has come so far"
    )
    victim = int((folder / "w0").read_text())
    os.kill(victim, signal.SIGSTOP)  # at any moment; from now on its events are all known
    events = tuple(run.look().events)
    done = tuple(event for event in events if event.kind == "done" and event.worker == "w0")
    os.kill(victim, signal.SIGKILL)
    (folder / "gate").touch()
    assert run.result(60) == (*range(N_CHORES), 0, *range(N_CHORES, 2 * N_CHORES), 0)
    await_that(
        lambda: run.id not in session.wait(ask_agent("status"))["runs"],
        "the workers and their supervisor left",
    )
    missing = missing_spans(run)
    strangers = set(missing) - {event.task for event in done}
    assert not strangers, "spans of instances that were not killed are lost"
    run.forget()
    return Loss(events=events, done=done, missing=missing)


def done_by(run: Run[Any], worker: str) -> list[Event]:
    return [event for event in run.look().events if event.kind == "done" and event.worker == worker]


def missing_spans(run: Run[Any]) -> dict[int, set[Phase]]:
    """task -> phases of which a done task must have spans, and has none"""
    found: dict[int, set[Phase]] = {
        e.task: set(LEFT_BY_EACH) for e in run.look().events if e.kind == "done"
    }
    for span in run.trace.spans:
        found.get(span.task, set()).discard(span.phase)
    return {task: phases for task, phases in found.items() if phases}


def promised(upload: Upload, loss: Loss) -> str:
    """Assert what the strategy promises of a killed instance; returns the promise in words."""
    last = max((event.at, event.task) for event in loss.done)[1] if loss.done else -1
    match upload:
        case EachTask():
            assert loss.missing in ({}, {last: {Phase.COMMIT}})
            return "the span of the last commit"
        case WhenFull():
            assert loss.n_spans <= upload.n
            return f"{upload.n} spans"
        case Every():
            begun = [
                event.at for event in loss.events if event.kind == "start" and event.task == last
            ]
            early = [
                event
                for event in loss.done
                if event.task in loss.missing and event.at < begun[-1] - upload.seconds
            ]
            assert not early, (
                f"{len(early)} tasks were done earlier than {upload.seconds} s before the last commit"
            )
            return f"tasks of the last {upload.seconds} s"
    assert loss.missing == {event.task: LEFT_BY_EACH for event in loss.done}
    return "all spans of the killed"


def test_kill_9_costs_no_more_spans_than_promised_and_nobody_elses(
    upload: Upload, agent: int, tmp_path: Path, summary: list[str]
) -> None:
    chance = random.Random(7)
    moments = [N_CHORES, *(chance.randrange(1, N_CHORES) for _ in range(N_KILLS - 1))]

    losses = [killed(tmp_path / f"run{n}", upload, after) for n, after in enumerate(moments)]
    words = {promised(upload, loss) for loss in losses}

    worst = max(losses, key=lambda loss: loss.n_spans)
    assert sum(len(loss.done) for loss in losses) >= sum(moments)
    summary.append(
        f"metrics, {upload.text}: {N_KILLS} workers killed, lost {sum(loss.n_spans for loss in losses)} spans of "
        f"{sum(len(loss.done) for loss in losses)} done tasks, at worst {worst.n_spans} of {len(worst.missing)} tasks; "
        f"promised at most {words.pop()}; of others 0"
    )


# ---- ends of runs
# ---------------------------------------------------------------------------------------------------


def attempts_without_run(run: Run[Any]) -> set[int]:
    """Tasks that were begun and have no span of their function."""
    ran = {span.task for span in run.trace.spans if span.phase is Phase.RUN}
    return {event.task for event in run.look().events if event.kind == "start"} - ran


def chain(length: int) -> Any:
    """follow -> follow -> ..."""
    node: Any = 0
    for _ in range(length):
        node = follow(node)
    return node


def test_a_run_that_ends_while_workers_are_idle_has_all_its_spans(
    upload: Upload, agent: int, tmp_path: Path
) -> None:
    """Six chores for three workers, then one of them goes on alone."""
    nodes = [chore(str(tmp_path), n) for n in range(6)]
    run = dagnb.run(*nodes, chain(40), workers=Processes(n=3), metrics=upload)

    run.result(60)

    assert missing_spans(run) == {}
    assert {span.phase for span in run.trace.spans if not span.worker} == {
        Phase.SUBMIT,
        Phase.RETURN,
    }


def test_a_run_that_is_cancelled_has_all_its_spans_and_those_of_what_was_interrupted(
    upload: Upload, agent: int, tmp_path: Path
) -> None:
    run = dagnb.run(*started(tmp_path), workers=Processes(n=3), metrics=upload)
    await_that(lambda: run.status.get("done") == 6, "the chores are done")

    run.cancel()

    with pytest.raises(RunCancelledError):
        run.result(60)
    assert missing_spans(run) == {}
    await_that(lambda: not attempts_without_run(run), "the interrupted function has its span")


def test_a_run_that_passes_its_deadline_has_all_its_spans(
    upload: Upload, agent: int, tmp_path: Path
) -> None:
    run = dagnb.run(*started(tmp_path), workers=Processes(n=3), metrics=upload, deadline_s=2.0)

    with pytest.raises(RunTimeoutError):
        run.result(60)

    assert run.status["cancelled"] >= 1
    assert missing_spans(run) == {}
    await_that(lambda: not attempts_without_run(run), "the interrupted function has its span")


def started(folder: Path) -> Sequence[Any]:
    """Six chores, and a task that nobody lets go."""
    return [*(chore(str(folder), n) for n in range(6)), hold(str(folder))]


def test_a_run_in_which_a_task_fails_has_all_its_spans(
    upload: Upload, agent: int, tmp_path: Path
) -> None:
    @task
    def refuse(number: int) -> int:
        raise ValueError(number)

    nodes = [refuse(chore(str(tmp_path), n)) for n in range(4)]
    run = dagnb.run(*nodes, workers=Processes(n=2), metrics=upload, on_error="continue")

    with pytest.raises(dagnb.errors.TaskFailedError):
        run.result(60)

    assert missing_spans(run) == {}
    await_that(lambda: not attempts_without_run(run), "the failed functions have their spans")


@pytest.mark.parametrize("metrics", ["every:0.05", "each_task"])
def test_a_worker_that_waits_for_work_uploads_meanwhile(
    metrics: str, agent: int, tmp_path: Path
) -> None:
    """One worker is done and idle while the other one is held."""
    run = dagnb.run(
        chore_meanwhile(str(tmp_path), 1),
        hold(str(tmp_path)),
        workers=Processes(n=2),
        metrics=metrics,
    )

    await_that(
        lambda: run.status.get("done") == 1 and not missing_spans(run),
        "the chore is done and its spans are there",
    )

    assert run.status == {"done": 1, "running": 1}
    (tmp_path / "gate").touch()
    assert run.result(60) == (1, 0)
