"""One container of the fleet: creates, starts, renames and removes it, and sends it requests.

Calls of the engine block, so they happen in threads. allocation.py has the states of a container.

The connection to the first process in a container goes through the engine's attach stream. It works
wherever the engine is and needs no socket in the container, and only those who may use the engine
can write to it. The SDK reads with blocking calls. So a thread reads, and passes each message to
the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker.errors
import requests

from dagnb.errors import LaunchError
from dagnb_workers.hosting.supervisor import END_WHEN_IDLE
from dagnb_workers.launchers.docker.allocation import ContainerFacts, ContainerState
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.image.images import REPOSITORY
from dagnb_workers.launchers.docker.spec import (
    RUN,
    WORKER,
    Spec,
    create_arguments,
)

_STREAMS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}

# Head of a frame of the engine: 1 for stdout or 2 for stderr, three unused bytes, number of bytes.
_HEAD = struct.Struct(">BxxxL")

_STDERR = 2
_KEPT_CHARACTERS = 2000
_READ_BYTES = 65536
_MAX_LINE_BYTES = 65536


class Wire:
    """A connection to a container's first process.

    on_message: called on the loop with each message, and with {"gone": True} at the end of the
    connection. stderr: the end of what the process wrote there.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_message: Callable[[dict[str, Any]], None]
    ) -> None:
        self._loop, self._on_message = loop, on_message
        self._stream: Any = None
        self._line, self._sending = b"", threading.Lock()
        self.stderr = ""

    def attach(self, container_id: str) -> None:
        """Join the container's input and output; start to listen. Blocks; raises engine errors."""
        self._stream = connect().api.attach_socket(container_id, params=_STREAMS)
        self._socket.settimeout(None)  # the SDK's time limit is meant for answers, not for a stream
        threading.Thread(
            target=self._listen, name=f"dagnb-wire-{container_id[:12]}", daemon=True
        ).start()

    def send(self, request: dict[str, Any]) -> None:
        """Write one line. Blocks; does nothing when the container is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")

    @property
    def _socket(self) -> Any:
        # On a local engine the SDK gives a wrapper that can only be read; its socket can do both.
        return getattr(self._stream, "_sock", self._stream)

    def _listen(self) -> None:
        try:
            for kind, data in self._frames():
                self._take(kind, data)
        finally:
            self._deliver({"gone": True})

    def _take(self, kind: int, data: bytes) -> None:
        """Split output into lines and deliver those that are messages.

        Other lines are dropped, and lines have a limit, because a task may write to this output.
        """
        if kind == _STDERR:
            self.stderr = (self.stderr + data.decode(errors="replace"))[-_KEPT_CHARACTERS:]
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            self._line = b""
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line[:_MAX_LINE_BYTES])
                # Only the end of the connection may say that the container is gone.
                if isinstance(message, dict) and "gone" not in message:
                    self._deliver(message)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yields (1 for stdout or 2 for stderr, data) as the engine interleaves them."""
        buffer = b""
        while data := self._receive():
            buffer += data
            # One read may hold several frames, or a part of one.
            while len(buffer) >= _HEAD.size:
                kind, n_bytes = _HEAD.unpack_from(buffer)
                end = _HEAD.size + n_bytes
                if len(buffer) < end:
                    break
                yield kind, buffer[_HEAD.size : end]
                buffer = buffer[end:]

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError):
            return b""
        return data

    def _deliver(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._on_message, message)


# Seconds that a container may take from its creation until its first process is ready.
READY_S = 60.0

_BEING_REMOVED = 409
_BAD_REQUEST = 400
ENGINE_ERRORS = (docker.errors.DockerException, requests.RequestException, OSError, LaunchError)


class ContainerError(LaunchError):
    """A container ended, or sent nothing, before it was ready."""


