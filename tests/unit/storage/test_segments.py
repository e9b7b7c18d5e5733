"""Values in shared memory: what readers get, what a writer may take, what is refused and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import resource
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagnb.errors import SharedMemoryError, SignatureError
from dagnb.graph.payload import Signer, decode_value, encode_value
from dagnb.protocol.messages import Address
from dagnb.storage import mappings, segments
from dagnb.storage.segments import SEGMENT_BYTES, Directory, Pointer, Segments
from tests.conftest import missing_service
from tests.unit.storage.sizes import LIMIT, big

PAGE = os.sysconf("SC_PAGESIZE")


class Block:
    """A large buffer that travels out of band, as arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Block], tuple[pickle.PickleBuffer]]:
        return Block, (pickle.PickleBuffer(self.data),)


def write(directory: str, value: object, token: str = "t") -> Pointer | None:
    """Write a value as the result of task 0."""
    packed = Segments(Directory(directory)).write(0, token, encode_value(value, "f-0"))
    return None if packed is None else Pointer.unpack(packed)


def read(directory: str, pointer: Pointer | None, token: str = "t") -> Any:
    """Returns the value as a reader gets it."""
    assert pointer is not None
    mapped = Segments(Directory(directory)).map(0, token, pointer)
    assert mapped is not None
    assert len(mapped) == pointer.n_bytes
    return mapped.value()


# ---- what readers get ----


@pytest.mark.parametrize(
    "value",
    [
        big(),
        {"odd": np.arange(SEGMENT_BYTES + 3, dtype=np.int8), "after": np.arange(40_000.0)},
        [np.zeros(0), big(), np.asfortranarray(np.ones((300, 200)))],
        [np.full(n, n) for n in range(500)],
    ],
    ids=["array", "odd sizes", "empty", "many"],
)
def test_arrays_come_back_equal_writable_and_aligned(directory: str, value: Any) -> None:
    back = read(directory, write(directory, value))

    def arrays(value: Any) -> list[np.ndarray[Any, Any]]:
        if isinstance(value, dict):
            return list(value.values())
        return value if isinstance(value, list) else [value]

    assert type(back) is type(value)
    for ours, theirs in zip(arrays(back), arrays(value), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert (ours.dtype, ours.flags.f_contiguous) == (theirs.dtype, theirs.flags.f_contiguous)
        assert ours.flags.writeable
        assert ours.flags.aligned
        assert ours.size == 0 or ours.ctypes.data % segments.ALIGNMENT == 0


def test_a_change_is_seen_by_its_reader_alone(directory: str) -> None:
    pointer = write(directory, big())
    one, other = read(directory, pointer), read(directory, pointer)

    one += 1
    one[0] = 99

    np.testing.assert_array_equal(other, big())
    np.testing.assert_array_equal(read(directory, pointer), big())
    assert (one[0], one[1]) == (99, 2)


def test_a_value_without_buffers_comes_back(directory: str) -> None:
    value = [list(range(SEGMENT_BYTES)), b"x" * SEGMENT_BYTES, "text"]

    assert read(directory, write(directory, value)) == value


def test_a_buffer_that_was_readonly_is_readonly_again(directory: str) -> None:
    frozen, free = b"f" * SEGMENT_BYTES, bytearray(b"w" * SEGMENT_BYTES)

    back = read(directory, write(directory, (Block(frozen), Block(free), frozen)))

    assert (memoryview(back[0].data).readonly, memoryview(back[1].data).readonly) == (True, False)
    assert (bytes(back[0].data), bytes(back[1].data), back[2]) == (frozen, bytes(free), frozen)


def test_a_value_stays_readable_when_its_segment_is_removed(directory: str, tmp_path: Path) -> None:
    back = read(directory, write(directory, big()))

    segments.remove(tmp_path, "RUN")

    np.testing.assert_array_equal(back, big())


def test_the_mapping_ends_with_the_last_array_that_uses_it(directory: str) -> None:
    def n_mappings() -> int:
        return Path("/proc/self/maps").read_text().count(f"{directory}/0-t")

    first, second = read(directory, write(directory, [big(), big()]))
    assert n_mappings() == 1
    del first
    assert n_mappings() == 1
    del second
    assert n_mappings() == 0


# ---- mappings that are used again ----


def n_mapped(directory: str) -> int:
    return Path("/proc/self/maps").read_text().count(f"{directory}/0-")


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.ctypes.data)


def n_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Reader:
    """A worker: it reads a value for a task, and tidies when the task is over."""

    def __init__(self, directory: str) -> None:
        self.segments = Segments(Directory(directory))

    def read(self, pointer: Pointer | None, token: str = "t") -> Any:
        assert pointer is not None
        mapped = self.segments.map(0, token, pointer)
        assert mapped is not None
        return mapped.value()


