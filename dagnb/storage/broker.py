"""Segments for workers that must not see the directory of their run: descriptors on request.

A container sees no directory of /dev/shm, so that it can neither list nor read the values of other
runs. Beside the socket of the store it finds that of a broker, a part of the process that owns the
containers. A worker asks there for one file of its run at a time:

    worker in a container                            broker                   /dev/shm/.../RUN
    connects, sends a Request             ------->   who asks? may it?
                                                     create: takes room  --->  TASK-TOKEN, all pages
                                                     open                --->  TASK-TOKEN, arrays
    descriptor, by SCM_RIGHTS             <-------   sends, closes its own
    writes or maps it: see segments.py

Request and answer are a packet each (SOCK_SEQPACKET), on a connection of their own: so no
descriptor and no state stays between two of them, on either side, and a task that closes
descriptors, or forks, harms none. An answer is a number: 0 with the descriptor, an errno, or
REFUSED.

Memory. The broker takes the pages of a new file, so they count against the process that owns the
containers, and not against the container that fills them: a value in a segment does not use up the
memory of a container. Pages that a container reads are those of the file. A page that a task
changes is copied, and the copy counts against its container, as memory that it takes itself does.

Requests of containers are not trusted:

    whose        Each container has a secret for each run that it is lent to: an HMAC of its name,
                 by a key of the run that containers never get. The broker accepts it only while the
                 container is lent to that run. So it is worth nothing afterwards, or elsewhere.
    which file   Names of values and of the client's arrays, in the directory of that run. Files are
                 opened for reading, and made for writing only if they do not exist. (A container
                 with the user of the client itself can open what it reads anew, for writing.)
    how much     The room of the run, which the broker counts; nothing is given back before its end.
    how often    REQUEST_S to send a request, N_AT_ONCE requests of one container at a time, and
                 N_CONNECTIONS that have sent nothing; then the longest silent one is closed.

The descriptor with which a container has made a file can do more: cut it, or write past its end.
Such pages count against the memory of that container, and are freed with the run. Its own run, and
the client that maps a result of it, are all that it can spoil so, as its results can in any case:
containers keep accidents in.

A broker that is away. A value goes to the store instead. A value that is in a segment cannot be
read without the broker: the next one listens at the same place within seconds, and a worker waits
for it. After REACH_S the value counts as lost, and is computed again.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import json
import logging
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dagnb.graph.brief import brief
from dagnb.protocol.invocation import Invocation
from dagnb.storage.segments import ARRAYS, Directory, SegmentFiles, open_arrays

REQUEST_BYTES = 1024
"""Bytes of a request at most; a longer one is refused."""

REQUEST_S = 2.0
"""Seconds for which the broker waits for the request of a connection."""

N_CONNECTIONS = 64
"""Connections that have sent nothing yet, at a time. A worker sends at once."""

N_AT_ONCE = 4
"""Requests of one container that are carried out at a time: its worker makes one."""

ANSWER_S = 30.0
"""Seconds for which a worker waits for an answer: as long as taking many pages may last."""

REACH_S = 10.0
"""Seconds for which a worker waits for a broker that is away, to read a value."""

REFUSED = -1
"""The answer to a request that is not allowed, now or at all."""

_ANSWER = struct.Struct("<i")
_FD = struct.Struct("@i")  # as the kernel writes a descriptor
_RETRY_S = 0.05

# Threads that take pages, which lasts 0.2 ms for each MiB; the event loop goes on meanwhile.
_N_THREADS = 4

_VALUE = re.compile(r"[0-9]{1,10}-[A-Za-z0-9]{1,64}")
_log = logging.getLogger(__name__)


class BrokerAwayError(OSError):
    """The broker does not answer, or does not know the run: another one may be starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for one file. place: the container that asks. n_bytes: of a new file, else 0."""

    run: str
    place: str
    secret: str = field(repr=False)
    name: str
    n_bytes: int = 0
    is_copy: bool = False

    __repr__ = brief

    def pack(self) -> bytes:
        """Returns JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Request | None:
        """Read what pack wrote; None for anything else, and for names that no file may have."""
        try:
            request = cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return None
        texts: list[Any] = [request.run, request.place, request.secret, request.name]
        for text in texts:
            if not (isinstance(text, str) and text.isascii()):
                return None
        if type(request.n_bytes) is not int or type(request.is_copy) is not bool:
            return None
        is_value = _VALUE.fullmatch(request.name) is not None
        is_arrays = request.name == ARRAYS and request.n_bytes == 0
        return request if request.n_bytes >= 0 and (is_value or is_arrays) else None

    def is_signed(self, key: str) -> bool:
        """Returns whether the secret is that of the container. key: see secret_of."""
        return hmac.compare_digest(self.secret, secret_of(key, self.place))


