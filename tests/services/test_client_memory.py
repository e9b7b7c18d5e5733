"""Arrays that the client gives to tasks of real runs, in shared memory: who has them, and deaths."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import task
from dagnb.errors import (
    ArgumentChangedError,
    LaunchError,
    TaskFailedError,
)
from dagnb.handle import Run
from dagnb.storage import segments
from dagnb.storage.home import runtime_directory
from dagnb.storage.keys import content_key
from dagnb.testing.launcher_laws import Gate
from dagnb.trace.trace import Phase
from tests.services.large_values import (
    LIMIT_S,
    SUM,
    N,
    at,
    folder_of,
    kill_all,
    multiplied,
    nothing_is_left,
    total,
)
from tests.services.processes import await_that

pytestmark = [
    pytest.mark.redis,
    pytest.mark.usefixtures("shared_memory"),
]


@task
def both(one: Any, other: Any, *_: Any) -> tuple[int, int]:
    """Sums after the first array was changed in place."""
    one += 1
    return int(one.sum()), int(other.sum())


@pytest.mark.parametrize("limit_mb", [None, 0], ids=["shared", "stored"])
def test_an_array_of_the_client_reaches_every_task_unchanged(
    agent: int, limit_mb: float | None
) -> None:
    """Tasks change it in place, also in one call that takes two arrays with equal bytes."""
    array = np.arange(N)
    calls = [total(array) for _ in range(4)]
    pairs = [both(array, array.copy()), both(array, array)]

    run = dagnb.run(calls + pairs, workers=Processes(n=2, shared_memory_mb=limit_mb))

    expected = [SUM] * 4 + [(SUM + N, SUM), (SUM + N, SUM + N)]
    assert run.result(LIMIT_S) == expected
    np.testing.assert_array_equal(array, np.arange(N))
    nothing_is_left(run)


def downloaded(run: Run[Any]) -> int:
    """Bytes of functions and arguments that workers read from the store."""
    spans = [span for span in run.trace.spans if span.phase is Phase.PROGRAM]
    return sum(span.n_bytes for span in spans if span.task >= 0)


def test_workers_map_an_array_of_the_client_and_download_nothing_of_it(agent: int) -> None:
    run = dagnb.run([total(np.arange(N)) for _ in range(4)], workers=Processes(n=2))

    assert run.result(LIMIT_S) == [SUM] * 4
    assert downloaded(run) < 8 * N


@task
def faults(array: Any) -> int:
    """The number of page faults while the array is added up."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array.sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("is_of_client", [True, False], ids=["array", "value"])
def test_a_worker_looks_the_pages_of_an_array_up_again_only_after_a_task_that_changed_it(
    agent: int, is_of_client: bool
) -> None:
    array = np.tile(np.arange(N), 10) if is_of_client else multiplied(np.arange(N), 10)
    calls = [faults(array), faults(array), total(array), faults(array), faults(array)]

    first, second, _, after_change, last = dagnb.run(calls, workers=Processes(n=1)).result(LIMIT_S)

    assert min(first, after_change) > 2 * max(second, last)


