"""Workers are killed with SIGKILL at random moments of real runs on real processes and a real
server.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from dagnb_workers.agent.client import ask_agent
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session, task
from dagnb.graph.task import Node
from dagnb.protocol.messages import Event
from tests.services.large_values import nothing_is_left
from tests.services.processes import await_that, supervisor_of, workers_of

pytestmark = pytest.mark.redis


@task
def leaf(number: int) -> int:
    """A few milliseconds of work."""
    end = time.perf_counter() + 0.004
    while time.perf_counter() < end:
        pass
    return number


@task
def add(numbers: list[int]) -> int:
    """Their sum."""
    return sum(numbers)


def tree(width: int, fan_in: int) -> Node[int]:
    """Leaves 0..width-1 summed in a tree.

    leaf leaf  leaf leaf
       \\ /       \\ /
       add       add
          \\     /
            add
    """
    level: list[Node[int]] = [leaf(number) for number in range(width)]
    while len(level) > 1:
        level = [add(level[i : i + fan_in]) for i in range(0, len(level), fan_in)]  # type: ignore[arg-type]
    return level[0]


@task
def one_more(number: int) -> int:
    """Half a millisecond of work: several in a batch, their results kept."""
    end = time.perf_counter() + 0.0005
    while time.perf_counter() < end:
        pass
    return number + 1


def chains(width: int, length: int) -> Node[int]:
    """Chains of short tasks, added up."""
    ends = []
    for number in range(width):
        node: Node[int] = leaf(number)
        for _ in range(length):
            node = one_more(node)
        ends.append(node)
    return add(ends)  # type: ignore[arg-type]


@task
def array(number: int) -> Any:
    """2 MB, which go through shared memory to several readers."""
    return np.full(250_000, number)


@task
def shifted(values: Any, by: int) -> Any:
    """Changes its input in place."""
    values += by
    return values


@task
def first(values: Any) -> int:
    """The first number."""
    return int(values[0])


def arrays(width: int) -> Node[int]:
    """Arrays with two readers each, from which two more tasks follow in a row."""
    ends = []
    for number in range(width):
        value = array(number)
        ends += [first(shifted(shifted(value, by), by)) for by in (0, 1)]
    return add(ends)  # type: ignore[arg-type]


KINDS: tuple[tuple[Callable[[], Node[int]], int], ...] = (
    (lambda: tree(80, 4), sum(range(80))),
    (lambda: chains(8, 30), sum(range(8)) + 8 * 30),
    (lambda: arrays(20), 2 * sum(range(20)) + 20 * 2),
)
"""kinds of runs, and their results"""


def run_with_kills(seed: int, kills: int) -> tuple[int, float]:
    """A run of one of the kinds; workers die when a random number of tasks is done.

    Returns deaths, makespan.
    """
    chance = random.Random(seed)
    build, expected = KINDS[seed % len(KINDS)]
    node = build()
    run = node.run(workers=Processes(n=3))
    moments = sorted(chance.randrange(0, 100) for _ in range(kills))
    supervisor = supervisor_of(run.id)
    deaths = 0
    for moment in moments:
        await_that(lambda m=moment: run.done or run.status.get("done", 0) >= m, "progress")  # type: ignore[misc]
        victims = workers_of(supervisor)
        if victims and not run.done:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
                deaths += 1
    assert run.result(60) == expected
    assert run.look().states == "D" * len(run.look().states)
    check_that_each_task_is_done_once(run.look().events)
    await_that(lambda: not workers_of(supervisor), "the workers left after the end")
    nothing_is_left(run)
    return deaths, run.trace.makespan_s


def check_that_each_task_is_done_once(events: Sequence[Event]) -> None:
    """Each task is done, and done again only after its result was lost with a worker."""
    is_done: set[int] = set()
    for event in events:
        if event.kind == "done":
            assert event.task not in is_done, f"{event.task} is done twice"
            is_done.add(event.task)
        elif event.kind == "lost":
            is_done.discard(event.task)


def keys_without_ttl(url: str) -> list[str]:
    """Every key of ours that would stay for ever."""
    with redis.Redis.from_url(url, decode_responses=True) as server:
        return [key for key in server.scan_iter("dagnb*", count=1000) if server.ttl(key) < 0]


def kill_often(runs: int, redis_url: str, agent: int, summary: list[str]) -> None:
    """Many runs, one to three deaths each; nothing is left of any of them."""
    deaths, slowest = 0, 0.0
    for seed in range(runs):
        died, makespan_s = run_with_kills(seed, kills=1 + seed % 3)
        deaths, slowest = deaths + died, max(slowest, makespan_s)
    assert deaths >= runs // 2, "the faults must have fired"
    assert keys_without_ttl(redis_url) == []
    await_that(lambda: not session.wait(ask_agent("status"))["runs"], "no supervisor is left")
    summary.append(
        f"kills: {runs} runs, {deaths} workers killed, {runs} right results, slowest {slowest:.2f} s"
    )


def test_a_run_survives_the_death_of_any_worker_at_any_moment(
    redis_url: str, agent: int, summary: list[str]
) -> None:
    """Nine runs; scripts/soak does two hundred."""
    kill_often(9, redis_url, agent, summary)


@pytest.mark.soak
def test_two_hundred_runs_survive_the_deaths_of_their_workers(
    redis_url: str, agent: int, summary: list[str]
) -> None:
    """As above, for longer."""
    kill_often(200, redis_url, agent, summary)


def test_a_task_that_kills_its_worker_three_times_fails_with_the_cause(agent: int) -> None:
    """Blame is exact: the neighbours succeed, the poison task is charged with each death."""

    @task
    def poison(number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    run = dagnb.run(leaf(1), poison(2), workers=Processes(n=2), on_error="continue")
    with pytest.raises(dagnb.errors.TaskFailedError, match="poison-0"):
        run.result(60)
    errors = run.errors
    assert [error.task for error in errors] == ["poison-0"] * 3
    assert [error.attempt for error in errors] == [1, 2, 3]
    assert {error.signal for error in errors} == {signal.SIGKILL}
    assert run.status == {"done": 1, "failed": 1}


class Poison:
    """Kills whoever pickles it."""

    def __reduce__(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"


def test_a_result_that_kills_its_worker_while_it_is_pickled_is_to_blame_too(agent: int) -> None:
    @task
    def brew() -> Poison:
        return Poison()

    run = dagnb.run(brew(), workers=Processes(n=1))
    with pytest.raises(dagnb.errors.TaskFailedError, match="brew-0"):
        run.result(60)

    assert [error.attempt for error in run.errors] == [1, 2, 3]


def test_a_full_server_fails_the_task_with_the_reason_and_no_endless_repetition(
    agent: int, redis_url: str
) -> None:
    gate = Path(os.environ["DAGNB_HOME"]) / "gate"

    @task
    def wait_for_gate(path: str) -> str:
        while not Path(path).exists():
            time.sleep(0.01)
        return "x" * 1000

    run = dagnb.run(wait_for_gate(str(gate)), workers=Processes(n=1))
    await_that(lambda: run.status.get("running", 0) == 1, "the task runs")
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", "1mb")
        try:
            gate.touch()
            with pytest.raises(
                dagnb.errors.TaskFailedError, match="StorageFullError: the store is full"
            ):
                run.result(60)
        finally:
            server.config_set("maxmemory", "0")

    assert [error.attempt for error in run.errors] == [1]


def test_workers_have_the_environment_of_who_asked_for_the_run(
    agent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task
    def look() -> str | None:
        return os.environ.get("DAGNB_TEST_COLOUR")

    seen = []
    for colour in ("red", "blue"):
        monkeypatch.setenv("DAGNB_TEST_COLOUR", colour)
        seen.append(dagnb.run(look(), workers=Processes(n=1)).result(60))

    assert seen == ["red", "blue"]


def test_a_program_that_forks_keeps_its_connections(agent: int) -> None:
    """multiprocessing does so; the child must leave what it shares with its parent alone."""
    assert dagnb.run(leaf(1), workers=Processes(n=1)).result(60) == 1
    child = os.fork()
    if child == 0:
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)

    assert dagnb.run(leaf(2), workers=Processes(n=1)).result(20) == 2
