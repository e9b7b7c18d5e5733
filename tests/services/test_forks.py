"""User code that forks: the new process neither waits for its parent's threads nor spoils its
connections.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conformance.agent import private_agent

pytestmark = pytest.mark.redis

START = """
import gc, os, sys, threading, multiprocessing
import dagnb
from dagnb import session, task
from dagnb.errors import DagnbError
from dagnb.run_history import database
from dagnb.run_history.history import SCHEMA, History

WORKERS = sys.argv[1]

@task
def seven():
    return 7

@task
def waits(path):
    with open(path) as pipe:
        return pipe.read()

def fork(act):
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with open(read) as said:
            text = said.read().strip()
        return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(write, "w") as say:
        try:
            say.write(str(act()))
        except DagnbError as error:
            say.write(f"{type(error).__name__}: {error}")
    sys.exit(3)  # the interpreter ends as usual, which clears all modules and frees what they hold
"""


@pytest.fixture(scope="module")
def _agent() -> Iterator[None]:
    with private_agent():
        yield


def lines(body: str, workers: str) -> list[str]:
    """What a script prints after START."""
    done = subprocess.run(
        [sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", START + body, workers],
        env=os.environ, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


WHILE_A_RUN_GOES_ON = """
import tempfile
folder = tempfile.mkdtemp()
pipe = os.path.join(folder, "pipe")
os.mkfifo(pipe)
print(seven().run(workers=WORKERS).result(60))
run = dagnb.run(waits(pipe), seven(), workers=WORKERS)
print(fork(lambda: seven().run(workers=WORKERS).result(60)))
print(fork(lambda: run.state))
with open(pipe, "w") as out:
    out.write("through")
print(run.result(60), seven().run(workers=WORKERS).result(60))
print(fork(lambda: run.result(60)))
"""


@pytest.mark.usefixtures("_agent")
def test_a_forked_process_runs_and_looks_on_connections_of_its_own() -> None:
    assert lines(WHILE_A_RUN_GOES_ON, "process") == [
        "7",
        "('7', 3)",
        "('running', 3)",
        "('through', 7) 7",
        "(\"('through', 7)\", 3)",
    ]


def test_a_forked_process_is_told_that_inline_runs_stayed_with_its_parent() -> None:
    assert lines(WHILE_A_RUN_GOES_ON, "inline") == [
        "7",
        "('7', 3)",
        "('cancelled', 3)",
        "('through', 7) 7",
        "(\"('through', 7)\", 3)",
    ]


WITHIN_SQLITE = """
print(seven().run(workers=WORKERS).result(60))
session.wait_for_pending(30)
within, order = threading.Event(), []

def write():
    with database.opened(History().path, SCHEMA) as db:
        db.execute("insert into birth values ('by a thread')")
        within.set()
        forking.wait(30)
        order.append("written")

forking = threading.Event()
threading.Thread(target=write).start()
within.wait(30)
os.register_at_fork(before=forking.set)  # runs before the hooks that were registered earlier

def count():
    with database.opened(History().path, SCHEMA) as db:
        return db.execute("select count(*) from birth").fetchone()[0], order

print(fork(count))
print(count())
"""


@pytest.mark.usefixtures("_agent")
def test_a_fork_waits_for_a_thread_that_writes_the_history() -> None:
    assert lines(WITHIN_SQLITE, "process") == ["7", "(\"(2, ['written'])\", 3)", "(2, ['written'])"]


LOCKED = """
from dagnb.forecast.knowledge import knowledge
print(seven().run(workers=WORKERS).result(60))
session.wait_for_pending(30)
with session._lock, knowledge()._lock:  # as other threads hold them for a moment
    pid = os.fork()
    if pid == 0:
        os._exit(seven().run(workers=WORKERS).result(60))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.usefixtures("_agent")
@pytest.mark.parametrize("workers", ["inline", "process"])
def test_locks_that_other_threads_held_are_free_in_a_forked_process(workers: str) -> None:
    assert lines(LOCKED, workers) == ["7", "7"]


POOL = """
runs = [dagnb.run(*[seven() for _ in range(20)], workers=WORKERS) for _ in range(3)]
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(sum(pool.map(abs, range(-200, 0))))
print({run.result(60) == (7,) * 20 for run in runs})
"""


@pytest.mark.usefixtures("_agent")
@pytest.mark.parametrize("workers", ["inline", "process"])
def test_a_pool_of_forked_processes_disturbs_no_run(workers: str) -> None:
    assert lines(POOL, workers) == ["20100", "{True}"]


FORKING_TASKS = """
@task
def forks(how):
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        status = os.wait()[1]
        return os.read(read, 10), os.waitstatus_to_exitcode(status)
    os.write(write, b"child")
    if how == "exit":
        sys.exit(5)
    if how == "raise":
        raise ValueError("in the child")
    return "from the child"

for how in ("exit", "raise", "return"):
    run = forks(how).run(workers=WORKERS)
    print(run.result(60), [event.kind for event in run.look().events].count("done"), len(run.errors))
"""


@pytest.mark.usefixtures("_agent")
def test_a_process_that_a_task_forks_never_reports_for_it() -> None:
    assert lines(FORKING_TASKS, "process") == [
        "(b'child', 5) 1 0",
        "(b'child', 1) 1 0",
        "(b'child', 0) 1 0",
    ]