def n_stored(redis_url: str, run: str) -> int:
    """The number of arrays of N numbers among the contents that a run has in the store."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        hashes: Any = server.smembers(f"dagnb:{{{run}}}:use")
        return sum(server.hget(content_key("dagnb", name), "n") == str(8 * N) for name in hashes)


@pytest.mark.parametrize(("limit_mb", "n_shared"), [(None, 2), (1.0, 1), (0, 0)])
def test_an_array_of_the_client_is_written_once_for_all_tasks_and_to_the_store_only_without_room(
    agent: int, gate: Gate, redis_url: str, limit_mb: float | None, n_shared: int
) -> None:
    """Twenty calls: ten take an array or one with equal bytes, ten another array."""
    array, other = np.arange(N), np.arange(N) + 1
    calls = []
    for _ in range(5):
        calls += [total(array), total(array.copy()), total(other), total(other[:])]

    run = dagnb.run([*calls, at(gate)], workers=Processes(n=1, shared_memory_mb=limit_mb))
    gate.until_there()

    files = list(folder_of(run.id).glob("arrays"))
    # Arrays begin at pages, so the file may be a little larger than they are.
    assert sum(file.stat().st_size for file in files) // (8 * N) == n_shared
    assert n_stored(redis_url, run.id) == 2 - n_shared
    gate.open()
    assert run.result(LIMIT_S)[:-1] == [SUM, SUM, SUM + N, SUM + N] * 5
    nothing_is_left(run)


def test_an_array_that_was_changed_after_the_call_is_refused_and_nothing_is_left(
    agent: int,
) -> None:
    array = np.arange(N)
    node = total(array)
    array[N // 2] += 1
    before = {line.run for line in dagnb.runs()}

    with pytest.raises(ArgumentChangedError, match="'array'"):
        dagnb.run([total(np.arange(N)), node], workers=Processes(n=1))

    assert list(segments._base(runtime_directory()).iterdir()) == []
    assert {line.run for line in dagnb.runs()} == before


def test_an_array_of_the_client_whose_file_is_removed_stays_with_its_run(
    agent: int, gate: Gate
) -> None:
    run = dagnb.run(total(np.arange(N), at(gate)), workers=Processes(n=1))
    gate.until_there()

    shutil.rmtree(folder_of(run.id))
    gate.open()

    assert run.result(LIMIT_S) == SUM
    assert downloaded(run) < 8 * N


def test_an_array_of_the_client_that_is_lost_with_all_processes_fails_its_reader_with_the_cure(
    agent: int, gate: Gate
) -> None:
    run = dagnb.run(total(np.arange(N), at(gate)), workers=Processes(n=1))
    gate.until_there()

    kill_all()
    shutil.rmtree(folder_of(run.id))
    gate.open()

    with pytest.raises(TaskFailedError, match=r"BlobMissingError.*array 0 in shared memory.*again"):
        run.result(LIMIT_S)
    nothing_is_left(run)


def test_a_run_goes_on_with_the_arrays_of_a_client_that_died(
    agent: int, gate: Gate, tmp_path: Path
) -> None:
    """The client is killed right after its launch, and its workers and their hosts after that."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    with subprocess.Popen(
        [sys.executable, str(script), str(gate.came), str(gate.go)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        run: Run[int] = dagnb.attach(process.stdout.readline().decode().strip())
        process.kill()
    gate.until_there()
    kill_all()
    gate.open()

    assert run.result(LIMIT_S) == SUM
    nothing_is_left(run)


CLIENT = """
import sys
import numpy as np
import dagnb
from dagnb.testing.launcher_laws import waiting
from dagnb_workers.launchers.process import Processes

@dagnb.task
def total(array, there):
    return int(array.sum())

node = total(np.arange(100_000), waiting(*sys.argv[1:]))
run = dagnb.run(node, workers=Processes(n=1))
print(run.id, flush=True)
run.result()
"""
"""prints its run, then waits for it"""


def test_a_client_killed_before_its_launch_leaves_nothing_for_longer_than_a_launch_takes(
    agent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = Processes(n=1).shared_arrays("NEVER", "")
    assert arrays.write(np.arange(N).data.cast("B"))
    folder = folder_of("NEVER")
    long_ago = time.time() - segments.LAUNCH_S - 1

    os.utime(folder / "launching", (long_ago, long_ago))

    await_that(lambda: not folder.exists(), "the agent removes the arrays")


def test_a_launch_that_fails_leaves_no_segments(
    agent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise LaunchError("not today")

    monkeypatch.setattr("dagnb_workers.launchers.process.ask_agent", refused)

    with pytest.raises(LaunchError, match="not today"):
        dagnb.run(total(np.arange(N)), workers=Processes(n=1))

    base = segments._base(runtime_directory())
    assert list(base.iterdir()) == []
