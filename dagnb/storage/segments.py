"""Large values in the shared memory of one host: written once, mapped by every reader.

Through the store a value of 50 MB is copied five times between two processes of one machine. Here
the worker that makes a value writes it to a file in /dev/shm, its *segment*, and the store holds a
pointer of 68 bytes in the place of the value. So nothing of the protocol knows of segments.

    /dev/shm/dagnb-UID-HASH/    0700, owner checked; HASH is of the runtime directory of the agent
        RUN/                    0700, made by the client, by the supervisor before it forks, or by
                                the fleet
            room                bytes that the run may take, and bytes that it took
            TASK-TOKEN          a segment: header, pickle, buffers aligned to 64 bytes
            arrays              a segment: arrays that the client gave to tasks, each on pages of
                                its own
            launching           there until supervisor or fleet have taken over from the client

    writes      a worker, once, with the room reserved first. Without room, or without /dev/shm as
                on macOS, the value goes to the store.
    containers  get the descriptor of one file at a time from a broker, and no directory: see
                broker.py. There, pages that a task changes count against its container, and pages
                that it reads do not.
    reads       workers of the same run, by a private mapping (copy-on-write): arrays are writable,
                and a page is copied when its reader first writes to it. Other readers, and the
                segment, never see a change. A worker uses a mapping again, so that the pages are
                looked up once and not for each task, if no object uses it any more and the kernel
                shows that none of its pages was written to.
    arrays      large arrays in arguments are written by the client before it launches the run, and
                their places go with the invocation. Those that find no room go to the store, and
                only those. They cannot be computed again, so supervisor, fleet and workers hold the
                file open: they keep it when another process removes it, as systemd does when the
                user has logged out (RemoveIPC in logind.conf).
    removes     the supervisor, or the fleet, when the run is over; after a kill the agent, which
                removes the segments of every run without a record. A file that is removed stays
                readable for those that have mapped it.

    results     the value of a sink lies in a segment and in the store: it is read after the run,
                and perhaps from elsewhere, or later, when its segment and even the agent are gone.
                A client on this machine that reads it before the supervisor removes it maps the
                segment, and neither downloads nor verifies nor copies it.

Other values have the segment alone: only workers of one host read them, which all reach it.

Which file is meant. The pointer is signed with run, task and token, and names size, inode and time
of modification of the file. A file that differs in one of them, or is gone, counts as a lost value,
so lineage computes it again. The pointer also has the hash of header and pickle, which is all that
unpickling runs as code. The bytes of arrays are not hashed: that takes as long as a copy. Another
process of the same user can change them, as it can change the memory of a worker by ptrace. The
segment of a result has no pointer. The address of the result, with its random token and its size,
names a file in a directory that no other user can write to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import stat
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dagnb.errors import ConfigError, SharedMemoryError, SignatureError
from dagnb.graph.brief import brief
from dagnb.graph.payload import Signer, decode_value, part_offsets, value_parts
from dagnb.protocol.messages import Address
from dagnb.storage.home import private_directory, runtime_path, write_private
from dagnb.storage.mappings import Mappings

SEGMENT_BYTES = 256 * 1024
"""Values from this size on go to segments. For smaller ones a file costs more than it saves."""

ALIGNMENT = 64
"""In a segment each buffer begins at a multiple of so many bytes, which suits every processor."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # checked by private_directory
"""the file system in memory; Linux has it"""

# Count of parts (0: no value has so few), size, bytes of header and pickle, inode, time of
# modification in nanoseconds, SHA-256 of header and pickle.
_POINTER = struct.Struct("<IQQQQ32s")

_SIGNATURE_BYTES = len(Signer(b"any key").seal("", b""))

# Bytes of a signed pointer.
_SEALED_BYTES = _SIGNATURE_BYTES + _POINTER.size

LAUNCH_S = 60.0
"""Seconds for which segments of a client may wait for the launch of their run."""

# A file that is there from the first segment of a client until a supervisor takes over.
_LAUNCHING = "launching"