@pytest.fixture
def real_directory(tmp_path: Path) -> Iterator[str]:
    """The directory of a run in shared memory itself, whose pages differ from those of disks."""
    if not segments.SHARED_MEMORY.is_dir() or not Path("/proc/self/pagemap").exists():
        missing_service("this system has no /dev/shm or no /proc/self/pagemap: Linux has both")
    yield segments.make(tmp_path, "RUN", LIMIT)
    segments.remove_all(tmp_path)


def test_a_worker_looks_the_pages_of_a_value_up_once_for_all_its_tasks(real_directory: str) -> None:
    pointer = write(real_directory, big(LIMIT // 2))
    total = big(LIMIT // 2).sum()
    reader = Reader(real_directory)

    faults = []
    for _ in range(4):
        before = n_faults()
        assert reader.read(pointer).sum() == total
        faults.append(n_faults() - before)
        reader.segments.tidy()

    # At the first read of a page the kernel looks up some pages around it, too, usually 15.
    assert n_mapped(real_directory) == 1
    assert max(faults[1:]) < faults[0] / 2


@pytest.mark.parametrize("position", [0, 17, -1])
def test_memory_that_a_task_has_changed_is_not_used_again_and_freed(
    real_directory: str, position: int
) -> None:
    pointer = write(real_directory, big())
    reader = Reader(real_directory)
    array = reader.read(pointer)
    array[position] = -1

    del array
    reader.segments.tidy()

    assert n_mapped(real_directory) == 0
    np.testing.assert_array_equal(reader.read(pointer), big())


def test_memory_that_a_task_has_kept_is_not_used_again(real_directory: str) -> None:
    """A thread of the task, which goes on, may write to it at any moment."""
    pointer = write(real_directory, {"first": big(), "second": big()})
    reader = Reader(real_directory)
    kept = reader.read(pointer)["second"][5:]

    reader.segments.tidy()
    array = reader.read(pointer)["second"]
    kept[0] = -1

    np.testing.assert_array_equal(array, big())
    del kept, array
    reader.segments.tidy()
    assert n_mapped(real_directory) == 1


def test_tasks_at_once_have_memory_of_their_own(real_directory: str) -> None:
    pointer = write(real_directory, big())
    reader = Reader(real_directory)
    reader.read(pointer)
    reader.segments.tidy()

    one, other = reader.read(pointer), reader.read(pointer)

    one[0] = -1
    assert other[0] == 0
    assert n_mapped(real_directory) == 2


def test_memory_is_not_used_again_where_the_kernel_does_not_say_what_was_written(
    real_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = write(real_directory, big())
    reader = Reader(real_directory)
    reader.read(pointer)
    monkeypatch.setattr(mappings, "_PAGEMAP", Path(real_directory, "none"))

    reader.segments.tidy()

    assert n_mapped(real_directory) == 0


def test_a_worker_keeps_the_last_mappings_up_to_a_limit(
    real_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointers = [write(real_directory, big(), f"t{number}") for number in range(4)]
    monkeypatch.setattr(mappings, "KEPT_BYTES", 3 * SEGMENT_BYTES)
    reader = Reader(real_directory)

    for number, pointer in enumerate(pointers):
        reader.read(pointer, f"t{number}")
        reader.segments.tidy()

    kept = [number for number in range(4) if f"0-t{number}" in Path("/proc/self/maps").read_text()]
    assert kept == [2, 3]  # each has a header, so three are too large


def test_kept_mappings_give_way_to_a_new_one_when_the_process_may_map_no_more(
    real_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointers = [write(real_directory, big(), token) for token in ("t", "u")]
    reader = Reader(real_directory)
    reader.read(pointers[0])
    reader.segments.tidy()
    made = mappings._Mapping

    def limited(*arguments: int) -> mappings._Mapping:
        if n_mapped(real_directory):
            raise OSError(errno.ENOMEM, "no more")
        return made(*arguments)

    monkeypatch.setattr(mappings, "_Mapping", limited)

    array = reader.read(pointers[1], "u")
    np.testing.assert_array_equal(array, big())
    with pytest.raises(SharedMemoryError, match="no more"):
        reader.read(pointers[0])


# ---- what goes to segments ----


def test_small_values_and_runs_without_segments_take_none(directory: str) -> None:
    small = encode_value(b"x" * (SEGMENT_BYTES - 100), "f-0")
    large = encode_value(b"x" * SEGMENT_BYTES, "f-0")

    assert [Segments(Directory(directory)).takes(parts) for parts in (small, large)] == [
        False,
        True,
    ]
    assert not Segments(None).takes(large)
    assert Segments(None).write(0, "t", large) is None


def test_a_pointer_is_no_value_and_a_value_no_pointer(directory: str) -> None:
    pointer = write(directory, big())
    assert pointer is not None
    values = (b"".join(encode_value("x" * n, "f-0")) for n in range(80))

    assert [Pointer.unpack(value) for value in values] == [None] * 80
    assert Pointer.unpack(pointer.pack()) == pointer


# ---- room ----


def test_a_run_takes_no_more_than_its_limit_from_all_its_workers(directory: str) -> None:
    quarter = big(LIMIT // 4)

    taken = [write(directory, quarter, f"t{number}") is not None for number in range(4)]

    # Header and pickle come on top, so the fourth does not fit.
    assert taken == [True, True, True, False]
    assert write(directory, big(LIMIT // 8)) is not None
    assert not Path(directory, "0-t3").exists()


def test_copies_leave_half_of_the_room_to_values_that_are_nowhere_else(directory: str) -> None:
    parts = encode_value(big(LIMIT // 3), "f-0")

    copies = [Segments(Directory(directory)).write(0, token, parts, is_copy=True) for token in "ab"]

    assert [copy is not None for copy in copies] == [True, False]
    assert write(directory, big(LIMIT // 3), "value") is not None


def test_writers_at_once_take_no_more_than_the_limit(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads the count and waits for the other there, which comes only if nothing keeps it."""
    count = segments._ROOM
    together = threading.Barrier(2)

    class Meeting:
        size, pack = count.size, count.pack

        def unpack(self, data: bytes) -> Any:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.1)
            return count.unpack(data)

    monkeypatch.setattr(segments, "_ROOM", Meeting())
    taken: list[bool] = []

    def writer(number: int) -> None:
        taken.append(write(directory, big(LIMIT // 10 * 6), f"t{number}") is not None)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == [False, True]


def test_the_next_supervisor_of_a_run_keeps_its_values_and_its_count(
    directory: str, tmp_path: Path
) -> None:
    pointer = write(directory, big(LIMIT - SEGMENT_BYTES))

    assert segments.make(tmp_path, "RUN", LIMIT) == directory

    np.testing.assert_array_equal(read(directory, pointer), big(LIMIT - SEGMENT_BYTES))
    assert write(directory, big(2 * SEGMENT_BYTES), "next") is None


def test_a_run_that_is_over_takes_no_more_values(directory: str, tmp_path: Path) -> None:
    segments.remove(tmp_path, "RUN")

    assert write(directory, big()) is None
    assert not Path(directory).exists()


def test_a_full_file_system_refuses_a_value_whole_and_gives_its_room_back(
    small_memory: Path, tmp_path: Path
) -> None:
    directory = segments.make(tmp_path, "RUN", LIMIT)
    pointer = write(directory, big(SEGMENT_BYTES))

    assert write(directory, big(4 * SEGMENT_BYTES), "too large") is None

    assert sorted(os.listdir(directory)) == ["0-t", "room"]
    np.testing.assert_array_equal(read(directory, pointer), big(SEGMENT_BYTES))
    assert write(directory, big(SEGMENT_BYTES), "fits") is not None
    # The memory of the file that did not fit is free again, and so is its part of the limit.
    limit, taken = segments._ROOM.unpack(Path(directory, "room").read_bytes())
    assert (limit, taken < 3 * SEGMENT_BYTES) == (LIMIT, True)
    assert segments.usual_limit() == os.statvfs(small_memory).f_bavail * PAGE // 2


def test_without_shared_memory_there_are_no_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SHARED_MEMORY", tmp_path / "none")

    assert (segments.usual_limit(), segments.make(tmp_path, "RUN", LIMIT)) == (0, "")
    assert segments.runs_with_segments(tmp_path) == []
    segments.remove(tmp_path, "RUN")
    segments.remove_all(tmp_path)
    assert not (tmp_path / "none").exists()


# ---- whose directory ----


def test_directories_and_files_are_the_users_alone(directory: str) -> None:
    write(directory, big())

    modes = [Path(directory).parent, Path(directory), Path(directory, "0-t")]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in modes] == ["0o700", "0o700", "0o600"]


def test_a_directory_that_others_can_write_to_is_not_used(
    directory: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(directory).parent.chmod(0o777)

    assert segments.make(tmp_path, "OTHER", LIMIT) == ""
    assert "large values of run OTHER go through the store" in caplog.text


def test_each_agent_has_runs_of_its_own(shared: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for runtime, run in ((one, "A"), (one, "B"), (other, "C")):
        segments.make(runtime, run, LIMIT)

    segments.remove(one, "A")
    assert (segments.runs_with_segments(one), segments.runs_with_segments(other)) == (["B"], ["C"])
    segments.remove_all(one)
    assert (segments.runs_with_segments(one), len(os.listdir(shared))) == ([], 1)


def test_segments_of_a_client_are_no_leftovers_while_it_may_still_launch_their_run(
    shared: Path, tmp_path: Path
) -> None:
    made = segments.make(tmp_path, "RUN", LIMIT, is_launched=False)
    assert segments.runs_with_segments(tmp_path) == []

    long_ago = time.time() - segments.LAUNCH_S - 1
    os.utime(Path(made, "launching"), (long_ago, long_ago))

    assert segments.runs_with_segments(tmp_path) == ["RUN"]


# ---- results ----


@pytest.fixture
def result(directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """The address of the result of task 0, a list with an array, which lies in a segment."""
    monkeypatch.setattr(segments, "runtime_path", lambda: tmp_path)
    value = [big(), "text"]
    write(directory, value)
    sealed = Signer(b"k" * 32).seal("value", *encode_value(value, "f-0"))
    return Address("t", len(sealed), 1)


def readable(result: Address, run: str = "RUN") -> bool:
    return 0 in segments.results(run, [(0, result)])


def test_a_client_here_reads_a_result_as_memory_of_its_own(result: Address) -> None:
    one, other = (segments.results("RUN", [(0, result)])[0] for _ in range(2))

    array, text = decode_value(one, align=segments.ALIGNMENT)
    array += 1

    np.testing.assert_array_equal(array, big() + 1)
    assert text == "text"
    np.testing.assert_array_equal(decode_value(other, align=segments.ALIGNMENT)[0], big())


def test_a_result_is_read_only_by_its_token_and_size(result: Address, directory: str) -> None:
    write(directory, "x" * 2 * SEGMENT_BYTES, "other")

    assert readable(result)
    for field, other in (("token", "other"), ("token", "none"), ("n_bytes", result.n_bytes + 1)):
        assert not readable(replace(result, **{field: other}))
    assert not readable(replace(result, n_bytes=SEGMENT_BYTES - 1))
    assert not readable(result, run="OTHER")


@pytest.mark.parametrize(
    ("run", "token"), [("..", "t"), ("RUN", "t/../../OTHER/0-t"), ("../RUN", "t")]
)
def test_names_in_the_store_lead_to_no_other_folder(
    result: Address, directory: str, run: str, token: str
) -> None:
    """Another user may write to the store, and may make files in shared memory."""
    for folder in (Path(directory).parent.parent, Path(directory).parent / "OTHER"):
        folder.mkdir(exist_ok=True)
        shutil.copy(Path(directory, "0-t"), folder)

    assert not readable(replace(result, token=token), run)


def test_a_result_in_a_directory_that_others_can_write_to_is_not_read(
    result: Address, directory: str
) -> None:
    Path(directory).parent.chmod(0o777)

    assert not readable(result)


def test_a_result_is_left_to_the_store_where_it_cannot_be_mapped(
    result: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, "no more")

    monkeypatch.setattr("mmap.mmap", refused)

    assert not readable(result)


# ---- what is refused ----


def tampered_size(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def tampered_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", [tampered_size, tampered_time, replaced, Path.unlink])
def test_a_file_that_is_not_the_one_that_was_written_counts_as_lost(
    directory: str, change: Any
) -> None:
    pointer = write(directory, big())
    assert pointer is not None

    change(Path(directory, "0-t"))

    assert Segments(Directory(directory)).map(0, "t", pointer) is None


def test_a_link_is_not_followed(directory: str, tmp_path: Path) -> None:
    pointer = write(directory, big())
    assert pointer is not None
    path = Path(directory, "0-t")
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")

    with pytest.raises(SharedMemoryError, match=os.strerror(errno.ELOOP)):
        Segments(Directory(directory)).map(0, "t", pointer)


def test_a_pickle_that_was_changed_is_not_unpickled(directory: str) -> None:
    pointer = write(directory, [big(), "harmless"])
    assert pointer is not None
    path = Path(directory, "0-t")
    stats = path.stat()
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.write(whole.replace(b"harmless", b"changed!"))
    os.utime(path, ns=(stats.st_atime_ns, stats.st_mtime_ns))

    with pytest.raises(SignatureError, match="shared memory"):
        read(directory, pointer)


def test_joined_parts_are_read_as_before() -> None:
    value = {"array": big(), "rest": ["text", b"bytes"]}

    back = decode_value(b"".join(encode_value(value, "f-0")))

    np.testing.assert_array_equal(back["array"], big())
    assert back["rest"] == value["rest"]
