"""How the processes of a run come to be.

    agent --exec--> nursery --fork--> supervisor of run A --fork--> nursery --fork--> worker, worker, ...
                            --fork--> supervisor of run B ...

Every fork happens in a process with one thread and no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagnb.protocol.invocation import Invocation
from dagnb_workers.hosting.fork_server import ForkServer, live
from dagnb_workers.hosting.fork_server_client import ForkServerClient
from dagnb_workers.hosting.history_writer import keep_in_history
from dagnb_workers.hosting.interpreter import plain_environment, program
from dagnb_workers.hosting.run_locks import RunRecord, hold
from dagnb_workers.hosting.supervisor import HURRY, Supervisor
from dagnb_workers.surroundings.aspects import report_crashes, report_no_end
from dagnb_workers.surroundings.left_behind import end_processes
from dagnb_workers.surroundings.output import Capture
from dagnb_workers.surroundings.surroundings import Surroundings
from dagnb_workers.worker.shared_status import SharedStatus

Work = Callable[[Invocation, str, SharedStatus], int]

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Numeric libraries read them once, when they are imported; so they are set before any user code is."""

_PR_SET_DUMPABLE = 4

PREDECESSOR_S = 5.0
"""How long the workers of a supervisor that was killed may take to go."""


def supervise(invocation_json: str, directory: Path, work: Work | None = None) -> int:
    """Start the workers of a run and return when it is over; at once when another supervisor lives for it.

    Returns an exit code: 0, or not when the store stayed out of reach.
    """
    invocation = Invocation.from_json(invocation_json)
    entry = RunRecord(directory, invocation.run)
    lock = hold(entry.lock, wait_s=PREDECESSOR_S)
    if lock is None:
        return 0
    orphans = entry.holder().instances
    entry.sign(lock)
    Surroundings.of(invocation.surroundings).enter_environment()
    for name in THREAD_SETTINGS:
        os.environ.setdefault(name, str(max(1, int(invocation.cpus))))
    control, nursery = _fork_nursery(invocation, work or _default_work(), lock)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = asyncio.run(
        _watch_over(invocation, control, orphans, functools.partial(entry.sign, lock))
    )
    os.waitpid(nursery, 0)
    entry.strike()
    os.close(lock)
    return code


async def _watch_over(
    invocation: Invocation,
    control: socket.socket,
    orphans: Sequence[str],
    tell: Callable[[Sequence[str]], None],
) -> int:
    supervisor = Supervisor(invocation, ForkServerClient(control), orphans, tell)
    await supervisor.watch_over()
    return supervisor.exit_code


def _fork_nursery(invocation: Invocation, work: Work, lock: int) -> tuple[socket.socket, int]:
    """The connection to a nursery of workers, and its pid."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid:
        there.close()
        return here, pid
    here.close()
    os.setpgid(0, 0)  # its supervisor's group may be killed; it must live on to end the workers
    born = ForkServer(
        there, {"worker": functools.partial(_worker, invocation, work)}, mortal=True, keep=(lock,)
    ).serve()
    if born is not None:
        live(born)
    os._exit(0)


def _worker(invocation: Invocation, work: Work, args: dict[str, Any], fds: list[int]) -> int:
    """What a worker process does."""
    logging.getLogger().handlers.clear()  # logging belongs to the user's code here
    signal.signal(HURRY, signal.SIG_DFL)
    if (
        sys.platform == "linux"
    ):  # in a container its ancestors closed themselves to tasks; this is the task's own
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)
    page, capture = SharedStatus(fds[0]), Capture.of(fds[1], fds[2])
    capture.start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    report_crashes()
    os.register_at_fork(after_in_child=report_no_end)
    with contextlib.suppress(OSError):  # when memory runs out, take the task and not who watches it
        Path("/proc/self/oom_score_adj").write_text("1000")
    code = work(invocation.again() if args["again"] else invocation, args["instance"], page)
    end_processes()
    return code


def _default_work() -> Work:
    work: Work = importlib.import_module("dagnb_workers.worker.main").work
    return work


def _supervisor(directory: Path, args: dict[str, Any], fds: list[int]) -> int:
    """What a supervisor process does, in the environment of who asked for the run: at last, see that it is kept."""
    code = supervise(args["invocation"], directory)
    asyncio.run(
        keep_in_history(Invocation.from_json(args["invocation"]))
    )  # the run is struck: this keeps nobody waiting
    return code


def main(argv: Sequence[str]) -> int:
    """What the agent executes: a nursery of supervisors. argv: descriptor of its connection, directory, agent's idle_s.

    The agent gone without a word, it becomes the agent: somebody must stop the server when nobody comes back.
    """
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    directory = Path(argv[1])
    with contextlib.suppress(
        ImportError
    ):  # a worker that needs it says so, where people can read it
        importlib.import_module("dagnb_workers.worker.main")
    control = socket.socket(fileno=int(argv[0]))
    nursery = ForkServer(
        control, {"supervisor": functools.partial(_supervisor, directory)}, mortal=False
    )
    born = nursery.serve()
    if born is not None:
        live(born)
    control.close()
    if nursery.deserted and directory.exists():
        agent = program(
            "dagnb_workers.agent.agent",
            ["--heir", "--directory", str(directory), "--idle-s", argv[2]],
        )
        os.execve(agent[0], agent, plain_environment())  # noqa: S606  # a list, no shell
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