ARRAYS = "arrays"
"""The name of the segment with the client's arrays."""

# Of an array in that segment: where it begins, its bytes; inode and time of modification.
_PLACE = struct.Struct("<QQQQ")

# Bytes that the run may take, bytes that it took.
_ROOM = struct.Struct("<QQ")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """The place of a value in shared memory, as the store holds it.

    n_head: bytes of header and pickle. modified_ns: epoch nanoseconds.
    """

    n_bytes: int
    n_head: int
    inode: int
    modified_ns: int
    head_hash: bytes

    __repr__ = brief

    def pack(self) -> bytes:
        """Returns 68 bytes, which begin as no encoded value does."""
        return _POINTER.pack(
            0, self.n_bytes, self.n_head, self.inode, self.modified_ns, self.head_hash
        )

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Pointer | None:
        """Read what pack wrote; None for a value."""
        if len(data) != _POINTER.size:
            return None
        n_parts, n_bytes, n_head, inode, modified_ns, head_hash = _POINTER.unpack(data)
        if n_parts:
            return None
        return cls(
            n_bytes=n_bytes,
            n_head=n_head,
            inode=inode,
            modified_ns=modified_ns,
            head_hash=head_hash,
        )


def may_be_pointer(sealed: bytes) -> bool:
    """Returns whether signed bytes have the size of a pointer: the others need no second look."""
    return len(sealed) == _SEALED_BYTES


class MappedValue:
    """A private mapping of one value."""

    __slots__ = ("_pointer", "_view")

    def __init__(self, view: memoryview, pointer: Pointer) -> None:
        self._view, self._pointer = view, pointer

    def __len__(self) -> int:
        """Number of bytes."""
        return len(self._view)

    def value(self) -> Any:
        """Returns the value, once: it uses this memory. Raises SignatureError."""
        head = self._view[: self._pointer.n_head]
        if hashlib.sha256(head).digest() != self._pointer.head_hash:
            raise SignatureError("a value in shared memory")
        return decode_value(self._view, align=ALIGNMENT)


