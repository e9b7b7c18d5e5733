"""Which supervisors live, told by the file system, so that it outlives every process.

A lock is held by whoever has the file open, and the kernel lets go of it at the last one's death: the lock of a run is
free only when its supervisor, its nursery and so its workers are gone. Beside it lies the invocation (mode 0600, in the
private directory), from which whoever comes next can start another supervisor. Both go when the run is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagnb.errors import LaunchError
from dagnb.storage.home import write_private

LOCK_S = 10.0
_POLL_S = 0.01


def hold(path: Path, *, wait_s: float = 0.0) -> int | None:
    """Take the lock and return its descriptor, or None when somebody else holds it all the time."""
    deadline = time.monotonic() + wait_s
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(
                path.stat(), os.fstat(fd)
            ):  # else its last holder removed it meanwhile
                return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(_POLL_S)
        except FileNotFoundError:
            pass
        os.close(fd)


def lock_or_find(directory: Path) -> int | None:
    """The lock of the only agent; None when another one answers."""
    deadline = time.monotonic() + LOCK_S
    while (lock := hold(directory / "agent.lock")) is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.connect(str(directory / "agent.sock"))
            return None
        if time.monotonic() > deadline:
            raise LaunchError(
                f"another agent holds {directory / 'agent.lock'} but does not answer. End that process."
            )
        time.sleep(0.01)  # it is about to start, or to leave
    return lock


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Holder:
    """A supervisor and the instances it started; pid 0: none."""

    pid: int = 0
    instances: tuple[str, ...] = ()


class RunRecord:
    """One run in the runtime directory."""

    def __init__(self, directory: Path, run: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", run):
            raise LaunchError(
                f"{run!r} cannot name a run here. Use letters, digits, '-' and '_', 64 at most."
            )
        self.run = run
        self.lock = directory / f"run-{run}.lock"
        self.note = directory / f"run-{run}.json"

    def write(self, launch: dict[str, Any]) -> None:
        """Note how to start the run's supervisor."""
        write_private(self.note, json.dumps(launch).encode())

    def read(self) -> dict[str, Any] | None:
        """What was noted; None when the run is over."""
        try:
            launch: dict[str, Any] = json.loads(self.note.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return launch

    def is_alive(self) -> bool:
        """Whether a supervisor or a worker of the run lives."""
        return is_held(self.lock)

    def holder(self) -> Holder:
        """Who held the lock last; whether it still does, `is_alive` tells."""
        try:
            facts = json.loads(self.lock.read_bytes())
            return Holder(facts["pid"], tuple(facts["instances"]))
        except (FileNotFoundError, ValueError):  # nobody yet, or it is just being written
            return Holder()

    def sign(self, lock: int, instances: Iterable[str] = ()) -> None:
        """Tell who holds the lock: this process, with these workers."""
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "instances": list(instances)}).encode(), 0)

    def strike(self) -> None:
        """Remove it: the run needs nobody any more."""
        self.note.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)


def run_records(directory: Path) -> list[RunRecord]:
    """Every run noted in the directory."""
    return [RunRecord(directory, path.name[4:-5]) for path in sorted(directory.glob("run-*.json"))]