@dataclass(slots=True, eq=False)
class Container:
    """One container.

    name: dagnb's name for it, which never changes; the engine lists it by another name, which does.
    on_message: called with every message of its first process. run, kind, worker: for which it is
    lent or being started; '' for none. is_expected, is_resting: see allocation.ContainerFacts.
    idle_s: seconds without a run after which it is ended. idle_since, lent_since: monotonic
    seconds. created_at: epoch seconds. n_lent: how often it was lent. last_run: the run to which it
    was lent last.
    phases: (phase, begin, end) of its start, epoch seconds, until the first run has reported them.
    versions: of the Python and the packages in it. id: the engine's; '' before it is created.
    is_gone: its connection has ended.
    """

    name: str
    spec: Spec
    on_message: Callable[[Container, dict[str, Any]], None]
    state: ContainerState = ContainerState.STARTING
    run: str = ""
    kind: str = ""
    is_expected: bool = False
    is_resting: bool = False
    worker: str = ""
    idle_s: float = 60.0
    idle_since: float = 0.0
    created_at: float = field(default_factory=time.time)
    n_lent: int = 0
    last_run: str = ""
    phases: tuple[tuple[str, float, float], ...] = ()
    versions: str = ""
    id: str = ""
    is_gone: bool = False
    lent_since: float = 0.0
    _listed_name: str = ""
    _creating: asyncio.Future[None] | None = None
    _wire: Wire | None = None
    _messages: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    @property
    def stderr(self) -> str:
        """The end of what the container's first process wrote to stderr."""
        return self._wire.stderr.strip() if self._wire is not None else ""

    def facts(self) -> ContainerFacts:
        """Returns the container as the allocation sees it."""
        return ContainerFacts(
            name=self.name,
            spec=self.spec,
            state=self.state,
            run=self.run,
            kind=self.kind,
            is_expected=self.is_expected,
            is_resting=self.is_resting,
            idle_since=self.idle_since,
        )

    # ---- start -----------------------------------------------------------------------------------

    async def start(self, labels: Mapping[str, str]) -> None:
        """Create the container and wait until it is ready.

        Raises ContainerError, or the engine's error.
        """
        loop, begin = asyncio.get_running_loop(), time.time()
        # Shielded, because a thread cannot be cancelled: `remove` waits for it.
        self._creating = asyncio.ensure_future(asyncio.to_thread(self._create, loop, labels))
        await asyncio.shield(self._creating)
        created = time.time()

        facts = await self._answer("ready", READY_S)
        # The clock of the engine's machine may be a little behind this one.
        begun = max(created, facts["begun"])
        self.versions = facts["versions"]
        self.phases = (
            ("create", begin, created),
            ("boot", created, begun),
            ("import", begun, facts["imported"]),
        )

    async def adopt(self, container_id: str, wait_s: float) -> list[str]:
        """Take over a container that runs already. Raises ContainerError.

        Returns the runs that it works for.
        """
        self.id = container_id
        self._wire = Wire(asyncio.get_running_loop(), self._receive)
        await asyncio.to_thread(self._wire.attach, container_id)
        await self.send({"who": True})
        answer = await self._answer("children", wait_s)
        self.versions = answer["versions"]
        children: list[str] = answer["children"]
        return children

    def _create(self, loop: asyncio.AbstractEventLoop, labels: Mapping[str, str]) -> None:
        name = container_name(self.name, labels.get(RUN, ""), labels.get(WORKER, ""))
        self._listed_name = name  # before the call, which may create it even if it times out
        engine_container = connect().containers.create(**create_arguments(self.spec, name, labels))
        self.id = str(engine_container.id)
        self._wire = Wire(loop, self._receive)
        try:
            # Attached before it is started, so that its first line is not missed.
            self._wire.attach(self.id)
            engine_container.start()
        except BaseException:
            with contextlib.suppress(*ENGINE_ERRORS):
                engine_container.remove(force=True)
            raise

    # ---- while it runs ---------------------------------------------------------------------------

    async def send(self, request: dict[str, Any]) -> None:
        """Send a request to the container's first process."""
        if self._wire is not None:
            await asyncio.to_thread(self._wire.send, request)

    async def end_when_idle(self) -> None:
        """Ask the worker in the container to leave as soon as it has nothing to do."""
        await self.send({"signal": int(END_WHEN_IDLE), "name": self.run})

    async def rename(self, run: str, worker: str) -> None:
        """Rename the container in the engine's list, to show its present run and worker."""
        self.worker = worker
        name = container_name(self.name, run, worker)
        # Only people read this name, so errors are ignored.
        with contextlib.suppress(*ENGINE_ERRORS):
            await asyncio.to_thread(connect().api.rename, self.id, name)

    async def remove(self) -> bool:
        """End the container and all that runs in it. Returns whether it is certainly gone."""
        if self._creating is not None:
            with contextlib.suppress(*ENGINE_ERRORS):
                await asyncio.shield(self._creating)
        engine_name = self.id or self._listed_name
        if not engine_name:
            return True  # the engine was never asked to create it
        try:
            await asyncio.to_thread(connect().api.remove_container, engine_name, force=True)
        except docker.errors.NotFound:
            return True
        except ENGINE_ERRORS as error:
            # Without an id it may not exist at all, so the caller must not wait for its end.
            status = getattr(error, "status_code", None)
            return status == _BEING_REMOVED or not self.id
        return True

    def _receive(self, message: dict[str, Any]) -> None:
        self._messages.put_nowait(message)
        self.on_message(self, message)

    async def _answer(self, key: str, wait_s: float) -> dict[str, Any]:
        """Returns the content of the next message with this key; drops those before it."""
        try:
            async with asyncio.timeout(wait_s):
                while key not in (message := await self._messages.get()):
                    if "gone" in message:
                        raise ContainerError(
                            f"container {self.name} ended before it was ready. {self._written()}"
                        )
        except TimeoutError:
            raise ContainerError(
                f"container {self.name} was not ready in {wait_s:g} s. {self._written()}"
            ) from None
        answer: dict[str, Any] = message[key]
        return answer

    def _written(self) -> str:
        return f"It said: {self.stderr}" if self.stderr else "It said nothing."


def cure(error: BaseException, image: str) -> str:
    """Returns what the user must do if every container of the image would fail; '' otherwise."""
    if isinstance(error, docker.errors.ImageNotFound):
        return "Fetch it with `docker pull`, or leave image= out: dagnb then builds one"
    # An image that dagnb built starts the right program, so the cause may be a slow machine.
    if image.startswith(f"{REPOSITORY}:"):
        return ""
    # Another image may lack Python, or start another program.
    is_refused = isinstance(error, docker.errors.APIError) and error.status_code == _BAD_REQUEST
    if is_refused or isinstance(error, ContainerError):
        return (
            "An image of your own must start `python -m dagnb_workers.container` with dagnb "
            "installed: build it FROM one that `dagnb image build` made, or leave image= out"
        )
    return ""


def container_name(name: str, run: str, worker: str) -> str:
    """Returns the name in the engine's list: 'dagnb-<end of the run's id>-<worker>-<own name>'.

    Characters that the engine does not allow become '-'; empty parts are left out.
    """
    parts = ("dagnb", run[-6:].lower(), worker, name)
    clean = [re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.") for part in parts]
    return "-".join(filter(None, clean))
