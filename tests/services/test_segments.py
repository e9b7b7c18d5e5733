"""Large values of real runs lie in shared memory: what tasks see of it, and what deaths leave."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from dagnb_workers.agent.client import ask_agent, ask_running
from dagnb_workers.hosting.run_locks import RunRecord
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session, task
from dagnb.errors import (
    ArgumentChangedError,
    LaunchError,
    TaskFailedError,
    ValueUnreadableError,
)
from dagnb.graph.task import Node
from dagnb.handle import Run
from dagnb.storage import segments
from dagnb.storage.home import runtime_directory
from dagnb.storage.keys import content_key
from dagnb.storage.redis import RedisStore
from dagnb.testing.launcher_laws import Gate, waiting
from dagnb.trace.trace import Phase
from tests.services.processes import await_that, descendants, is_alive, supervisor_of

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(not segments.SHARED_MEMORY.is_dir(), reason="no shared memory here"),
]

LIMIT_S = 60.0

N = 100_000
"""numbers of a large array, 8 bytes each"""


@task
def numbers() -> Any:
    """A large array: 0, 1, 2, ..."""
    return np.arange(N)


@task
def grown(array: Any, by: int) -> Any:
    """Changes its input in place."""
    array += by
    return array


@task
def multiplied(array: Any, times: int) -> Any:
    """Makes a larger array."""
    return np.tile(array, times)


@task
def total(array: Any, *_: Any) -> int:
    """Changes its input, too, after it was read."""
    result = int(array.sum())
    array[:] = 0
    return result


SUM = N * (N - 1) // 2


def at(gate: Gate) -> Node[str]:
    return waiting(str(gate.came), str(gate.go))


def folder_of(run: str) -> Path:
    """The directory of a run's segments."""
    return segments._base(runtime_directory()) / run


def values_of(run: str) -> list[Path]:
    """The segments of a run."""
    folder = folder_of(run)
    return sorted(folder.glob("*-*")) if folder.exists() else []


def nothing_is_left(run: Run[Any]) -> None:
    await_that(lambda: not folder_of(run.id).exists(), "the segments are removed")


def n_events(run: Run[Any], kind: str) -> int:
    return sum(event.kind == kind for event in run.look().events)


def held_at(gate: Gate, workers: Processes) -> Run[int]:
    """A run whose first array is made, and whose reader waits for the gate.

    numbers ---> total
    at(gate) -->
    """
    run = dagnb.run(total(numbers(), at(gate)), workers=workers)
    gate.until_there()
    await_that(lambda: run.status.get("done", 0) == 1, "the array is made")
    return run


@pytest.mark.parametrize("workers", [Processes(n=1), Processes(n=2)], ids=["one", "two"])
def test_readers_change_their_arrays_and_none_sees_the_changes_of_another(
    agent: int, workers: Processes
) -> None:
    """numbers -> total three times, and -> grown by 1, by 2 -> total each"""
    array = numbers()
    direct = [total(array) for _ in range(3)]
    changed = [total(grown(array, by)) for by in (1, 2)]

    run = dagnb.run(direct + changed, workers=workers)

    assert run.result(LIMIT_S) == [SUM, SUM, SUM, SUM + N, SUM + 2 * N]
    record = RunRecord(runtime_directory(), run.id)
    await_that(lambda: not record.launch_file.exists(), "the supervisor has ended")
    assert not folder_of(run.id).exists()


def test_the_store_holds_pointers_while_the_values_lie_in_shared_memory(
    agent: int, gate: Gate, redis_url: str
) -> None:
    run = held_at(gate, Processes(n=2))

    with redis.Redis.from_url(redis_url) as server:
        chunks = list(server.scan_iter(f"dagnb:{{{run.id}}}:b:*"))
        stored = server.hgetall(f"dagnb:{{{run.id}}}:v")
    (value,) = values_of(run.id)
    assert (chunks, sorted(map(len, stored.values()))) == ([], [0, 84])  # type: ignore[union-attr]
    assert value.stat().st_size > 8 * N
    gate.open()
    assert run.result(LIMIT_S) == SUM
    nothing_is_left(run)


def test_results_come_from_the_store_when_the_segments_are_gone(agent: int) -> None:
    array = numbers()
    run = dagnb.run(array, grown(array, 1), workers=Processes(n=2))

    one, other = run.result(LIMIT_S)
    nothing_is_left(run)

    np.testing.assert_array_equal(one, np.arange(N))
    np.testing.assert_array_equal(dagnb.attach(run.id).result(LIMIT_S)[1], other)
    assert int(other.sum()) == SUM + N


@pytest.mark.parametrize("limit_mb", [0, 0.1])
def test_without_room_the_values_go_through_the_store(
    agent: int, gate: Gate, limit_mb: float
) -> None:
    run = held_at(gate, Processes(n=2, shared_memory_mb=limit_mb))

    assert values_of(run.id) == []
    assert folder_of(run.id).exists() == (limit_mb > 0)
    gate.open()
    assert run.result(LIMIT_S) == SUM


