"""A fork server: one thread, no event loop, only imports; it forks whoever is asked for and tells when they end.

Forking a process that has threads, connections or a running loop is asking for trouble, and starting Python anew takes
thirty times as long. So the agent executes one nursery, which forks the supervisors; each supervisor forks one before
it has a loop, which forks its workers.

Protocol, one JSON object a line, file descriptors beside it:
    {"spawn": kind, "name": ..., "args": {...}, "fds": 3}  ->  {"started": name, "pid": ...}
                                                           or  {"failed": name, "reason": ...}
    {"signal": number, "name": ...}                            to the child and whatever it started
    {"who": true}                                          ->  {"children": {"children": [name, ...], ...}}
    {"leave": true}                                            end, as when the connection ends, but knowingly
    a child ends                                           ->  {"exited": name, "pid": ..., "status": wait status}
Only the parent of a process can signal it without the risk of hitting another that got its number; hence "signal".
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

Kind = Callable[[dict[str, Any], list[int]], int]
"""What a child does with its arguments and file descriptors; returns its exit code."""

_READ_BYTES = 65536
_MOST_FDS = 16
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Born:
    """Returned in a forked child: what it is to do."""

    kind: Kind
    args: dict[str, Any]
    fds: list[int]

    def live(self) -> int:
        """Do it."""
        return self.kind(self.args, self.fds)


@dataclass(frozen=True, slots=True)
class Pipes:
    """A connection of two descriptors, as a container has; file descriptors cannot travel on it."""

    reading: int
    writing: int

    def fileno(self) -> int:
        """What becomes readable."""
        return self.reading

    def sendall(self, data: bytes) -> None:
        """Write all of it."""
        while data:
            data = data[os.write(self.writing, data) :]

    def close(self) -> None:
        """Let go of both."""
        _close([self.reading, self.writing])


@dataclass(slots=True)
class ForkServer:
    """kinds: what it can fork. mortal: whether its children die with it and with the connection.

    keep: descriptors it has open for its own sake, closed in children. patience_s: leave when it has no child and heard
    nothing for so long. told: what else it answers to "who". tidy: called when the last child has ended, before
    that is told. deserted: set when the other side has gone without a word.
    """

    control: socket.socket | Pipes
    kinds: Mapping[str, Kind]
    mortal: bool
    keep: tuple[int, ...] = ()
    patience_s: float | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    tidy: Callable[[], None] | None = None
    deserted: bool = False
    _children: dict[str, int] = field(default_factory=dict)
    _fds: list[int] = field(default_factory=list)
    _text: bytes = b""
    _leaving: bool = False

    def serve(self) -> Born | None:
        """Return in each child with its task; in the nursery itself None, when nobody needs it any more."""
        bell, line = self._prepare(), self.control.fileno()
        while not self._leaving:
            ready, _, _ = select.select([line, bell], [], [], self.patience_s)
            if not ready and not self._children:
                self._leaving = True
            if bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(bell, _READ_BYTES)
                self._reap()
            if line in ready:
                born = self._listen()
                if born is not None:
                    os.close(bell)
                    return born
        if self.mortal:
            self._end_children()
        return None

    def _prepare(self) -> int:
        """Quiet signals, no core dumps; returns what becomes readable when a child ends."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.keep = (*self.keep, ring)
        gc.freeze()  # what was imported stays shared between parent and children
        return bell

    def _listen(self) -> Born | None:
        """Read requests; returns in a child what it is to do."""
        try:
            data, fds = _receive(self.control)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self.deserted = self._leaving = True
            return None
        self._fds += fds
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            born = self._obey(json.loads(line))
            if born is not None:
                return born
        return None

    def _obey(self, request: dict[str, Any]) -> Born | None:
        if "spawn" in request:
            return self._spawn(request)
        if "signal" in request:
            self._signal(request["name"], request["signal"])
        elif "who" in request:
            self._tell({"children": {"children": list(self._children), **self.told}})
        elif "leave" in request:
            self._leaving = True
        return None

    def _spawn(self, request: dict[str, Any]) -> Born | None:
        name, n_fds = request["name"], request.get("fds", 0)
        fds, self._fds = self._fds[:n_fds], self._fds[n_fds:]
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"failed": name, "reason": str(error)})
            _close(fds)
            return None
        if pid == 0:
            self._become_child(me)
            return Born(self.kinds[request["spawn"]], request["args"], fds)
        with contextlib.suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(pid, pid)
        _close(fds)
        self._children[name] = pid
        self._tell({"started": name, "pid": pid})
        return None

    def _become_child(self, parent: int) -> None:
        """Let go of what is the nursery's; a group of its own, so that it can be ended with all it started."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setpgid(0, 0)
        if self.mortal and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before it could be watched
                os._exit(1)
        self.control.close()
        _close([*self.keep, *self._fds])

    def _signal(self, name: str, number: int) -> None:
        if (pid := self._children.get(name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _reap(self) -> None:
        """Tell of every child that has ended, and end what it started and left behind."""
        while (ended := _reap_one()) is not None:
            self._on_exit(*ended)

    def _on_exit(self, pid: int, status: int) -> None:
        name = next((name for name, child in self._children.items() if child == pid), None)
        if name is not None:
            del self._children[name]
            if self.tidy is not None and not self._children:
                self.tidy()
            self._tell({"exited": name, "pid": pid, "status": status})

    def _tell(self, news: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # reading will show that nobody is there
            self.control.sendall(json.dumps(news).encode() + b"\n")

    def _end_children(self) -> None:
        for name in tuple(self._children):
            self._signal(name, signal.SIGKILL)
        while self._children:
            pid, status = os.wait()
            self._on_exit(pid, status)


def live(born: Born) -> None:
    """Be the child to the end; an exception goes up to the interpreter, which prints it."""
    code = born.live()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # without waiting for threads that user code left behind


def _receive(control: socket.socket | Pipes) -> tuple[bytes, list[int]]:
    if isinstance(control, Pipes):
        return os.read(control.reading, _READ_BYTES), []
    data, fds, _, _ = socket.recv_fds(control, _READ_BYTES, _MOST_FDS)
    return data, fds


def _ignore(number: int, frame: FrameType | None) -> None:
    """Be there, so that the wake-up descriptor is written; the default for SIGCHLD would write nothing."""


def _reap_one() -> tuple[int, int] | None:
    """Pid and status of a child that has ended, whose group is ended too; None when there is none."""
    try:
        if not hasattr(
            os, "waitid"
        ):  # macOS before Python 3.13: its number is given back a moment too early
            pid, status = os.waitpid(-1, os.WNOHANG)
            _end_group(pid)
            return (pid, status) if pid else None
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    _end_group(found.si_pid)
    return os.waitpid(found.si_pid, 0)


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pid:
            os.killpg(pid, signal.SIGKILL)


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
