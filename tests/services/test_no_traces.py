"""Workers leave no trace in tasks, and tasks none in workers: programs of `alone.py`, each on one
worker.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.agent import private_agent
from tests.services.alone import ASPECTS
from tests.services.stage import eventually, is_running

pytestmark = pytest.mark.redis

PROGRAM = Path(__file__).with_name("alone.py")
REFUSED = (
    "GraphError: '{}' is a name of the notebook or script, and a process that is started by 'spawn' or 'forkserver' "
    "has neither. Take multiprocessing.get_context('fork') in the task, or put it into a module that can be imported."
)


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


@functools.cache
def told(what: str, *where: str) -> Any:
    """What the program prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), what, *where],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("aspect", ASPECTS)
def test_what_a_task_changed_is_not_met_by_the_next_task_of_its_worker(aspect: str) -> None:
    before, after = told("aspects")[aspect]

    assert after == before


def test_what_the_first_task_meets_is_what_a_script_meets() -> None:
    first = {aspect: before for aspect, (before, _) in told("aspects").items()}

    assert first["interrupt handler"] is True
    assert first["descriptor 0"] == first["stdin"] == ""
    assert first["recursion limit"] == 1000
    assert first["stdout replaced"] is True
    assert first["event loop policy"].startswith("asyncio.")


@pytest.mark.parametrize("how", ["raised", "out of time"])
def test_an_attempt_that_failed_is_not_met_by_the_next_one(how: str) -> None:
    assert told("after_failures")[how] is True


def test_what_an_import_changes_stays_and_what_the_task_changes_around_it_does_not() -> None:
    before, loaders, after, again, later = told("imports")

    assert before == [[], [], 1000]
    assert loaders == again == ["SourceFileLoader", "SourceFileLoader"]
    assert after == later == [["OF_IMPORT", "OF_INNER"], ["/of/inner", "/of/import"], 4321]


@pytest.mark.parametrize("where", [(), ("inline",)])
def test_a_large_argument_that_a_task_changed_is_whole_for_the_next_task(
    where: tuple[str, ...],
) -> None:
    assert told("arguments", *where) == [20_000] * 3


def test_threads_that_a_task_left_are_told_in_its_output_once() -> None:
    log = told("threads")["leaving-0"]

    assert "dagnb: task 'leaving-0' left 2 threads running: 'ticker', 'ticker of no daemon'." in log
    assert "shut their pool down, before the task returns" in log
    assert log.count("dagnb:") == 1


def test_what_threads_print_that_were_left_is_in_no_other_output() -> None:
    assert told("threads")["printing-0"] == "by a thread\nby the task\n" * 50


def test_threads_of_a_pool_that_nobody_holds_are_no_threads_left_behind() -> None:
    assert told("threads")["pooled-0"] == ""


@pytest.mark.parametrize(
    ("how", "value"),
    [
        ("fork", [1, 4, 9]),
        ("fork, function given", [1, 4, 9]),
        ("fork, objects given", [[2, 1]]),
        ("executor, fork", [0, 1, 4, 9]),
        ("process", [9, 0]),
        ("spawn, importable", [1, 2]),
    ],
)
def test_pools_of_processes_work_inside_a_task(how: str, value: object) -> None:
    """Nothing is printed, as where pools end their processes by SIGTERM: then there would be a log
    as well.
    """
    assert told("pools")[how] == value


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("spawn", "square"),
        ("forkserver", "square"),
        ("spawn, object", "Pair"),
        ("spawn, member", "Colour"),
        ("spawn, tuple", "Point"),
        ("spawn, dict", "Names"),
        ("spawn, exception", "RefusedError"),
    ],
)
def test_a_process_started_anew_says_that_it_has_no_notebook(how: str, name: str) -> None:
    assert told("pools")[how] == REFUSED.format(name)


def test_what_children_print_is_output_of_the_task() -> None:
    assert told("pools")["commands"] == [[3, 4, 0], "by a shell\nby a fork\nby the system\n"]


def test_a_child_that_a_task_left_ends_with_the_run() -> None:
    pid = told("pools")["left child"]

    assert eventually(lambda: not is_running(pid))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no folder")
def test_shared_memory_that_a_task_left_is_removed_at_the_end_of_the_run() -> None:
    memory = Path("/dev/shm", told("pools")["left memory"])

    assert eventually(lambda: not memory.exists())


@pytest.mark.parametrize("where", [(), ("inline",)], ids=["process", "inline"])
@pytest.mark.parametrize(
    ("act", "gives"),
    [
        ("running loop", "RuntimeError: no running event loop"),
        ("asyncio.run", "slept"),
        ("new loop", "slept"),
        ("sys.exit", "SystemExit: the task called sys.exit(3); return a value instead"),
        ("SystemExit", "SystemExit: the task called sys.exit('told'); return a value instead"),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        ("StopIteration", "StopIteration"),
        ("GeneratorExit", "GeneratorExit"),
        ("CancelledError", "CancelledError"),
        ("decimals", ["0.3333333333333333333333333333", None]),
        ("context variable", ["nothing", None]),
        ("numpy errors", ["warn", None]),
        ("trace function", [True, None]),
        ("coroutine", ["False"]),
        ("gives a coroutine", "awaited"),
    ],
)
def test_the_second_task_of_a_worker_is_called_alike_everywhere(
    act: str, gives: object, where: tuple[str, ...]
) -> None:
    assert told("alike", *where)[act] == gives
