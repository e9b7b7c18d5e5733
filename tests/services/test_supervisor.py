"""A supervisor with real workers on a real server: deaths, time limits, the end of a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.hosting.run_locks import RunRecord
from dagnb_workers.surroundings.surroundings import THREAD_SETTINGS
from dagnb_workers.worker.retry import STORE_GONE

from dagnb.failure import TaskError
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Observation, Queue, Record, RunState, Submission
from dagnb.storage.embedded import ServerProcess, start_server, stop_server
from dagnb.storage.open import open_store
from tests.services.stage import Stage, end, eventually, is_running, parent, stage

pytestmark = pytest.mark.redis

LONG_LEASE_S = 60.0
"""So that nothing here is found out by a lease that ran out."""


@pytest.fixture(scope="module")
def actors() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    directory = tmp_path / "store"
    directory.mkdir(mode=0o700)
    made = start_server(directory)
    yield made
    stop_server(made)


class Scene:
    """One run and its supervisor."""

    def __init__(self, actors: Stage, directory: Path, invocation: Invocation) -> None:
        self.actors, self.directory, self.invocation = actors, directory, invocation
        self.record = RunRecord(directory, invocation.run)
        self.pids: list[int] = []

    def play(self, work: str, **settings: float) -> None:
        self.name, pid = self.actors.supervise(self.invocation, self.directory, work, **settings)
        self.pids.append(pid)

    def exit_code(self) -> int:
        return self.actors.exit_code(self.name)

    def noted(self, kind: str = "worker") -> list[int]:
        """Pids of the workers, or of their children, so far."""
        return [int(path.name.rpartition("-")[2]) for path in self.directory.glob(f"{kind}-*")]

    def nobody_is_left(self) -> bool:
        everybody = [*self.pids, *self.noted(), *self.noted("child")]
        return not any(map(is_running, everybody)) and not self.record.is_alive()

    async def observe(self) -> Observation:
        store = await open_store(self.invocation.store)
        seen = await store.observe(self.invocation.run)
        await store.close()
        return seen

    async def error(self, attempt: int = 1) -> dict[str, Any]:
        text = (await self.observe()).errors[0, attempt]
        error: dict[str, Any] = asdict(TaskError.from_json(text, task="f-0", attempt=attempt))
        return error

    async def cancel(self) -> None:
        store = await open_store(self.invocation.store)
        await store.cancel(self.invocation.run, "a test")
        await store.close()


@pytest.fixture
async def scene(actors: Stage, server: ServerProcess, tmp_path: Path) -> Any:
    invocation = Invocation(
        run="r1", store=server.url, key=bytes(32), cpus=2.5, lease_s=LONG_LEASE_S, heartbeat_s=0.5
    )
    made = Scene(actors, tmp_path, invocation)
    await _submit(invocation)
    yield made
    end(made.pids)  # when the test failed
    eventually(made.nobody_is_left)


async def _submit(invocation: Invocation) -> None:
    """A run of one task."""
    record = Record(queue=0, priority=0, is_sink=True, retries=0, upstream=(), edges=())
    submission = Submission(
        run=invocation.run,
        records=(record.pack(),),
        queues=(Queue("~", 1),),
        sinks=(0,),
        sources=(0,),
        n_bits=0,
    )
    store = await open_store(invocation.store)
    await store.submit(submission)
    await store.close()


async def test_it_leaves_with_its_workers_when_the_run_is_over(scene: Scene) -> None:
    scene.play("obey")

    assert scene.exit_code() == 0
    assert (await scene.observe()).state is RunState.OK
    assert not list(scene.directory.glob("run-*"))


async def test_workers_see_their_cpus_before_any_library_does(scene: Scene) -> None:
    scene.play("obey")
    scene.exit_code()

    (note,) = scene.directory.glob("worker-*")

    assert json.loads(note.read_text()) == dict.fromkeys(THREAD_SETTINGS, "2")


async def test_a_killed_worker_is_reported_with_proof_and_replaced(scene: Scene) -> None:
    begun = time.monotonic()
    scene.play("die")

    assert scene.exit_code() == 0
    assert time.monotonic() - begun < LONG_LEASE_S / 4
    assert (await scene.observe()).state is RunState.OK
    assert len(scene.noted()) == 2
    error = await scene.error()
    assert (error["type"], error["signal"], error["exit_code"]) == ("WorkerDied", 9, None)
    assert "SIGKILL (9) while running this task" in error["message"]
    assert (error["stderr_tail"], error["stdout_tail"]) == ("last words\n", "last print\n")


async def test_os_exit_in_a_task_is_named(scene: Scene) -> None:
    scene.play("exit")
    scene.exit_code()

    error = await scene.error()

    assert (error["exit_code"], error["signal"]) == (7, None)
    assert "ended itself with exit code 7 while running this task" in error["message"]


async def test_a_crash_in_compiled_code_shows_the_python_lines(scene: Scene) -> None:
    scene.play("crash")
    scene.exit_code()

    error = await scene.error()

    assert "SIGSEGV (11)" in error["message"]
    assert "in _crash" in error["stderr_tail"]


async def test_a_loop_past_its_time_limit_is_interrupted_and_its_worker_lives_on(
    scene: Scene,
) -> None:
    scene.play("spin")
    scene.exit_code()

    assert (await scene.error())["type"] == "TimeLimit"
    assert len(scene.noted()) == 1


@pytest.mark.parametrize(("work", "killer"), [("spin_in_c", "SIGTERM"), ("spin_deaf", "SIGKILL")])
async def test_a_loop_that_does_not_listen_is_killed_at_its_time_limit(
    scene: Scene, work: str, killer: str
) -> None:
    begun = time.monotonic()
    scene.play(work)
    scene.exit_code()
    took_s = time.monotonic() - begun

    error = await scene.error()

    assert error["type"] == "TimeLimit"
    assert "after its time limit of 0.2 s" in error["message"]
    assert error["signal"] == signal.Signals[killer]
    assert took_s > (1 if killer == "SIGTERM" else 2)
    assert (
        await scene.observe()
    ).state is RunState.FAILED  # charged to the retries of the task: it had none


async def test_workers_that_never_begin_end_the_run_with_their_last_line(scene: Scene) -> None:
    scene.play("stillborn")
    scene.exit_code()

    seen = await scene.observe()

    assert seen.state is RunState.CANCELLED
    assert "5 workers in a row died before they began" in seen.reason
    assert "RuntimeError: no luck" in seen.reason
    assert len(scene.noted()) == 5


@pytest.mark.parametrize("work", ["wait", "wait_deaf"])
async def test_cancel_reaches_a_working_worker_at_once(scene: Scene, work: str) -> None:
    scene.invocation = Invocation(**{**_fields(scene.invocation), "heartbeat_s": 20.0})
    scene.play(work)
    await _running(scene)

    begun = time.monotonic()
    await scene.cancel()
    scene.exit_code()

    assert time.monotonic() - begun < 5.0
    assert scene.nobody_is_left()


async def test_a_killed_supervisor_takes_its_workers_and_their_children_along(scene: Scene) -> None:
    scene.play("start_children")
    (child,) = eventually(lambda: scene.noted("child"))
    assert is_running(child)

    end(scene.pids)

    eventually(scene.nobody_is_left)
    assert scene.exit_code() == -signal.SIGKILL


async def test_the_next_supervisor_knows_that_its_predecessors_workers_are_dead(
    scene: Scene,
) -> None:
    scene.play("wait")
    await _running(scene)
    end(scene.pids)
    scene.exit_code()

    begun = time.monotonic()
    scene.play("obey")
    scene.exit_code()

    assert time.monotonic() - begun < LONG_LEASE_S / 4
    assert (await scene.observe()).state is RunState.OK


async def test_a_second_supervisor_of_a_run_leaves(scene: Scene) -> None:
    from dagnb_workers.hosting import run_host

    scene.play("wait")
    await _running(scene)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_host, "PREDECESSOR_S", 0.1)
        assert run_host.supervise(scene.invocation.to_json(), scene.directory) == 0

    assert len(scene.noted()) == 1
    await scene.cancel()
    scene.exit_code()


async def test_a_worker_whose_fork_server_was_killed_dies_and_the_supervisor_says_that_it_failed(
    scene: Scene,
) -> None:
    scene.play("wait")
    await _running(scene)
    (worker,) = scene.noted()

    end([parent(worker)])

    assert scene.exit_code() == 1
    eventually(scene.nobody_is_left)


async def test_an_unknown_run_is_left_alone(scene: Scene) -> None:
    scene.invocation = Invocation(**{**_fields(scene.invocation), "run": "unknown"})

    scene.play("wait")

    assert scene.exit_code() == 0


async def test_a_store_that_stays_away_is_given_up(scene: Scene, server: ServerProcess) -> None:
    scene.play("wait", GIVE_UP_S=0.5)
    await _running(scene)

    stop_server(server)

    assert scene.exit_code() == STORE_GONE
    assert scene.nobody_is_left()


async def test_a_store_that_comes_back_finds_the_run_going_on(
    scene: Scene, server: ServerProcess
) -> None:
    scene.play("wait")
    (worker,) = await _running(scene)

    with contextlib.ExitStack() as stack:
        os.kill(server.pid, signal.SIGSTOP)
        stack.callback(os.kill, server.pid, signal.SIGCONT)

    await scene.cancel()
    assert scene.exit_code() == 0
    assert scene.noted() == [worker]


async def _running(scene: Scene) -> list[int]:
    """The workers, once the task is running."""
    deadline = time.monotonic() + 10
    while (await scene.observe()).states != "X":
        assert time.monotonic() < deadline
    return scene.noted()


def _fields(invocation: Invocation) -> dict[str, Any]:
    return {name: getattr(invocation, name) for name in type(invocation).__slots__}
