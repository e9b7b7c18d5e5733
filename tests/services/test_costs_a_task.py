"""What one short task costs, counted and not timed: round trips, commands, bytes and Python calls.

A chain, a fan-out and a tree go through the real client, an agent and two worker processes, on a
server of the test's own, which counts. Python calls are those of the main thread of the workers,
between the first and the last task of each: a module that tasks import sets the profile function,
and what an import changes stays in the worker.

The limits are what was measured last, and a tenth more. A change that makes a task cheaper lowers
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import redis
from dagnb_workers.launchers.process import Processes

from dagnb import session, task
from dagnb.graph.task import Node
from tests.conftest import own_server

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("few_modules")]

LIMIT_S = 100.0
N_TASKS = 1_000
TENTH_MORE = 1.1

COUNTER = """
import os
import sys

n_looks = n_calls = n_calls_at_first = 0


def count(frame, event, argument):
    global n_calls
    if event == "call":
        n_calls += 1


def look():
    global n_looks, n_calls_at_first
    n_looks += 1
    if n_looks == 1:
        n_calls_at_first = n_calls
    return {os.getpid(): (n_looks, n_calls - n_calls_at_first)}


sys.setprofile(count)
"""


@dataclass(frozen=True)
class Costs:
    """Averages a task; bytes are those of the server's sockets, calls those of Python functions."""

    round_trips: float
    commands: float
    bytes_to_server: float
    bytes_from_server: float
    python_calls: float


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    """URL of a server that no other test uses, so it counts for this one only."""
    with own_server() as url:
        yield url


@pytest.fixture
def server(
    agent: int, own_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """The client of that server, after a first run, with the module that counts Python calls."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "python_calls.py").write_text(COUNTER)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(session.STORE_VARIABLE, own_redis)
    looked(looked()).run(workers=Processes(n=2)).result(LIMIT_S)
    session.wait_for_pending(LIMIT_S)
    with redis.Redis.from_url(own_redis) as made:
        yield made


@task
def looked(*before: Any) -> dict[int, tuple[int, int]]:
    """The last look of each worker, by pid, as far as this task knows: (looks, Python calls)."""
    import python_calls  # see COUNTER

    last = python_calls.look()
    for looks in before:
        for pid, look in looks.items():
            last[pid] = max(look, last.get(pid, look))
    return last


def chain() -> Node[Any]:
    """0 - 1 - 2 - ... - 999"""
    node = looked()
    for _ in range(N_TASKS - 1):
        node = looked(node)
    return node


def fan() -> Node[Any]:
    """A source, 998 tasks that read it, and one that reads them."""
    source = looked()
    return looked(*[looked(source) for _ in range(N_TASKS - 2)])


def tree() -> Node[Any]:
    """512 sources, joined in pairs: 1,023 tasks."""
    level = [looked() for _ in range(512)]
    while len(level) > 1:
        level = [looked(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def counted(server: redis.Redis) -> list[float]:
    """Reads, commands (those of scripts included), bytes in, bytes out."""
    stats, commands = server.info("stats"), server.info("commandstats")
    n_commands = sum(numbers["calls"] for numbers in commands.values())
    return [
        stats["total_reads_processed"],
        n_commands,
        stats["total_net_input_bytes"],
        stats["total_net_output_bytes"],
    ]


def costs_of(node: Node[Any], n_tasks: int, server: redis.Redis) -> Costs:
    """From the submission until the history has recorded the run.

    While a client waits for a result it looks at the run once a second. Here it waits for the end
    alone, so that a slow machine counts as many bytes as a fast one.
    """
    before = counted(server)
    run = node.run(workers=Processes(n=2))
    session.wait(run._store.wait_end(run.id, LIMIT_S))
    looks = run.result(LIMIT_S)
    session.wait_for_pending(LIMIT_S)
    after = counted(server)

    # All looks but the first of each worker: nothing was counted before that one.
    n_calls = sum(calls for _, calls in looks.values())
    n_counted = sum(n_looks - 1 for n_looks, _ in looks.values())
    changes = [(b - a) / n_tasks for a, b in zip(before, after, strict=True)]
    return Costs(*changes, n_calls / n_counted)


# Measured on a busy machine: batches are cut by time, so a slow worker makes more trips (0.16 to
# 0.25 a task). Bytes from the server hold the spans twice: the client's record of the run and the
# agent's may both read them.
MEASURED = {
    "chain": (
        chain,
        N_TASKS,
        Costs(
            round_trips=0.2,
            commands=13,
            bytes_to_server=270,
            bytes_from_server=500,
            python_calls=245,
        ),
    ),
    "fan": (
        fan,
        N_TASKS,
        Costs(
            round_trips=0.3,
            commands=12.5,
            bytes_to_server=350,
            bytes_from_server=610,
            python_calls=281,
        ),
    ),
    "tree": (
        tree,
        1_023,
        Costs(
            round_trips=0.3,
            commands=13.5,
            bytes_to_server=295,
            bytes_from_server=465,
            python_calls=255,
        ),
    ),
}


@pytest.mark.parametrize("shape", MEASURED)
def test_a_short_task_costs_no_more_than_when_its_costs_were_last_measured(
    shape: str, server: redis.Redis, summary: list[str]
) -> None:
    build, n_tasks, measured = MEASURED[shape]

    costs = costs_of(build(), n_tasks, server)

    summary.append(f"costs a task: {shape}: {costs}")
    beyond = {}
    for field, cost, before in zip(fields(costs), astuple(costs), astuple(measured), strict=True):
        if cost > before * TENTH_MORE:
            beyond[field.name] = (cost, before)
    assert beyond == {}, "each as (now, when last measured)"


# By key: results with their addresses 109, records 88, spans 18, the description and moments 18,
# events 4; the rest is buffers and tables of the server.
PEAK_BYTES = 260
"""measured last, bytes a task"""


@task
def room(url: str, *before: Any) -> tuple[int, dict[str, float]]:
    """The memory that a server uses while this task runs, and that of each key, bytes."""
    with redis.Redis.from_url(url) as server:
        keys = {key.decode(): server.memory_usage(key, samples=0) for key in server.scan_iter()}
        return server.info("memory")["used_memory"], keys


def test_ten_thousand_short_tasks_take_no_more_room_at_the_peak_than_when_last_measured(
    server: redis.Redis, own_redis: str, summary: list[str]
) -> None:
    """A source, 9,998 tasks that read it, and one that reads them: all else is done by then."""
    before, keys_before = room(own_redis).run(workers=Processes(n=2)).result(LIMIT_S)
    session.wait_for_pending(LIMIT_S)
    source = nothing()
    node = room(own_redis, *[nothing(source) for _ in range(9_998)])

    peak, keys = node.run(workers=Processes(n=2)).result(LIMIT_S)

    by_key = {}
    for key in keys.keys() - keys_before.keys():
        by_key[key.rsplit(":", 1)[1]] = round(keys[key] / 10_000, 1)
    n_bytes = (peak - before) / 10_000
    largest = sorted(by_key.items(), key=lambda entry: -entry[1])[:8]
    summary.append(f"bytes a task at the peak: {n_bytes:.0f}, by key {dict(largest)}")
    assert n_bytes <= PEAK_BYTES * TENTH_MORE


@task
def nothing(before: None = None) -> None:
    """No work and no result."""
