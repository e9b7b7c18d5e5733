"""The first process in a container: imports what workers need, then forks a supervisor for each run it is lent to.

Its standard input and output are the connection to the fleet outside, in the words of a nursery; before them goes one
line {"ready": {...}} with the versions in here and the moments it came to be. It reaps whatever is orphaned in the
container, runs no user code itself, and leaves when nobody has spoken to it for long.
"""

from __future__ import annotations

import time

_BEGUN = time.time()

import contextlib  # noqa: E402  # the moment above is Python's first line in here
import ctypes  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from dagnb.protocol.invocation import versions  # noqa: E402
from dagnb.storage.home import runtime_directory  # noqa: E402
from dagnb_workers.hosting.fork_server import ForkServer, Pipes, live  # noqa: E402
from dagnb_workers.hosting.run_host import supervise  # noqa: E402
from dagnb_workers.hosting.supervisor import HURRY  # noqa: E402

_PR_SET_DUMPABLE = 4

SCRATCH = Path("/tmp")  # noqa: S108  # the container's own
"""The only place that can be written to, unless the user has mounted more"""

PATIENCE_S = 120.0
"""An idle container whose fleet was not heard of for so long leaves: nobody would ever use or stop it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to leave, or forsaken. argv: none."""
    pipes = Pipes(os.dup(0), os.dup(1))
    os.dup2(
        os.open(os.devnull, os.O_RDONLY), 0
    )  # what forked processes print must not be taken for news
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(
        _PR_SET_DUMPABLE, 0
    )  # tasks have our uid, but shall not reach our descriptors
    signal.signal(HURRY, signal.SIG_IGN)  # until a supervisor listens to it
    signal.signal(
        signal.SIGTERM, _leave
    )  # the first process of a container hears only what it has a handler for
    os.environ["DAGNB_HOME"] = str(SCRATCH / "dagnb")
    importlib.import_module("dagnb_workers.worker.main")
    told = {"versions": versions(), "begun": _BEGUN, "imported": time.time()}
    pipes.sendall(json.dumps({"ready": told}).encode() + b"\n")
    born = ForkServer(
        pipes, {"run": _run}, mortal=True, patience_s=PATIENCE_S, told=told, tidy=tidy
    ).serve()
    if born is not None:
        live(born)
    return 0


def _run(args: dict[str, Any], fds: list[int]) -> int:
    """What the supervisor of a run does in here."""
    with contextlib.suppress(OSError):
        os.chdir(SCRATCH)
    return supervise(args["invocation"], runtime_directory())


def tidy() -> None:
    """Leave nothing of a run to the next: neither processes nor files. An error ends the container: as good."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all but ourselves
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass
    empty(SCRATCH)
    if any(SCRATCH.iterdir()):
        sys.exit(1)


def empty(folder: Path) -> None:
    """Remove what lies in a folder and below it, but nothing that is mounted there."""
    device = folder.stat().st_dev
    for place, _, _ in os.walk(folder):
        for below in os.scandir(place):
            if below.is_dir(follow_symlinks=False):
                Path(below.path).chmod(0o700)  # a task may have closed it
    for place, folders, files in os.walk(folder, topdown=False):
        here = Path(place)
        for name in [*files, *folders] if here.stat().st_dev == device else ():
            with contextlib.suppress(OSError):
                is_folder = (here / name).is_dir() and not (here / name).is_symlink()
                (here / name).rmdir() if is_folder else (here / name).unlink()


def _leave(number: int, frame: object) -> None:
    """End, and with the first process all others of the container."""
    sys.exit(0)
