"""Processes for tests: supervisors with workers that misbehave on purpose, which pytest can end.

Run as a program it is a fork server of supervisors; their workers run the function named by
`work`.
"""

from __future__ import annotations

import asyncio
import collections
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from dagnb_workers.hosting import supervisor
from dagnb_workers.hosting.fork_server import ForkServer, run_child
from dagnb_workers.hosting.run_host import supervise
from dagnb_workers.surroundings.surroundings import THREAD_SETTINGS
from dagnb_workers.worker.shared_status import SharedStatus

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Status
from dagnb.storage.open import open_store

T = TypeVar("T")
Act = Callable[[Offer, SharedStatus], None]


# ---- for the tests ----


def eventually(look: Callable[[], T], limit_s: float = 10.0) -> T:
    """Returns the value of `look` as soon as it is true."""
    deadline = time.monotonic() + limit_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.005)
    return seen


def is_running(pid: int) -> bool:
    """Returns whether the process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):  # the second when it ends between open and read
        return False


def parent(pid: int) -> int:
    """The pid of its parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def end(pids: Iterable[int]) -> None:
    """Kill processes this test started."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Stage:
    """The client of this program."""

    def __init__(self, control: socket.socket) -> None:
        self._control, self._messages, self._n = control, control.makefile("rb"), 0

    def supervise(
        self, invocation: Invocation, directory: Path, work: str, **settings: float
    ) -> tuple[str, int]:
        """Start a supervisor; returns its name here and its pid.

        settings: constants of its module to change.
        """
        self._n += 1
        name = str(self._n)
        args = {
            "invocation": invocation.to_json(),
            "directory": str(directory),
            "work": work,
            "settings": settings,
        }
        self._send({"spawn": "supervisor", "name": name, "args": args})
        return name, self._wait_for("started", name)["pid"]

    def exit_code(self, name: str) -> int:
        """Waits for the supervisor's end and returns its exit code."""
        return os.waitstatus_to_exitcode(self._wait_for("exited", name)["status"])

    def close(self) -> None:
        """Let go of the connection."""
        self._messages.close()

    def _send(self, request: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(request).encode() + b"\n")

    def _wait_for(self, what: str, name: str) -> dict[str, Any]:
        for line in self._messages:
            message: dict[str, Any] = json.loads(line)
            if message.get(what) == name:
                return message
        raise AssertionError("the stage ended")


@contextmanager
def stage() -> Iterator[Stage]:
    """A running stage."""
    here, there = socket.socketpair()
    here.settimeout(30)
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(there.fileno())],
        pass_fds=[there.fileno()],
        start_new_session=True,
    )
    there.close()
    try:
        with here, closing(Stage(here)) as made:
            yield made
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()


# ---- what workers do ----


def _note_pid(invocation: Invocation, name: str, pid: int) -> None:
    with Path(os.environ["STAGE_DIRECTORY"], f"{name}-{pid}").open("w") as file:
        file.write(json.dumps({setting: os.environ.get(setting) for setting in THREAD_SETTINGS}))


def _working(act: Act) -> Callable[[Invocation, str, SharedStatus], int]:
    """A worker that does `act` on each task and completes it; interrupted, it fails it."""

    async def work(invocation: Invocation, instance: str, page: SharedStatus) -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio.run took it
        store = await open_store(invocation.store, namespace=invocation.namespace)
        while (
            reply := await store.register(invocation.run, instance, lease_s=invocation.lease_s)
        ).status != Status.STOP:
            for offer in reply.offers:
                try:
                    act(offer, page)
                except KeyboardInterrupt:
                    page.end()
                    error = (
                        "TimeLimit"
                        if page.timed_out(offer.task, offer.attempt)
                        else "KeyboardInterrupt"
                    )
                    failure = Failure(
                        task=offer.task,
                        attempt=offer.attempt,
                        error=json.dumps({"type": error, "message": ""}),
                    )
                    await store.fail(invocation.run, instance, failure)
                    continue
                page.end()
                commit = Commit(task=offer.task, address=Address("t", 1), blob=b"x")
                await store.complete(invocation.run, instance, [commit], want=0)
            if not reply.offers:
                await store.wait_work(invocation.run, 0.5)
        await store.close()
        return 0

    def run(invocation: Invocation, instance: str, page: SharedStatus) -> int:
        _note_pid(invocation, "worker", os.getpid())
        return asyncio.run(work(invocation, instance, page))

    return run


def _first_time(act: Callable[[], None], limit_s: float = 0.0) -> Act:
    """Does it at the first attempt only."""

    def once(offer: Offer, page: SharedStatus) -> None:
        page.begin(offer.task, offer.attempt, limit_s)
        if offer.attempt == 1:
            act()

    return once


def _die() -> None:
    print("last words", file=sys.stderr)  # noqa: T201
    print("last print")  # noqa: T201
    os.kill(os.getpid(), signal.SIGKILL)


def _crash() -> None:
    ctypes.string_at(0)


def _spin_in_c() -> None:
    collections.deque(
        itertools.repeat(1), maxlen=0
    )  # never comes back to the interpreter, never lets go of the GIL


def _spin() -> None:
    while True:
        pass


def _spin_deaf() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _spin()


def _start_children(offer: Offer, page: SharedStatus) -> None:
    page.begin(offer.task, offer.attempt)
    child = subprocess.Popen(["sleep", "600"])
    Path(os.environ["STAGE_DIRECTORY"], f"child-{child.pid}").touch()
    signal.pause()


def _wait_deaf(offer: Offer, page: SharedStatus) -> None:
    page.begin(offer.task, offer.attempt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        signal.pause()


def _stillborn(invocation: Invocation, instance: str, page: SharedStatus) -> int:
    _note_pid(invocation, "worker", os.getpid())
    raise RuntimeError("no luck")


WORKS: dict[str, Callable[[Invocation, str, SharedStatus], int]] = {
    "obey": _working(_first_time(lambda: None)),
    "die": _working(_first_time(_die)),
    "exit": _working(_first_time(lambda: os._exit(7))),
    "crash": _working(_first_time(_crash)),
    "spin": _working(_first_time(_spin, 0.2)),
    "spin_in_c": _working(_first_time(_spin_in_c, 0.2)),
    "spin_deaf": _working(_first_time(_spin_deaf, 0.2)),
    "wait": _working(_first_time(signal.pause)),
    "wait_deaf": _working(_wait_deaf),
    "start_children": _working(_start_children),
    "stillborn": _stillborn,
}


def _supervisor(args: dict[str, Any], fds: list[int]) -> int:
    for setting, value in args["settings"].items():
        setattr(supervisor, setting, value)
    os.environ["STAGE_DIRECTORY"] = args["directory"]
    return supervise(args["invocation"], Path(args["directory"]), WORKS[args["work"]])


if __name__ == "__main__":
    child = ForkServer(
        socket.socket(fileno=int(sys.argv[1])), {"supervisor": _supervisor}, ends_children=False
    ).serve()
    if child is not None:
        run_child(child)