def test_a_value_whose_file_is_lost_is_computed_again(agent: int, gate: Gate) -> None:
    run = held_at(gate, Processes(n=2))
    (value,) = values_of(run.id)

    value.unlink()
    gate.open()

    assert run.result(LIMIT_S) == SUM
    lost = [event.task for event in run.look().events if event.kind == "lost"]
    names = run.description.names
    assert sorted(names[position] for position in lost) == ["numbers-0", "total-0"]
    nothing_is_left(run)


def test_a_pointer_that_was_changed_is_refused(agent: int, gate: Gate, redis_url: str) -> None:
    run = held_at(gate, Processes(n=2))
    key = f"dagnb:{{{run.id}}}:v"
    with redis.Redis.from_url(redis_url) as server:
        for field, value in server.hgetall(key).items():  # type: ignore[union-attr]
            if value:
                server.hset(key, field, value[:-1] + bytes([value[-1] ^ 1]))

    gate.open()

    with pytest.raises(TaskFailedError, match="SignatureError"):
        run.result(LIMIT_S)
    nothing_is_left(run)


@task
def held_to_the_memory_of_now(array: Any) -> str:
    """Lets its process map nothing more that is large: neither its input, which it has changed."""
    array[0] = 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGESIZE") + 64 * N - array.nbytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return "held"


def test_a_value_that_cannot_be_mapped_fails_its_reader_with_the_cure(agent: int) -> None:
    """The value is there: to compute it again would not help, and would go on for ever."""
    array = multiplied(numbers(), 100)
    held = held_to_the_memory_of_now.with_options(retries=1)(array)
    run = dagnb.run(total(array, held), workers=Processes(n=1))

    with pytest.raises(TaskFailedError, match=r"SharedMemoryError.*shared_memory_mb=0"):
        run.result(LIMIT_S)
    assert (n_events(run, "lost"), [error.task for error in run.errors]) == (0, ["total-0"])


