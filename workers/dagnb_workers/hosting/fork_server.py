"""A fork server: a process with one thread and only imports, which forks children on request.

Starting Python and importing what workers need takes about thirty times as long as a fork of a
process that has imported it. Forking a process with threads, connections or a running event loop
is unsafe: locks of other threads stay locked in the child, and both processes read the same
sockets. So forks happen only in fork servers, which have none of these.

What is forked from what
------------------------
    agent --exec--> fork server of supervisors --fork--> supervisor of a run
                                                           |  forks, before it has an event loop:
                                                           +-----> fork server of workers
                                                                      +--fork--> worker, worker, ...

    engine --exec--> first process of a container: a fork server --fork--> supervisor of a run, ...

There is one fork server of supervisors for each combination of interpreter, its options, and
version of dagnb's code (agent/hosts.py), and a few that have imported packages of the user as well
(agent/import_servers.py). A fork server of workers belongs to one run. Both run this
loop; they differ in what they fork (`kinds`) and in whether their children outlive them
(`ends_children`):

                                  children              when this process or its connection ends
    fork server of supervisors    supervisors           they live on: an agent finds their locks
    fork server of workers        workers of a run      they are killed: no supervisor watches them
    first process of a container  supervisors           they are killed, with the container

States of a child
-----------------
    state      entered when                                 leaves it when
    forked     fork() returned; it leads a process group    it ends, by itself or by a signal
    zombie     it ended; its pid is still taken             its process group has been killed
    reaped     waitpid() returned; the pid is free          (final) "exited" is sent

Between "forked" and "zombie" the child may start processes of its own, which are in its group. They
are killed while the child is a zombie: as long as its pid is taken, no unrelated group can have the
same number. For the same reason only this process, the parent, sends signals: another sender could
hit a process that got the pid of a child that has ended.

Messages
--------
One JSON object a line; file descriptors of a child travel beside its line (SCM_RIGHTS).

    request to the fork server                  answers and reports
    {"spawn": kind, "name": its name,           {"started": name, "pid": pid}, or
     "args": {...}, "fds": how many}            {"failed": name, "reason": text of the OSError}
    {"signal": number, "name": child}           none; goes to the child's whole group
    {"ask": number, ...}                        {"answered": number, ...}, as `answer` gives it
    {"who": true}                               {"children": {"children": [name, ...], **facts}}
    {"leave": true}                             none; the loop ends, and `deserted` stays False
                                                {"exited": name, "pid": pid, "status": of waitpid}

The end of the connection also ends the loop, with `deserted` True: the other side died.

Surprising lines, and what would break without them
---------------------------------------------------
- `set_wakeup_fd` and a handler for SIGCHLD that does nothing: `select` must wake for a request or
  for the end of a child, whichever comes first. With SIGCHLD's default action nothing would be
  written to the wake-up descriptor.
- `setpgid` in parent and child: a signal may be sent before the child's first line has run.
- `PR_SET_PDEATHSIG`, and a check of the parent afterwards: a fork server killed by SIGKILL cannot
  end its children itself. If it died before `prctl`, only the check ends the child.
- `gc.freeze()`: a collection in a child would write to every object and so copy shared memory.
- `os._exit` at the end of a child: a normal exit would wait for threads that user code left.

`ForkServerClient` is the other side: it requests children and learns of their ends, with asyncio.
Hosts of containers answer the same requests, and "ask" as well: see launchers/docker/host.py.
"""

from __future__ import annotations

import asyncio
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from dagnb.errors import LaunchError

# A function that a child runs with its arguments and file descriptors; returns its exit code.
Kind = Callable[[dict[str, Any], list[int]], int]

_READ_BYTES = 65536
_MAX_FDS = 16
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """The work of a forked child: `ForkServer.serve` returns it in the child only."""

    kind: Kind
    args: dict[str, Any]
    fds: list[int]


def run_child(child: Child) -> None:
    """Run a child to its end; an exception goes up to the interpreter, which prints it."""
    code = child.kind(child.args, child.fds)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # without waiting for threads that user code left behind


@dataclass(frozen=True, slots=True)
class Pipes:
    """A connection of two pipes, as in a container; unlike a socket it cannot pass descriptors."""

    reading: int
    writing: int

    def fileno(self) -> int:
        """Returns the descriptor that becomes readable."""
        return self.reading

    def sendall(self, data: bytes) -> None:
        """Write all of the data."""
        while data:
            n_written = os.write(self.writing, data)
            data = data[n_written:]

    def close(self) -> None:
        """Close both descriptors."""
        _close([self.reading, self.writing])