class Segments:
    """The segments of one run, as one worker uses them."""

    def __init__(
        self, files: SegmentFiles | None, large_bytes: int = 0, arrays_fd: int = -1
    ) -> None:
        """Begin. files: of the run; None for a run without segments.

        large_bytes: values from this size on go to segments; 0: SEGMENT_BYTES.
        arrays_fd: as `open_arrays` returned it.
        """
        self._files = files
        self._arrays_fd = arrays_fd
        self._mappings = Mappings()
        self._large_bytes = large_bytes or SEGMENT_BYTES

    def takes(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Returns whether a value with these parts is large enough, and the run has segments."""
        return self._files is not None and sum(map(len, parts)) >= self._large_bytes

    def write(
        self,
        task: int,
        token: str,
        parts: Sequence[bytes | memoryview],
        *,
        is_copy: bool = False,
    ) -> bytes | None:
        """Write the parts of encode_value. Returns the packed pointer; None when there is no room.

        One copy of the bytes. token: random, of this attempt. is_copy: the store has the value,
        too: half of the room stays for values that would have to go there.
        """
        if self._files is None:
            return None
        offsets = [0, *part_offsets(list(map(len, parts[1:])), ALIGNMENT)]
        n_bytes = offsets[-1] + len(parts[-1])
        try:
            stats = self._write(_value_name(task, token), n_bytes, offsets, parts, is_copy)
        except OSError as error:  # no room, or the directory was removed: the run is over
            _log.info("a value of %d bytes goes to the store: %s", n_bytes, error)
            return None
        head = b"".join(parts[:2])  # all that unpickling runs as code
        return Pointer(
            n_bytes=n_bytes,
            n_head=len(head),
            inode=stats.st_ino,
            modified_ns=stats.st_mtime_ns,
            head_hash=hashlib.sha256(head).digest(),
        ).pack()

    def _write(
        self,
        name: str,
        n_bytes: int,
        offsets: Sequence[int],
        parts: Sequence[bytes | memoryview],
        is_copy: bool,
    ) -> os.stat_result:
        """Write a new file. Returns its state. Raises OSError."""
        assert self._files is not None
        fd = self._files.create(name, n_bytes, is_copy=is_copy)
        try:
            for offset, part in zip(offsets, parts, strict=True):
                _write(fd, part, offset)
            return os.fstat(fd)
        finally:
            os.close(fd)

    def map(self, task: int, token: str, pointer: Pointer) -> MappedValue | None:
        """Returns the value's segment, mapped for this caller alone; None when it is gone.

        pointer: verified. Raises SharedMemoryError when the process may map or open no more: that
        is no reason to compute the value again.
        """
        if self._files is None:
            return None
        expected = (pointer.n_bytes, pointer.inode, pointer.modified_ns)
        try:
            fd = self._files.open(_value_name(task, token))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SharedMemoryError(pointer.n_bytes, str(error)) from error
        try:
            stats = os.fstat(fd)
            if (stats.st_size, stats.st_ino, stats.st_mtime_ns) != expected:
                return None
            view = self._mappings.view(fd, stats, 0, pointer.n_bytes)
            return MappedValue(view, pointer)
        finally:
            os.close(fd)

    def map_array(self, packed: bytes) -> memoryview | None:
        """Returns memory of an array of the client, private and writable; None when it is gone.

        packed: its place. Raises SharedMemoryError.
        """
        begin, n_bytes, *expected = _PLACE.unpack(packed)
        with contextlib.suppress(OSError):  # a task may have closed what it has not opened
            stats = os.fstat(self._arrays_fd)
            if [stats.st_ino, stats.st_mtime_ns] == expected:
                return self._mappings.view(self._arrays_fd, stats, begin, n_bytes)
        return None

    def tidy(self) -> None:
        """Release what a task has left that is over: memory that it has changed, above all."""
        self._mappings.tidy()


def _value_name(task: int, token: str) -> str:
    return f"{task}-{token}"


# ---- the files of a run ----


class SegmentFiles(Protocol):
    """The files of one run in shared memory, by name: a directory, or a broker's (broker.py)."""

    def create(self, name: str, n_bytes: int, *, is_copy: bool) -> int:
        """Returns a descriptor to write to a new file, which has all its pages.

        Raises OSError when there is no room; then no file is left. is_copy: see Segments.write.
        """
        ...

    def open(self, name: str) -> int:
        """Returns a descriptor to read a file. Raises OSError, FileNotFoundError for a lost one."""
        ...


class Directory:
    """The directory of a run, for processes that may use it."""

    def __init__(self, path: str) -> None:
        """path: as `make` returned it."""
        self._path = Path(path)

    def create(self, name: str, n_bytes: int, *, is_copy: bool) -> int:
        """See SegmentFiles.create."""
        if not _reserve(self._path, n_bytes, share=0.5 if is_copy else 1.0):
            raise OSError(errno.EDQUOT, "the run has taken all of its shared memory")
        fd = -1
        try:
            fd = _new_file(self._path / name)
            _allocate(fd, 0, n_bytes)
        except OSError:  # the file system is full, or too many files are open
            if fd >= 0:
                os.close(fd)
                (self._path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                _reserve(self._path, -n_bytes)
            raise
        return fd

    def open(self, name: str) -> int:
        """See SegmentFiles.open."""
        return _open_segment(self._path / name)


def _open_segment(path: Path) -> int:
    # O_NONBLOCK: a container that has the same user could hold a lease on its file (fcntl), and
    # would make other processes wait.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _allocate(fd: int, begin: int, n_bytes: int) -> None:
    """Take all pages at once: a file system that is full must refuse here, by an OSError.

    A page that is missing in a mapping would end its reader with SIGBUS.
    """
    os.posix_fallocate(fd, begin, n_bytes)


def _write(fd: int, data: bytes | memoryview, begin: int) -> None:
    view, n_written = memoryview(data), 0
    while n_written < len(view):  # Linux writes at most 2 GiB at a time
        n_written += os.pwrite(fd, view[n_written:], begin + n_written)


def _reserve(directory: Path, n_bytes: int, *, share: float = 1.0) -> bool:
    """Count bytes as taken, or given back if negative. Returns False when the run has no more room.

    share: of the room that may be taken then.
    Raises OSError when the run has no segments any more.
    """
    with (directory / "room").open("r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it, too, if this process is killed
        limit_bytes, n_taken = _ROOM.unpack(file.read(_ROOM.size))
        if n_taken + n_bytes > share * limit_bytes:
            return False
        file.seek(0)
        file.write(_ROOM.pack(limit_bytes, n_taken + n_bytes))
        return True


# ---- results ----


def results(run: str, wanted: Sequence[tuple[int, Address]]) -> dict[int, memoryview]:
    """Returns the values of sinks that lie in segments here, as private memory, by their task.

    Each is as `decode_value` reads it with align=ALIGNMENT. wanted: sinks, and their addresses.
    """
    views: dict[int, memoryview] = {}
    for task, address in wanted:
        # Both are from the store, where others may have put a path that leads elsewhere.
        is_name = run.isalnum() and address.token.isalnum()
        if address.n_bytes >= SEGMENT_BYTES and is_name:
            # Without a directory for an agent, no run of this machine has segments.
            with contextlib.suppress(ConfigError, OSError):
                path = _base(runtime_path()) / run / _value_name(task, address.token)
                if _is_private(path.parent.parent):
                    view = _whole(path)
                    if _n_stored(view) == address.n_bytes:
                        views[task] = view
    return views


def _is_private(directory: Path) -> bool:
    """Returns whether no other user can have made what is in the directory. Raises OSError."""
    stats = directory.lstat()
    is_own = stat.S_ISDIR(stats.st_mode) and stats.st_uid == os.getuid()
    return is_own and not stats.st_mode & 0o077


def _whole(path: Path) -> memoryview:
    """Returns a file as private memory. Raises OSError."""
    fd = _open_segment(path)
    try:
        return memoryview(mmap.mmap(fd, os.fstat(fd).st_size, access=mmap.ACCESS_COPY))
    finally:
        os.close(fd)


def _n_stored(view: memoryview) -> int:
    """Returns the bytes that a value in a segment has in the store, without gaps and signed."""
    parts = value_parts(view, ALIGNMENT)
    return _SIGNATURE_BYTES + part_offsets(list(map(len, parts)))[-1] + len(parts[-1])


# ---- arrays of the client ----


class ArraySegment:
    """The segment with the arrays that a client gives to the tasks of one run.

    One file for all of them: the processes of the run hold it open, and may open few.
    """

    def __init__(self, runtime: Path, run: str, limit_bytes: int) -> None:
        """Begin; the first large array makes the directory of the run. For the arguments: `make`.

        runtime: the directory of the agent.
        """
        self._runtime, self._run, self.limit_bytes = runtime, run, limit_bytes
        self._directory, self._fd = "", -1
        self._places: dict[str, tuple[int, int]] = {}
        self.n_bytes = 0
        self._end = 0

    def write(self, memory: memoryview) -> str:
        """See SharedArrays.write. One copy of the bytes."""
        n_bytes = len(memory)
        if n_bytes < SEGMENT_BYTES:
            return ""
        if not self._directory:
            self._directory = make(self._runtime, self._run, self.limit_bytes, is_launched=False)
        if not self._directory:
            return ""
        try:
            return self._write(Path(self._directory), memory)
        except OSError as error:  # the file system is full, or too many files are open
            _log.info("an array of %d bytes goes to the store: %s", n_bytes, error)
            return ""

    def _write(self, directory: Path, memory: memoryview) -> str:
        begin, n_bytes = self._end, len(memory)
        if not _reserve(directory, n_bytes):
            return ""
        try:
            if self._fd < 0:
                self._fd = _new_file(directory / ARRAYS)
            _allocate(self._fd, begin, n_bytes)
            _write(self._fd, memory, begin)
        except OSError:
            _reserve(directory, -n_bytes)
            raise
        # Many large arrays take long, in which the agent must not take this client for dead.
        (directory / _LAUNCHING).touch()

        name = f"array {len(self._places)} in shared memory"
        self._places[name] = (begin, n_bytes)
        self.n_bytes += n_bytes
        self._end += n_bytes + -n_bytes % mmap.ALLOCATIONGRANULARITY
        return name

    def close(self) -> dict[str, bytes]:
        """Returns the packed place of each array, by name. Nothing is written after that."""
        if self._fd < 0:
            return {}
        stats = os.fstat(self._fd)
        os.close(self._fd)
        self._fd = -1
        places = {}
        for name, (begin, n_bytes) in self._places.items():
            places[name] = _PLACE.pack(begin, n_bytes, stats.st_ino, stats.st_mtime_ns)
        return places

    def remove(self) -> None:
        """Remove the segments of the run."""
        self.close()
        if self._directory:
            remove(self._runtime, self._run)


def open_arrays(files: SegmentFiles | None) -> int:
    """Returns a descriptor of the segment with the client's arrays; -1 when there is none.

    The processes that this process forks inherit the descriptor.
    """
    if files is None:
        return -1
    try:
        return files.open(ARRAYS)
    except OSError:  # those who need an array say that it is missing
        return -1


# ---- the directories of runs ----


def usual_limit() -> int:
    """Returns half of the bytes that are free in shared memory now; 0 where there is none."""
    try:
        stats = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return stats.f_bavail * stats.f_frsize // 2


def make(runtime: Path, run: str, limit_bytes: int, *, is_launched: bool = True) -> str:
    """Make the directory of a run's segments, unless it is there already. Returns its path.

    runtime: the directory of the agent. limit_bytes: that all segments may have together; 0: the
    run has none. Returns '' when it has none, or the directory cannot be made.
    is_launched: False for a client, whose run has no record with the agent yet.
    """
    if limit_bytes <= 0 or not SHARED_MEMORY.is_dir():
        return ""
    try:
        directory = private_directory(private_directory(_base(runtime)) / run)
        room = directory / "room"
        if not is_launched:
            (directory / _LAUNCHING).touch()
        if not room.exists():  # else the client or an earlier supervisor made it: values are there
            write_private(room, _ROOM.pack(limit_bytes, 0))
        if is_launched:
            (directory / _LAUNCHING).unlink(missing_ok=True)
    except (ConfigError, OSError) as error:
        _log.warning("large values of run %s go through the store: %s", run, error)
        return ""
    return str(directory)


def runs_with_segments(runtime: Path) -> list[str]:
    """Returns the runs that have a directory for segments, without those being launched.

    A client that is killed while it launches counts as launching for LAUNCH_S.
    """
    with contextlib.suppress(OSError):
        held = tuple(_base(runtime).iterdir())
        return [directory.name for directory in held if not _is_launching(directory)]
    return []


def _is_launching(directory: Path) -> bool:
    try:
        began_at = (directory / _LAUNCHING).stat().st_mtime
    except OSError:
        return False
    return time.time() - began_at < LAUNCH_S


def remove(runtime: Path, run: str) -> None:
    """Remove the segments of a run; without any, do nothing."""
    shutil.rmtree(_base(runtime) / run, ignore_errors=True)


def remove_all(runtime: Path) -> None:
    """Remove the segments of all runs, when none of them goes on."""
    shutil.rmtree(_base(runtime), ignore_errors=True)


def _base(runtime: Path) -> Path:
    """Returns the directory of all runs of one agent."""
    name = hashlib.sha256(os.fsencode(runtime.absolute())).hexdigest()[:12]
    return SHARED_MEMORY / f"dagnb-{os.getuid()}-{name}"
