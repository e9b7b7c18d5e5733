"""The processes of a run on this machine: a fork server of supervisors, and what they fork.

    agent --exec--> fork server --fork--> supervisor of run A --fork--> fork server --fork--> worker
                                |                                                  |--fork--> worker
                                |--fork--> supervisor of run B ...

Every fork happens in a process with one thread and no event loop (fork_server.py says why). Hence
the order in `supervise`: lock, environment, fork of the workers' fork server, and only then the
event loop of the supervisor.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

from dagnb.protocol.invocation import Invocation
from dagnb.storage import segments
from dagnb.storage.broker import files_of
from dagnb_workers.hosting.fork_server import ForkServer, ForkServerClient, run_child
from dagnb_workers.hosting.history_writer import keep_in_history
from dagnb_workers.hosting.interpreter import plain_environment, program
from dagnb_workers.hosting.past_imports import PastImports
from dagnb_workers.hosting.run_locks import RunRecord, acquire_lock
from dagnb_workers.hosting.supervisor import (
    END_WHEN_IDLE,
    OnImports,
    Supervisor,
    note_nothing,
)
from dagnb_workers.surroundings.aspects import report_crashes, report_no_end
from dagnb_workers.surroundings.early_import import EARLY
from dagnb_workers.surroundings.left_behind import end_processes
from dagnb_workers.surroundings.output import Capture
from dagnb_workers.surroundings.surroundings import Surroundings
from dagnb_workers.worker.shared_status import SharedStatus

# The work of a worker process: (invocation, instance, shared status) -> exit code.
Work = Callable[[Invocation, str, SharedStatus], int]

_PR_SET_DUMPABLE = 4

# Seconds that the workers of a supervisor that was killed may take to end.
PREDECESSOR_S = 5.0


def supervise(
    invocation_json: str,
    directory: Path,
    work: Work | None = None,
    on_imports: OnImports = note_nothing,
) -> int:
    """Start the workers of a run and return when it is over.

    Returns at once when another supervisor of the run lives. The exit code is 0, or another when
    the store stayed out of reach.
    """
    invocation = Invocation.from_json(invocation_json)
    record = RunRecord(directory, invocation.run)
    lock = acquire_lock(record.lock_file, wait_s=PREDECESSOR_S)
    if lock is None:
        return 0
    orphans = record.holder().instances  # read before this process writes its own
    record.write_holder(lock)

    # Before any user code is imported, which may read variables only once, at its import.
    Surroundings.of(invocation.surroundings).enter_environment(invocation.cpus)

    made = segments.make(directory, invocation.run, invocation.segment_bytes)
    invocation = replace(invocation, segments=made)
    arrays_fd = segments.open_arrays(files_of(invocation)) if invocation.arrays else -1
    invocation = replace(invocation, arrays_fd=arrays_fd)
    control, fork_server = _fork_server_of_workers(invocation, work or _default_work(), lock)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_instances = functools.partial(record.write_holder, lock)
    client = ForkServerClient(control)
    supervisor = Supervisor(invocation, client, orphans, write_instances, on_imports)
    asyncio.run(supervisor.supervise())

    # The fork server holds the lock too: it must end before the record is removed.
    os.waitpid(fork_server, 0)
    # Segments before the record: the agent removes those that are left of runs without a record.
    segments.remove(directory, invocation.run)
    if arrays_fd >= 0:
        os.close(arrays_fd)  # the history, which is written next, needs none of that memory
    record.remove()
    os.close(lock)
    return supervisor.exit_code


def _fork_server_of_workers(
    invocation: Invocation, work: Work, lock: int
) -> tuple[socket.socket, int]:
    """Returns the connection to a new fork server of workers, and its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid

    ours.close()
    # This process needs a group of its own: the supervisor's group is killed when the supervisor
    # ends, but this process must live on to end the workers.
    os.setpgid(0, 0)
    kinds = {"worker": functools.partial(_worker, invocation, work)}
    # The lock is kept by the fork server and closed in workers: see run_locks.py.
    child = ForkServer(theirs, kinds, ends_children=True, keep=(lock,)).serve()
    if child is not None:
        run_child(child)
    os._exit(0)


def _worker(invocation: Invocation, work: Work, args: dict[str, Any], fds: list[int]) -> int:
    """Run a worker process: prepare it for user code, then work."""
    logging.getLogger().handlers.clear()  # in a worker, logging belongs to the user's code
    signal.signal(END_WHEN_IDLE, signal.SIG_DFL)
    if sys.platform == "linux":
        # The first process of a container made itself and its children undumpable. A worker is the
        # task's own process, which the task may inspect.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)

    status, capture = SharedStatus(fds[0]), Capture.of(fds[1], fds[2])
    capture.start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    report_crashes()
    os.register_at_fork(after_in_child=report_no_end)
    # When memory runs out, the kernel should kill this process rather than one that watches it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")

    if args["again"]:
        invocation = invocation.again()
    code = work(invocation, args["instance"], status)
    end_processes()
    return code


def _default_work() -> Work:
    # `main` has imported the module already. Tests pass other work and never import it.
    work: Work = importlib.import_module("dagnb_workers.worker.main").work
    return work


def _supervisor(directory: Path, args: dict[str, Any], fds: list[int]) -> int:
    """Run a supervisor process, in the environment of the client that launched the run."""
    past = PastImports.of(directory, args)
    past.begin()
    code = supervise(args["invocation"], directory, on_imports=past.add)
    # Done last, when the run's record is removed, so that no client waits for it.
    asyncio.run(keep_in_history(Invocation.from_json(args["invocation"])))
    return code


def main(argv: Sequence[str]) -> int:
    """Run a fork server of supervisors; the agent executes this.

    argv: descriptor of the connection to the agent, runtime directory, the agent's idle_s.
    """
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    directory = Path(argv[1])
    # Imported once, so that all workers share the memory. An error is ignored: a supervisor that
    # meets it again cancels its run.
    with contextlib.suppress(ImportError):
        importlib.import_module("dagnb_workers.worker.main")

    control = socket.socket(fileno=int(argv[0]))
    kinds = {"supervisor": functools.partial(_supervisor, directory)}
    fork_server = ForkServer(control, kinds, ends_children=False, answer=EARLY.answer)
    child = fork_server.serve()
    if child is not None:
        run_child(child)
    control.close()

    if fork_server.deserted and directory.exists():
        # The agent was killed. This process becomes an agent: otherwise the embedded server would
        # run for ever if no client comes back. With --heir it exits at once if nothing is left.
        arguments = ["--heir", "--directory", str(directory), "--idle-s", argv[2]]
        agent = program("dagnb_workers.agent.agent", arguments)
        os.execve(agent[0], agent, plain_environment())  # noqa: S606  # a list, no shell
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
