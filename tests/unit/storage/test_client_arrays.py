"""Arrays of the client in shared memory: how they are written, mapped, lost and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dagnb.storage import segments
from dagnb.storage.segments import SEGMENT_BYTES, ArraySegment, Directory, Segments
from tests.unit.storage.sizes import LIMIT, big


@pytest.fixture
def client(shared: Path, tmp_path: Path) -> Iterator[ArraySegment]:
    """The arrays of a client that launches the run next."""
    made = ArraySegment(tmp_path, "RUN", LIMIT)
    yield made
    made.remove()


@pytest.fixture
def held(shared: Path, tmp_path: Path) -> Iterator[Callable[[], Segments]]:
    """Takes the run over as its supervisor does, which holds the arrays open for its workers."""
    fds = []

    def taken() -> Segments:
        directory = segments.make(tmp_path, "RUN", LIMIT)
        fds.append(segments.open_arrays(Directory(directory)))
        return Segments(Directory(directory), arrays_fd=fds[-1])

    yield taken
    for fd in fds:
        os.close(fd)


def memory(n_bytes: int = SEGMENT_BYTES, first: int = 0) -> memoryview:
    return (big(n_bytes) + first).data.cast("B")


def test_workers_map_each_array_of_the_client_and_change_only_their_own(
    client: ArraySegment, held: Callable[[], Segments], tmp_path: Path
) -> None:
    odd = memoryview(b"odd" * SEGMENT_BYTES)
    names = [client.write(memory(first=1)), client.write(odd), client.write(memory(first=2))]
    assert segments.runs_with_segments(tmp_path) == []  # it may still launch the run
    places = client.close()

    worker = held()

    assert segments.runs_with_segments(tmp_path) == ["RUN"]
    one, again = worker.map_array(places[names[0]]), worker.map_array(places[names[0]])
    assert one is not None
    assert again is not None
    one[:] = bytes(len(one))
    assert bytes(again) == bytes(memory(first=1))
    assert [worker.map_array(places[name]) for name in names[1:]] == [odd, memory(first=2)]
    assert client.n_bytes == 5 * SEGMENT_BYTES


def test_a_small_array_and_one_without_room_belong_to_the_store(client: ArraySegment) -> None:
    assert client.write(memory()[1:]) == ""
    assert client.close() == {}

    sizes = [LIMIT // 2, LIMIT, LIMIT // 2, SEGMENT_BYTES]
    names = [client.write(memory(n_bytes)) for n_bytes in sizes]

    assert [bool(name) for name in names] == [True, False, True, False]
    assert sorted(client.close()) == [names[0], names[2]]


@pytest.mark.parametrize("limit_bytes", [0, LIMIT])
def test_without_shared_memory_all_arrays_belong_to_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_bytes: int
) -> None:
    monkeypatch.setattr(segments, "SHARED_MEMORY", tmp_path / "none")
    arrays = ArraySegment(tmp_path, "RUN", limit_bytes)

    assert (arrays.write(memory()), arrays.close()) == ("", {})
    assert segments.open_arrays(None) == -1


def test_a_full_file_system_refuses_an_array_and_keeps_the_others(
    small_memory: Path, client: ArraySegment, held: Callable[[], Segments]
) -> None:
    names = [client.write(memory(n * SEGMENT_BYTES, first=n)) for n in (1, 4, 2)]
    places = client.close()

    worker = held()

    assert [bool(name) for name in names] == [True, False, True]
    assert worker.map_array(places[names[0]]) == memory(first=1)
    assert worker.map_array(places[names[2]]) == memory(2 * SEGMENT_BYTES, first=2)


def test_arrays_stay_for_the_workers_when_their_file_is_removed(
    client: ArraySegment, held: Callable[[], Segments], shared: Path
) -> None:
    name = client.write(memory())
    places = client.close()
    worker = held()

    shutil.rmtree(next(shared.iterdir()))

    assert worker.map_array(places[name]) == memory()


def test_an_array_whose_file_was_written_to_again_is_gone(
    client: ArraySegment, held: Callable[[], Segments]
) -> None:
    name = client.write(memory())
    places = client.close()
    worker = held()
    os.utime(worker._arrays_fd, ns=(1, 1))

    assert worker.map_array(places[name]) is None
    assert Segments(None).map_array(places[name]) is None


def test_arrays_of_a_run_that_is_not_launched_are_removed(
    client: ArraySegment, shared: Path
) -> None:
    client.write(memory())
    assert len(list(shared.glob("*/RUN/arrays"))) == 1

    client.remove()

    assert list(shared.glob("*/RUN")) == []