# ---- results ----


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Receives the number of values that this process reads from the store, each time."""
    numbers: list[int] = []
    fetch = RedisStore.fetch

    async def counted(self: RedisStore, run: str, wanted: Any, **options: Any) -> Any:
        numbers.append(len(wanted))
        return await fetch(self, run, wanted, **options)

    monkeypatch.setattr(RedisStore, "fetch", counted)
    return numbers


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run[Any]], None]]:
    """Stops the supervisor of a run, so that its segments are there until the test is over."""
    pids = []

    def keep(run: Run[Any]) -> None:
        pids.append(supervisor_of(run.id))
        os.kill(pids[-1], signal.SIGSTOP)

    yield keep
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_the_client_maps_a_large_result_and_later_reads_it_from_the_store(
    agent: int, gate: Gate, fetched: list[int], kept: Callable[[Run[Any]], None]
) -> None:
    array = numbers()
    run = dagnb.run([array, grown(array, 1), at(gate)], workers=Processes(n=1))
    gate.until_there()
    kept(run)
    gate.open()

    one, other, _ = run.result(LIMIT_S)

    assert fetched == [1]  # what the gate returned
    assert Path("/proc/self/maps").read_text().count(str(folder_of(run.id))) == 2
    one += 5
    assert (int(one.sum()), int(other.sum())) == (SUM + 5 * N, SUM + N)
    assert [int(value.sum()) for value in run.result(LIMIT_S)[:2]] == [SUM, SUM + N]


def test_a_result_stays_when_its_segment_and_the_agent_are_gone(
    agent: int, fetched: list[int]
) -> None:
    run = numbers().run(workers=Processes(n=1))
    value = run.result(LIMIT_S)
    nothing_is_left(run)
    session.wait(ask_agent("leave", force=True))
    await_that(lambda: not is_alive(agent), "the agent left")
    fetched.clear()

    again = dagnb.attach(run.id).result(LIMIT_S)

    assert fetched == [1]
    np.testing.assert_array_equal(value, np.arange(N))
    np.testing.assert_array_equal(again, np.arange(N))


def test_a_result_of_a_worker_killed_before_its_commit_is_that_of_the_next_attempt(
    agent: int, tmp_path: Path
) -> None:
    run = killed_while_writing(str(tmp_path / "mark")).run(workers=Processes(n=1))

    np.testing.assert_array_equal(run.result(LIMIT_S), np.arange(N))
    nothing_is_left(run)


@pytest.mark.parametrize("limit_mb", [0, 0.1])
def test_results_without_room_in_shared_memory_come_from_the_store(
    agent: int, gate: Gate, fetched: list[int], limit_mb: float
) -> None:
    workers = Processes(n=1, shared_memory_mb=limit_mb)
    run = dagnb.run([numbers(), at(gate)], workers=workers)
    gate.until_there()
    gate.open()

    value, _ = run.result(LIMIT_S)

    assert fetched == [2]
    np.testing.assert_array_equal(value, np.arange(N))


@task
def unreadable() -> Any:
    """Two arrays and an object that only workers can read."""
    return [np.arange(N), Unreadable(), np.arange(N) + 1]


class Unreadable:
    """Raises when the client reads it."""

    def __reduce__(self) -> Any:
        return read_by, (os.getpid(),)


def read_by(pid: int) -> int:
    """Fails in another process than the one that has pickled."""
    if os.getpid() != pid:
        raise ValueError("not here")
    return pid


def test_a_mapped_result_that_cannot_be_unpickled_is_offered_whole(
    agent: int, gate: Gate, fetched: list[int], kept: Callable[[Run[Any]], None]
) -> None:
    run = dagnb.run([unreadable(), at(gate)], workers=Processes(n=1))
    gate.until_there()
    kept(run)
    gate.open()

    with pytest.raises(ValueUnreadableError) as caught:
        run.result(LIMIT_S)

    _, buffers = caught.value.pickles["unreadable-0"]
    assert fetched == [1]
    assert buffers == (np.arange(N).tobytes(), (np.arange(N) + 1).tobytes())


# ---- arrays that the client gives to tasks ----


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
    arrays = Processes(n=1).shared_arrays("NEVER")
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


# ---- deaths ----


@task
def killed_while_writing(mark: str) -> Any:
    """The first attempt ends its worker when half of the value lies in shared memory."""
    if not Path(mark).exists():
        Path(mark).touch()
        write = os.pwrite

        def half(fd: int, data: Any, offset: int) -> int:
            if len(data) < 1000:
                return write(fd, data, offset)
            write(fd, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        os.pwrite = half
    return np.arange(N)


def test_a_worker_killed_while_it_writes_leaves_nothing_and_the_value_is_made_again(
    agent: int, tmp_path: Path
) -> None:
    array = killed_while_writing(str(tmp_path / "mark"))
    # With retries, it reads what is stored: nothing is kept for it.
    reader = total.with_options(retries=1)
    run = dagnb.run(reader(array), workers=Processes(n=1))

    assert run.result(LIMIT_S) == SUM
    assert [(error.task, error.signal) for error in run.errors] == [
        ("killed_while_writing-0", signal.SIGKILL)
    ]
    nothing_is_left(run)


def test_a_killed_supervisor_is_succeeded_by_one_that_has_the_values(
    agent: int, gate: Gate
) -> None:
    run = held_at(gate, Processes(n=2))
    before = values_of(run.id)

    os.kill(supervisor_of(run.id), signal.SIGKILL)
    gate.until_there()
    gate.open()

    assert run.result(LIMIT_S) == SUM
    assert (len(before), n_events(run, "lost")) == (1, 0)
    nothing_is_left(run)


def kill_all() -> None:
    """Kill the agent and everything below it. They are stopped first, so that none sees another
    one's end.
    """
    pid = int(session.wait(ask_running("ping"))["pid"])
    victims = [pid, *descendants(pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for victim in victims:
            os.kill(victim, number)
    await_that(lambda: not any(map(is_alive, victims)), "all are dead")


def test_a_run_whose_processes_were_all_killed_goes_on_with_its_values(
    agent: int, gate: Gate
) -> None:
    run = held_at(gate, Processes(n=2))
    kill_all()
    (value,) = values_of(run.id)
    gate.open()

    assert run.result(LIMIT_S) == SUM
    assert n_events(run, "lost") == 0
    nothing_is_left(run)
    assert not value.exists()


def test_the_next_agent_removes_what_runs_without_a_record_have_left(
    agent: int, gate: Gate
) -> None:
    run = held_at(gate, Processes(n=2))
    kill_all()
    assert len(values_of(run.id)) == 1
    for path in runtime_directory().glob("run-*"):
        path.unlink()

    session.wait(ask_agent("ping"))

    nothing_is_left(run)


def test_a_run_that_is_stopped_or_forgotten_leaves_no_values(agent: int, gate: Gate) -> None:
    stopped = held_at(gate, Processes(n=2))
    stopped.kill()
    nothing_is_left(stopped)

    forgotten = held_at(gate, Processes(n=2))
    forgotten.forget()
    nothing_is_left(forgotten)


def test_an_agent_that_leaves_removes_its_folder(agent: int) -> None:
    assert dagnb.run(total(numbers()), workers=Processes(n=1)).result(LIMIT_S) == SUM
    base = segments._base(runtime_directory())
    assert base.exists()

    session.wait(ask_agent("leave", force=True))

    await_that(lambda: not is_alive(agent), "the agent left")
    assert not base.exists()


def test_an_agent_whose_directory_is_removed_removes_its_segments(agent: int, gate: Gate) -> None:
    run = held_at(gate, Processes(n=2))
    folder = folder_of(run.id)

    shutil.rmtree(runtime_directory())

    await_that(lambda: not is_alive(agent), "the agent left")
    assert not folder.parent.exists()
