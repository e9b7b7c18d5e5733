"""A broker of segments: what the workers of a run get from it, and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagnb.graph.payload import encode_value
from dagnb.protocol.invocation import Invocation
from dagnb.storage import broker, segments
from dagnb.storage.broker import (
    N_AT_ONCE,
    N_CONNECTIONS,
    Broker,
    BrokerAwayError,
    BrokeredFiles,
    Request,
    RunFiles,
    files_of,
    secret_of,
)
from dagnb.storage.segments import SEGMENT_BYTES, ArraySegment, Directory, Pointer, Segments
from tests.services.processes import await_that
from tests.unit.storage.sizes import LIMIT, big

KEY = "key of the run"
LIMIT_S = 20.0


class Owner:
    """The owner of containers: it runs a broker on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, Any] = {}  # files, by run
        self.lent = {"place", "neighbour"}

    def files_for(self, request: Request) -> Any:
        is_allowed = request.place in self.lent and request.is_signed(KEY)
        return self.runs.get(request.run) if is_allowed else None

    def start(self) -> None:
        listens = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(listens),))
        self._thread.start()
        assert listens.wait(LIMIT_S)

    async def _serve(self, listens: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        made = Broker(self.path, self.files_for)
        made.listen()
        serving = asyncio.create_task(made.serve())
        listens.set()
        await self._over.wait()
        serving.cancel()
        made.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


@pytest.fixture
def owner(directory: str, tmp_path: Path) -> Iterator[Owner]:
    """The owner, with one run, RUN, that two containers work for, 'place' and 'neighbour'."""
    made = Owner(tmp_path / "broker")
    made.runs["RUN"] = RunFiles(directory)
    made.start()
    yield made
    made.stop()
    made.runs["RUN"].close()


def invocation(owner: Owner, **fields: Any) -> Invocation:
    """The files that a container gets."""
    usual = Invocation(
        run="RUN",
        store="memory://",
        key=b"k" * 32,
        place="place",
        broker=str(owner.path),
        broker_key=secret_of(KEY, "place"),
    )
    return replace(usual, **fields)


@pytest.fixture
def files(owner: Owner) -> BrokeredFiles:
    """The files of the run, for the worker in the container."""
    return BrokeredFiles(invocation(owner))


@pytest.fixture
def away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits for no broker that is away."""
    monkeypatch.setattr(broker, "REACH_S", 0.0)


def open_files() -> list[str]:
    """The files that this process has open, the broker's included."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # that of the listing
    return links


# ---- what workers get ----


def test_a_value_is_written_by_one_worker_and_each_reader_changes_its_own(
    owner: Owner, directory: str
) -> None:
    writer, readers = Segments(files_of(invocation(owner))), Segments(files_of(invocation(owner)))
    packed = writer.write(0, "t", encode_value(big(), "f-0"))
    assert packed is not None
    pointer = Pointer.unpack(packed)
    assert pointer is not None

    one, other = (readers.map(0, "t", pointer) for _ in range(2))

    assert one is not None
    assert other is not None
    changed, same = one.value(), other.value()
    changed += 1
    np.testing.assert_array_equal(same, big())
    assert int(changed[0]) == 1
    assert Path(directory, "0-t").stat().st_size == pointer.n_bytes


def test_a_new_file_has_its_pages_before_the_worker_writes_and_counts_as_taken(
    files: BrokeredFiles, directory: str
) -> None:
    fd = files.create("0-t", SEGMENT_BYTES, is_copy=False)

    stats = os.fstat(fd)
    assert (stats.st_size, stats.st_blocks * 512 >= SEGMENT_BYTES) == (SEGMENT_BYTES, True)
    assert segments._ROOM.unpack(Path(directory, "room").read_bytes()) == (LIMIT, SEGMENT_BYTES)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_a_descriptor_to_read_cannot_be_written_to(files: BrokeredFiles) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))

    fd = files.open("0-t")

    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    os.close(fd)


def test_arrays_of_the_client_are_there_for_new_containers_when_their_file_was_removed(
    shared: Path, tmp_path: Path, owner: Owner
) -> None:
    client = ArraySegment(tmp_path, "OTHER", LIMIT)
    name = client.write(big().data.cast("B"))
    places = client.close()
    owner.runs["OTHER"] = RunFiles(segments.make(tmp_path, "OTHER", LIMIT))
    segments.remove(tmp_path, "OTHER")

    fd = segments.open_arrays(files_of(invocation(owner, run="OTHER")))

    assert Segments(None, arrays_fd=fd).map_array(places[name]) == big().data.cast("B")
    os.close(fd)
    owner.runs["OTHER"].close()