def secret_of(key: str, place: str) -> str:
    """Returns the secret of a container for one run. key: of the run, which is not sent to it."""
    return hmac.new(key.encode(), place.encode(), hashlib.sha256).hexdigest()


# ---- the worker's side ----


def files_of(invocation: Invocation) -> SegmentFiles | None:
    """Returns the files of a run's segments, for its workers; None when the run has none."""
    if invocation.broker:
        return BrokeredFiles(invocation)
    return Directory(invocation.segments) if invocation.segments else None


class BrokeredFiles:
    """The files of a run, as a broker gives them. The calls block the thread."""

    def __init__(self, invocation: Invocation) -> None:
        """Begin; connects with each request. invocation: as the container got it."""
        self._socket, self._run, self._place = invocation.broker, invocation.run, invocation.place
        self._secret = invocation.broker_key

    def create(self, name: str, n_bytes: int, *, is_copy: bool) -> int:
        """See SegmentFiles.create."""
        return self._ask(name, n_bytes, is_copy)

    def open(self, name: str) -> int:
        """See SegmentFiles.open. Waits REACH_S for a broker that is away."""
        deadline = time.monotonic() + REACH_S
        while True:
            try:
                return self._ask(name)
            except BrokerAwayError as error:
                if time.monotonic() > deadline:
                    raise FileNotFoundError(errno.ENOENT, str(error)) from error
            time.sleep(_RETRY_S)

    def _ask(self, name: str, n_bytes: int = 0, is_copy: bool = False) -> int:
        """Returns the descriptor. Raises BrokerAwayError, or the broker's OSError."""
        request = Request(
            run=self._run,
            place=self._place,
            secret=self._secret,
            name=name,
            n_bytes=n_bytes,
            is_copy=is_copy,
        )
        try:
            answer, fds = self._answer(request.pack())
        except OSError as error:
            raise BrokerAwayError(errno.EAGAIN, str(error)) from error
        number = _ANSWER.unpack(answer)[0] if len(answer) == _ANSWER.size else REFUSED
        if number == 0 and fds:
            return fds[0]
        if number > 0:
            raise OSError(number, os.strerror(number))
        raise BrokerAwayError(errno.EAGAIN, "the broker refuses")

    def _answer(self, request: bytes) -> tuple[bytes, list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(self._socket)
            connection.sendall(request)
            # CLOEXEC at once: another thread of the task may start a program at any moment.
            # `recv_fds` takes flags too, but some versions of Python ignore them.
            answer, control, _, _ = connection.recvmsg(
                _ANSWER.size, socket.CMSG_LEN(_FD.size), socket.MSG_CMSG_CLOEXEC
            )
        fds: list[int] = []
        for level, kind, data in control:
            is_whole = len(data) == _FD.size  # else this process may open no more files
            if is_whole and (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds += _FD.unpack(data)
        return answer, fds


# ---- the broker ----


class RunFiles:
    """The files of a run for its owner, who holds the client's arrays open: see segments.py."""

    def __init__(self, directory: str) -> None:
        """directory: as segments.make returned it; '' for a run without segments."""
        self._files = Directory(directory) if directory else None
        self._arrays_fd = open_arrays(self._files)
        self._closing = threading.Lock()

    def create(self, name: str, n_bytes: int, *, is_copy: bool) -> int:
        """See SegmentFiles.create."""
        if self._files is None:
            raise OSError(errno.EDQUOT, "the run has no shared memory")
        return self._files.create(name, n_bytes, is_copy=is_copy)

    def open(self, name: str) -> int:
        """See SegmentFiles.open."""
        if self._files is None:
            raise FileNotFoundError(errno.ENOENT, "the run has no shared memory")
        if name != ARRAYS:
            return self._files.open(name)
        with self._closing:  # else the number could be that of another file already
            return os.dup(self._arrays_fd)

    def close(self) -> None:
        """Let the arrays go."""
        with self._closing:
            if self._arrays_fd >= 0:
                os.close(self._arrays_fd)
            self._arrays_fd = -1


FilesFor: TypeAlias = Callable[[Request], SegmentFiles | None]
"""Returns the files of a request's run; None when the one who asks may not have them now."""


class Broker:
    """Answers the containers of one owner."""

    def __init__(self, path: Path, files_for: FilesFor) -> None:
        """Begin; `listen` makes the socket. path: of the socket, in a folder that is there."""
        self._path, self._files_for = path, files_for
        self._listener: socket.socket | None = None
        self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="dagnb-broker")
        # Connections that have not sent their request yet, the oldest first; and all of them.
        self._silent: dict[asyncio.Task[None], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_asked: Counter[str] = Counter()  # requests of each container that go on

    @property
    def name(self) -> str:
        """The name of the socket in its folder."""
        return self._path.name

    def listen(self) -> None:
        """Listen at the path, also when an earlier broker that was killed has left its socket.

        Raises OSError, also where there are no sockets of packets, as on macOS.
        """
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        # Containers have other users. A private directory around the folder keeps all else out.
        self._path.chmod(0o777)
        self._listener.listen(N_CONNECTIONS)

    async def serve(self) -> None:
        """Answer until this is cancelled; after `listen`."""
        loop = asyncio.get_running_loop()
        assert self._listener is not None
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # too many files are open, for example
                _log.warning("a worker could not ask for shared memory: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            if len(self._silent) >= N_CONNECTIONS:
                oldest = next(iter(self._silent))
                del self._silent[oldest]
                oldest.cancel()
            task = asyncio.create_task(self._serve(connection))
            self._silent[task] = None
            self._tasks.add(task)  # the loop holds only weak references
            task.add_done_callback(self._on_done)
            # Where many connect without end, accepting them must not keep the loop to itself.
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop to listen. What was asked for before may still be answered."""
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        self._threads.shutdown(wait=False)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._silent.pop(task, None)
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a request for shared memory failed", exc_info=error)

    async def _serve(self, connection: socket.socket) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        with connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(REQUEST_S):
                    data = await loop.sock_recv(connection, REQUEST_BYTES + 1)
            except (TimeoutError, OSError):
                return
            self._silent.pop(task, None)
            number, fd = await self._answer(data)
            try:
                # It never waits: this is the first packet on this connection.
                socket.send_fds(connection, [_ANSWER.pack(number)], [fd] if fd >= 0 else [])
            except OSError:
                pass  # the worker is gone
            finally:
                if fd >= 0:
                    os.close(fd)

    async def _answer(self, data: bytes) -> tuple[int, int]:
        """Returns the answer's number, and a descriptor; -1 for none."""
        request = Request.unpack(data) if len(data) <= REQUEST_BYTES else None
        files = self._files_for(request) if request is not None else None
        if request is None or files is None or self._n_asked[request.place] >= N_AT_ONCE:
            return REFUSED, -1
        self._n_asked[request.place] += 1
        try:
            loop = asyncio.get_running_loop()
            return 0, await loop.run_in_executor(self._threads, _file_of, files, request)
        except OSError as error:
            return error.errno or errno.EIO, -1
        finally:
            self._n_asked[request.place] -= 1
            if not self._n_asked[request.place]:
                del self._n_asked[request.place]


def _file_of(files: SegmentFiles, request: Request) -> int:
    if request.n_bytes:
        return files.create(request.name, request.n_bytes, is_copy=request.is_copy)
    return files.open(request.name)
