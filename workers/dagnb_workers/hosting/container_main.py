"""The first process in a container: imports what workers need, then forks a supervisor per run.

Its standard input and output are the connection to the fleet outside; the messages are those of a
fork server. First it writes one line, {"ready": {...}}, with the versions in the container and the
moments of its start. It runs no user code, reaps every orphaned process of the container, and ends
when it has no child and got no message of its fleet for IDLE_LIMIT_S.
"""

from __future__ import annotations

import time

_BEGUN = time.time()

import contextlib  # noqa: E402  # _BEGUN must be set before anything else runs in the container
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
from dagnb_workers.hosting.fork_server import ForkServer, Pipes, run_child  # noqa: E402
from dagnb_workers.hosting.run_host import supervise  # noqa: E402
from dagnb_workers.hosting.supervisor import END_WHEN_IDLE  # noqa: E402

_PR_SET_DUMPABLE = 4

# The only folder that can be written to, unless the user has mounted more.
SCRATCH = Path("/tmp")  # noqa: S108  # the container's own

# Seconds without a message after which an idle container ends, because its fleet is gone.
IDLE_LIMIT_S = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the fleet asks this process to leave, or is gone. argv: not used."""
    pipes = Pipes(os.dup(0), os.dup(1))
    # Output of forked processes must not be read as messages: their stdout becomes stderr.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # Tasks have the same uid, and must not open this process's descriptors in /proc: the kernel
    # forbids it if the process is not dumpable.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
    signal.signal(END_WHEN_IDLE, signal.SIG_IGN)  # else it would end a supervisor without handler
    # The kernel ignores signals to the first process of a container unless it has a handler.
    signal.signal(signal.SIGTERM, _exit)
    os.environ["DAGNB_HOME"] = str(SCRATCH / "dagnb")
    importlib.import_module("dagnb_workers.worker.main")

    facts = {"versions": versions(), "begun": _BEGUN, "imported": time.time()}
    pipes.sendall(json.dumps({"ready": facts}).encode() + b"\n")
    child = ForkServer(
        pipes,
        {"run": _supervise_run},
        ends_children=True,
        idle_limit_s=IDLE_LIMIT_S,
        facts=facts,
        on_last_exit=clean_up,
    ).serve()
    if child is not None:
        run_child(child)
    return 0


def _supervise_run(args: dict[str, Any], fds: list[int]) -> int:
    with contextlib.suppress(OSError):
        os.chdir(SCRATCH)
    return supervise(args["invocation"], runtime_directory())


def clean_up() -> None:
    """Remove all processes and files that a run left, before the next run comes.

    If that fails, the container ends, which removes them as well.
    """
    # In tests this runs outside a container, where kill(-1) would end all processes of the user.
    if os.getpid() != 1:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all processes of the container but this one
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass
    empty(SCRATCH)
    if any(SCRATCH.iterdir()):
        sys.exit(1)


def empty(folder: Path) -> None:
    """Remove everything below a folder, except what is mounted there."""
    device = folder.stat().st_dev
    # A task may have taken permissions of folders away: first make all of them readable, top down.
    for path, _, _ in os.walk(folder):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                Path(entry.path).chmod(0o700)

    # Then remove, bottom up, because only an empty folder can be removed.
    for path, folders, files in os.walk(folder, topdown=False):
        parent = Path(path)
        if parent.stat().st_dev != device:
            continue  # mounted by the user
        for child in [parent / name for name in (*files, *folders)]:
            with contextlib.suppress(OSError):
                if child.is_dir() and not child.is_symlink():
                    child.rmdir()
                else:
                    child.unlink()


def _exit(number: int, frame: object) -> None:
    """End this process, and with it, as it is the first one, all others of the container."""
    sys.exit(0)