def test_without_room_and_for_a_name_that_is_taken_there_is_no_file(
    files: BrokeredFiles, owner: Owner
) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))

    for name, n_bytes, number in (
        ("0-t", 1, errno.EEXIST),
        ("0-u", LIMIT, errno.EDQUOT),
        ("0-v", 1 << 80, errno.EDQUOT),
    ):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            files.create(name, n_bytes, is_copy=False)
        assert caught.value.errno == number
    with pytest.raises(FileNotFoundError):
        files.open("0-u")
    parts = encode_value(big(LIMIT // 4 * 3), "f-0")
    assert Segments(files).write(1, "t", parts, is_copy=True) is None


def test_workers_without_a_broker_use_the_directory_or_nothing(directory: str) -> None:
    usual = Invocation(run="RUN", store="memory://", key=b"")

    assert files_of(usual) is None
    assert isinstance(files_of(replace(usual, segments=directory)), Directory)


# ---- what is refused ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "OTHER"},
        {"broker_key": secret_of("another key", "place")},
        {"broker_key": secret_of(KEY, "elsewhere")},
        {"place": "neighbour"},
        {"broker_key": KEY},
        {"broker_key": "é"},
        {"place": "elsewhere", "broker_key": secret_of(KEY, "elsewhere")},
    ],
    ids=[
        "run",
        "key",
        "another's secret",
        "another's name",
        "the key itself",
        "no ascii",
        "not lent",
    ],
)
def test_a_container_reaches_the_runs_that_it_is_lent_to_and_no_others(
    owner: Owner, files: BrokeredFiles, away_at_once: None, wrong: dict[str, str]
) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))
    other = BrokeredFiles(invocation(owner, **wrong))

    with pytest.raises(FileNotFoundError, match="refuses"):
        other.open("0-t")
    with pytest.raises(BrokerAwayError, match="refuses"):
        other.create("1-t", SEGMENT_BYTES, is_copy=False)


def test_a_container_reaches_nothing_any_more_when_it_was_taken_back(
    owner: Owner, files: BrokeredFiles, away_at_once: None
) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))

    owner.lent.clear()

    with pytest.raises(FileNotFoundError, match="refuses"):
        files.open("0-t")


@pytest.mark.parametrize(
    "name",
    ["room", "launching", "../RUN/0-t", "0-../x", "0-t/", "0-t\n", "", ".", "0-", "-t", "٣-t"],
)
def test_names_that_are_of_no_value_are_refused(
    files: BrokeredFiles, directory: str, away_at_once: None, name: str
) -> None:
    before = sorted(os.listdir(directory))

    with pytest.raises(FileNotFoundError, match="refuses"):
        files.open(name)
    with pytest.raises(BrokerAwayError, match="refuses"):
        files.create(name, SEGMENT_BYTES, is_copy=False)

    assert sorted(os.listdir(directory)) == before


def test_the_arrays_of_the_client_cannot_be_written(files: BrokeredFiles) -> None:
    with pytest.raises(BrokerAwayError, match="refuses"):
        files.create(segments.ARRAYS, SEGMENT_BYTES, is_copy=False)


def request(**fields: Any) -> bytes:
    usual = {"run": "RUN", "place": "place", "secret": secret_of(KEY, "place"), "name": "0-t"}
    return json.dumps({**usual, **fields}).encode()


@pytest.mark.parametrize(
    "packet",
    [
        b"no JSON",
        b"[" * 1000,
        b"[]",
        b"{}",
        b"\xff\xfe",
        request(n_bytes=-1),
        request(n_bytes=True),
        request(n_bytes=1.5),
        request(n_bytes="9"),
        request(is_copy=1),
        request(run=["RUN"]),
        request(place=None),
        request(secret="é"),
        request(more="fields"),
        request(name="0-t" + " " * 1000),
        request() + b" " * 1000,
    ],
)
def test_packets_that_are_no_request_are_refused_and_the_broker_goes_on(
    owner: Owner, files: BrokeredFiles, packet: bytes
) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))

    assert asked(owner, packet) == broker._ANSWER.pack(broker.REFUSED)

    os.close(files.open("0-t"))


def connected(owner: Owner) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(LIMIT_S)
    line.connect(str(owner.path))
    return line


def asked(owner: Owner, packet: bytes) -> bytes:
    """The answer to a packet, when the broker has closed the connection and its own descriptor."""
    with connected(owner) as line:
        line.send(packet)
        answer = line.recv(64)
        assert line.recv(64) == b""
        return answer


