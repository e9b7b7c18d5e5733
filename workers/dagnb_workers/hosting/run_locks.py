"""Lock files, which show what runs have live processes, and launch files, which can restart a run.

A run has two files in the private runtime directory (mode 0700):

    run-ID.lock   held by every process that works for the run; its content names the last holder
    run-ID.json   the launch request (mode 0600: it holds secrets); from it any agent can start
                  another supervisor

Both are removed when the run is over.

How a lock file is held: `flock` belongs to the open file, not to a process, and a forked child
inherits the open file. The supervisor takes the lock before it forks the fork server of its
workers, which keeps the descriptor open too. The kernel releases the lock when the last of these
descriptors is closed, however the processes ended. Hence:

- a killed supervisor does not free the lock while its fork server still has workers to end, so a
  second supervisor never runs beside workers of the first;
- no process has to clean up: there is no state "locked by a process that does not exist";
- the answer survives the agent, the notebook's kernel, and a restart of either.

Workers themselves close the descriptor: otherwise a daemon that a task starts would hold the lock
for ever. Their fork server ends all workers before it exits, and then the lock is free.
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

# Seconds for which a new agent waits for the lock of one that is starting or leaving.
LOCK_S = 10.0

_POLL_S = 0.01


def acquire_lock(path: Path, *, wait_s: float = 0.0) -> int | None:
    """Returns the descriptor that holds the lock, or None when it stayed locked for `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file before it released the lock. Then this
            # descriptor is of the removed file, and another process may lock a new file.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(fd)):
                return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(_POLL_S)
        except FileNotFoundError:
            pass  # removed between exists() and stat(): try again with a new file
        os.close(fd)


def acquire_agent_lock(directory: Path) -> int | None:
    """Returns the lock of the only agent of this directory; None when another agent answers.

    Raises LaunchError when an agent holds the lock for LOCK_S without answering.
    """
    deadline = time.monotonic() + LOCK_S
    while (lock := acquire_lock(directory / "agent.lock")) is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(directory / "agent.sock"))
            return None

        if time.monotonic() > deadline:
            raise LaunchError(
                f"another agent holds {directory / 'agent.lock'} but does not answer. "
                "End that process."
            )
        time.sleep(_POLL_S)  # the other agent is starting or leaving
    return lock


def is_locked(path: Path) -> bool:
    """Returns whether any process holds the lock; a missing file is not created."""
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
        os.close(fd)  # also releases the lock, if this call has taken it


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that last held the lock of a run, and its worker instances; pid 0 for none."""

    pid: int = 0
    instances: tuple[str, ...] = ()


class RunRecord:
    """The lock file and the launch file of one run."""

    def __init__(self, directory: Path, run: str) -> None:
        # The id becomes part of a path, which a slash or '..' could lead out of the directory.
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", run):
            raise LaunchError(
                f"{run!r} cannot name a run here. Use letters, digits, '-' and '_', 64 at most."
            )
        self.run = run
        self.lock_file = directory / f"run-{run}.lock"
        self.launch_file = directory / f"run-{run}.json"

    def write(self, launch: dict[str, Any]) -> None:
        """Store the launch request, from which a supervisor of the run can be started."""
        write_private(self.launch_file, json.dumps(launch).encode())

    def read(self) -> dict[str, Any] | None:
        """Returns the launch request; None when the run is over."""
        try:
            launch: dict[str, Any] = json.loads(self.launch_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return launch

    def is_alive(self) -> bool:
        """Returns whether a supervisor or a worker of the run lives."""
        return is_locked(self.lock_file)

    def holder(self) -> Holder:
        """Returns the last holder of the lock, which may have ended: see `is_alive`."""
        try:
            fields = json.loads(self.lock_file.read_bytes())
            return Holder(fields["pid"], tuple(fields["instances"]))
        except (FileNotFoundError, ValueError):  # never locked, or being written right now
            return Holder()

    def write_holder(self, lock: int, instances: Iterable[str] = ()) -> None:
        """Write this process and its worker instances into the locked file."""
        # Written in place: a new file, renamed to this name, would not be locked.
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "instances": list(instances)}).encode(), 0)

    def remove(self) -> None:
        """Remove both files: the run needs no process any more."""
        # The launch file goes first: an agent restarts a run that has one and no lock.
        self.launch_file.unlink(missing_ok=True)
        self.lock_file.unlink(missing_ok=True)


def run_records(directory: Path) -> list[RunRecord]:
    """Returns the records of all runs that have a launch file in the directory."""
    paths = sorted(directory.glob("run-*.json"))
    return [RunRecord(directory, path.stem.removeprefix("run-")) for path in paths]
