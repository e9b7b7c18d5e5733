"""Large values of real runs lie in shared memory: what tasks see of it, and what deaths leave."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from dagnb_workers.agent.client import ask_agent
from dagnb_workers.hosting.run_locks import RunRecord
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import session, task
from dagnb.errors import (
    TaskFailedError,
    ValueUnreadableError,
)
from dagnb.handle import Run
from dagnb.storage import segments
from dagnb.storage.home import runtime_directory
from dagnb.storage.redis import RedisStore
from dagnb.testing.launcher_laws import Gate
from tests.services.large_values import (
    LIMIT_S,
    SUM,
    N,
    at,
    folder_of,
    held_at,
    kill_all,
    multiplied,
    n_events,
    nothing_is_left,
    numbers,
    total,
    values_of,
)
from tests.services.processes import await_that, is_alive, supervisor_of

pytestmark = [
    pytest.mark.redis,
    pytest.mark.usefixtures("shared_memory"),
]


@task
def grown(array: Any, by: int) -> Any:
    """Changes its input in place."""
    array += by
    return array


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
        stored: dict[bytes, bytes] = server.hgetall(f"dagnb:{{{run.id}}}:v")
    (value,) = values_of(run.id)
    # The empty field, and a result behind its address.
    lengths = [len(text.partition(b"\n")[2]) for text in stored.values()]
    assert (chunks, sorted(lengths)) == ([], [0, 84])
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