def test_the_broker_keeps_no_descriptor_that_it_has_sent(
    owner: Owner, files: BrokeredFiles
) -> None:
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))
    with connected(owner) as line:
        line.send(request())
        _, (fd,), _, _ = socket.recv_fds(line, 64, 1)
        assert line.recv(64) == b""

        assert sum(name.endswith("/0-t") for name in open_files()) == 1
        os.close(fd)
        assert not any(name.endswith("/0-t") for name in open_files())


def test_silent_connections_end_and_the_longest_silent_one_gives_way_to_others(
    owner: Owner, files: BrokeredFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [connected(owner) for _ in range(N_CONNECTIONS)]

    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))

    assert lines[0].recv(64) == b""
    lines[-1].send(request())
    answer, fds, _, _ = socket.recv_fds(lines[-1], 64, 1)
    assert (answer, len(fds)) == (broker._ANSWER.pack(0), 1)
    os.close(fds[0])
    monkeypatch.setattr(broker, "REQUEST_S", 0.0)
    with connected(owner) as late:
        assert late.recv(64) == b""
    for line in lines:
        line.close()


class Waiting:
    """Files that are made when the test says so."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Semaphore(0), threading.Event()

    def create(self, name: str, n_bytes: int, *, is_copy: bool) -> int:
        self.asked.release()
        assert self.go.wait(LIMIT_S)
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def test_a_container_asks_for_a_few_files_at_a_time_and_the_rest_is_refused(owner: Owner) -> None:
    owner.runs["SLOW"] = waiting = Waiting()
    packet = request(run="SLOW", n_bytes=1)
    lines = [connected(owner) for _ in range(N_AT_ONCE)]
    for line in lines:
        line.send(packet)
        assert waiting.asked.acquire(timeout=LIMIT_S)

    assert asked(owner, packet) == broker._ANSWER.pack(broker.REFUSED)

    waiting.go.set()
    for line in lines:
        assert line.recv(64) == broker._ANSWER.pack(0)
        line.close()
    assert asked(owner, packet) == broker._ANSWER.pack(0)


def test_a_worker_that_left_before_its_answer_leaves_nothing_open(
    owner: Owner,
) -> None:
    owner.runs["SLOW"] = waiting = Waiting()
    with connected(owner) as line:
        line.send(request(run="SLOW", n_bytes=1))
        assert waiting.asked.acquire(timeout=LIMIT_S)
    before = open_files().count("/dev/null")

    waiting.go.set()
    assert asked(owner, request(run="SLOW", n_bytes=1)) == broker._ANSWER.pack(0)

    await_that(lambda: open_files().count("/dev/null") <= before, "it is closed")


# ---- a broker that is away ----


def test_without_a_broker_a_value_belongs_to_the_store_and_one_in_a_segment_is_lost(
    owner: Owner, away_at_once: None
) -> None:
    worker = Segments(files_of(invocation(owner)))
    packed = worker.write(0, "t", encode_value(big(), "f-0"))
    assert packed is not None
    pointer = Pointer.unpack(packed)
    assert pointer is not None

    owner.stop()

    assert worker.write(1, "t", encode_value(big(), "f-0")) is None
    assert worker.map(0, "t", pointer) is None
    owner.start()
    assert worker.map(0, "t", pointer) is not None


def test_a_reader_waits_for_the_broker_that_succeeds_a_killed_one(
    owner: Owner, files: BrokeredFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket of the killed one is still there; the next one takes its place."""
    os.close(files.create("0-t", SEGMENT_BYTES, is_copy=False))
    owner.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(owner.path))
    n_tries = []

    def tried(seconds: float) -> None:
        n_tries.append(seconds)
        if len(n_tries) == 3:
            owner.start()

    monkeypatch.setattr(broker.time, "sleep", tried)

    os.close(files.open("0-t"))

    assert len(n_tries) == 3


@pytest.mark.parametrize("make", [RunFiles, Directory])
def test_files_of_a_run_that_is_over_are_gone(
    directory: str, tmp_path: Path, make: Callable[[str], Any]
) -> None:
    files = make(directory)
    segments.remove(tmp_path, "RUN")

    with pytest.raises(FileNotFoundError):
        files.create("0-t", SEGMENT_BYTES, is_copy=False)
    with pytest.raises(FileNotFoundError):
        files.open("0-t")
    with pytest.raises(OSError):  # noqa: PT011  # none is open, or none is there
        files.open(segments.ARRAYS)


def test_a_run_without_shared_memory_has_no_files() -> None:
    files = RunFiles("")

    with pytest.raises(OSError, match="no shared memory"):
        files.create("0-t", SEGMENT_BYTES, is_copy=False)
    with pytest.raises(FileNotFoundError, match="no shared memory"):
        files.open(segments.ARRAYS)
    files.close()