@dataclass(slots=True)
class ForkServer:
    """The loop of a fork server.

    kinds: what it can fork, by the name used in requests. ends_children: whether its children are
    killed when it ends or its connection does. keep: its own descriptors, closed in children.
    idle_limit_s: seconds without a child and without a message after which it ends; None: never.
    facts: added to the answer to "who". answer: answers "ask". on_last_exit: called when the last
    child has ended, before its end is reported. deserted: set when the connection ended without a
    "leave".
    """

    control: socket.socket | Pipes
    kinds: Mapping[str, Kind]
    ends_children: bool
    keep: tuple[int, ...] = ()
    idle_limit_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    answer: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    on_last_exit: Callable[[], None] | None = None
    deserted: bool = False
    _children: dict[str, int] = field(default_factory=dict)
    _fds: list[int] = field(default_factory=list)
    _text: bytes = b""
    _is_leaving: bool = False

    def serve(self) -> Child | None:
        """Serve requests. Returns the work in each forked child, None in the fork server itself."""
        exits, control = self._prepare(), self.control.fileno()
        while not self._is_leaving:
            ready, _, _ = select.select([control, exits], [], [], self.idle_limit_s)
            if not ready and not self._children:
                self._is_leaving = True

            # Exits first: a name may be used again as soon as its child was reported.
            if exits in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(exits, _READ_BYTES)
                self._reap()

            if control in ready:
                child = self._read_requests()
                if child is not None:
                    os.close(exits)
                    return child
        if self.ends_children:
            self._end_children()
        return None

    def _prepare(self) -> int:
        """Set signals and limits. Returns a descriptor that becomes readable when a child ends."""
        # A task that crashes must not fill the disk, and no child may raise the limit again.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        if hasattr(os, "pipe2"):
            exits, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            exits, wakeup = os.pipe()  # macOS
        os.set_blocking(wakeup, False)
        # No warning when the pipe is full: the loop wakes all the same, and reaps all that ended.
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        # Ctrl-C in a terminal goes to the whole process group; only children may act on it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.keep = (*self.keep, wakeup)

        gc.freeze()  # imported objects stay shared between parent and children
        return exits

    def _read_requests(self) -> Child | None:
        """Handle the requests that have arrived. Returns a child's work in the child."""
        try:
            data, fds = _receive(self.control)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self.deserted = self._is_leaving = True
            return None

        # Descriptors arrive no later than the line they belong to, and in the order of the lines.
        self._fds += fds
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            child = self._handle_request(json.loads(line))
            if child is not None:
                return child
        return None

    def _handle_request(self, request: dict[str, Any]) -> Child | None:
        if "spawn" in request:
            return self._spawn(request)
        if "signal" in request:
            self._signal(request["name"], request["signal"])
        elif "ask" in request and self.answer is not None:
            self._send({"answered": request["ask"], **self.answer(request)})
        elif "who" in request:
            self._send({"children": {"children": list(self._children), **self.facts}})
        elif "leave" in request:
            self._is_leaving = True
        return None

    def _spawn(self, request: dict[str, Any]) -> Child | None:
        name, n_fds = request["name"], request.get("fds", 0)
        fds, self._fds = self._fds[:n_fds], self._fds[n_fds:]

        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"failed": name, "reason": str(error)})
            _close(fds)
            return None
        if pid == 0:
            self._become_child(parent)
            return Child(self.kinds[request["spawn"]], request["args"], fds)

        # The child calls it, too: whichever of the two runs first makes the group.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        _close(fds)
        self._children[name] = pid
        self._send({"started": name, "pid": pid})
        return None

    def _become_child(self, parent: int) -> None:
        """Undo the set-up of the fork server; lead a group that can be killed as a whole."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setpgid(0, 0)
        if self.ends_children and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before prctl() took effect
                os._exit(1)
        self.control.close()
        _close([*self.keep, *self._fds])

    def _signal(self, name: str, number: int) -> None:
        if (pid := self._children.get(name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _reap(self) -> None:
        """Report every child that has ended, and kill what it started and left running."""
        # One SIGCHLD may report several children, because signals do not queue.
        while (ended := _reap_one()) is not None:
            self._on_exit(*ended)

    def _on_exit(self, pid: int, status: int) -> None:
        name = next((name for name, child in self._children.items() if child == pid), None)
        if name is None:
            return  # an orphaned process of the container, which became a child of this one
        del self._children[name]
        if self.on_last_exit is not None and not self._children:
            self.on_last_exit()
        self._send({"exited": name, "pid": pid, "status": status})

    def _send(self, message: dict[str, Any]) -> None:
        # When the other side is gone, reading returns nothing, and the loop ends there.
        with contextlib.suppress(ConnectionError):
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def _end_children(self) -> None:
        for name in tuple(self._children):
            self._signal(name, signal.SIGKILL)
        while self._children:
            pid, status = os.wait()
            self._on_exit(pid, status)


def _receive(control: socket.socket | Pipes) -> tuple[bytes, list[int]]:
    if isinstance(control, Pipes):
        return os.read(control.reading, _READ_BYTES), []
    data, fds, _, _ = socket.recv_fds(control, _READ_BYTES, _MAX_FDS)
    return data, fds


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: a Python handler makes the wake-up descriptor readable, SIG_DFL does not."""


def _reap_one() -> tuple[int, int] | None:
    """Kill the group of a child that has ended. Returns its pid and status; None without one."""
    try:
        if not hasattr(os, "waitid"):
            # macOS before Python 3.13: the pid is free a moment before the group is killed.
            pid, status = os.waitpid(-1, os.WNOHANG)
            _kill_group(pid)
            return (pid, status) if pid else None
        # WNOWAIT leaves the child a zombie, so that its pid stays taken.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    _kill_group(ended.si_pid)
    return os.waitpid(ended.si_pid, 0)


def _kill_group(pid: int) -> None:
    # 0 would mean our own group. macOS refuses to signal a group that has only zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pid:
            os.killpg(pid, signal.SIGKILL)


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a child. status: as waitpid gives it."""

    name: str
    pid: int
    status: int

    @property
    def code(self) -> int:
        """The exit code, or minus the signal."""
        return os.waitstatus_to_exitcode(self.status)


class ForkServerClient:
    """A connection to a fork server.

    exits: the children that ended, in order; then None, once, when the fork server is gone.
    is_gone: whether the fork server is gone. pid: of the fork server, 0 if it is not known.
    """

    def __init__(self, control: socket.socket, pid: int = 0) -> None:
        control.setblocking(False)
        self._control, self.pid = control, pid
        self._writing = asyncio.Lock()
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n_asked = 0
        self.is_gone = False
        self.exits: asyncio.Queue[Exit | None] = asyncio.Queue()

    async def listen(self) -> None:
        """Read messages until the fork server is gone; run this as a task."""
        text = b""
        while data := await self._read():
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                self._handle_message(json.loads(line))

        # is_gone first: a caller that is woken below must not send another request.
        self.is_gone = True
        waiting: list[asyncio.Future[Any]] = [*self._starting.values(), *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(_gone())
        self._starting.clear()
        self._answers.clear()
        self.exits.put_nowait(None)

    async def spawn(
        self, kind: str, name: str, args: dict[str, Any], fds: Sequence[int] = ()
    ) -> int:
        """Fork a child and return its pid. Raises LaunchError."""
        if self.is_gone:
            raise _gone()
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starting[name] = started
        await self._send({"spawn": kind, "name": name, "args": args, "fds": len(fds)}, fds)
        return await started

    async def ask(self, about: dict[str, Any]) -> dict[str, Any]:
        """Returns a host's answer to a question. Raises LaunchError when it ends before that."""
        if self.is_gone:
            raise _gone()
        self._n_asked += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._n_asked] = answer
        await self._send({"ask": self._n_asked, **about})
        return await answer

    async def signal(self, name: str, number: signal.Signals) -> None:
        """Signal a child and all that it started; does nothing when it has ended."""
        await self._send({"signal": int(number), "name": name})

    async def leave(self) -> None:
        """Ask the fork server to end."""
        await self._send({"leave": True})

    def close(self) -> None:
        """Close the connection, which ends a fork server of workers."""
        self._control.close()

    async def _read(self) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._control, _READ_BYTES)
        except OSError:
            return b""

    async def _send(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Write one line. A fork server that is gone is noticed by `listen`, not here."""
        line = json.dumps(request).encode() + b"\n"
        # One writer at a time: descriptors are matched to lines by their order.
        async with self._writing:
            with contextlib.suppress(ConnectionError):
                n_sent = await self._send_fds(line, fds) if fds else 0
                await asyncio.get_running_loop().sock_sendall(self._control, line[n_sent:])

    async def _send_fds(self, line: bytes, fds: Sequence[int]) -> int:
        # asyncio has no call that sends descriptors. Polling is enough: a full socket is rare.
        while True:
            try:
                return socket.send_fds(self._control, [line], list(fds))
            except BlockingIOError:
                await asyncio.sleep(0.001)

    def _handle_message(self, message: dict[str, Any]) -> None:
        if "exited" in message:
            self.exits.put_nowait(Exit(message["exited"], message["pid"], message["status"]))
            return
        if "answered" in message:
            answer = self._answers.pop(message["answered"])
            if not answer.done():  # else its caller was cancelled
                answer.set_result(message)
            return

        name = message.get("started") or message["failed"]
        started = self._starting.pop(name, None)
        if started is None or started.done():
            return
        if "started" in message:
            started.set_result(message["pid"])
        else:
            reason = message["reason"]
            started.set_exception(
                LaunchError(f"a process could not be forked: {reason}. Free memory or processes.")
            )


def _gone() -> LaunchError:
    return LaunchError("the fork server is gone. Start the run again; `dagnb doctor` tells more.")
