"""Results that never leave their worker: what is stored, repeated, charged and seen by readers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb import task
from dagnb.graph.task import Node
from dagnb.planning.plan import KEPT_S
from dagnb.planning.planner import Planner
from dagnb.trace.trace import Phase, Trace
from tests.conformance.agent import private_agent

pytestmark = pytest.mark.redis

LIMIT_S = 60.0

floating_or_pinned = pytest.mark.parametrize("planner", [Flexible(), Heft()], ids=repr)


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


@task
def counting(number: int, folder: str) -> int:
    """Note that it ran; one more than its input."""
    with open(f"{folder}/{number}", "ab") as file:
        file.write(b"x")
    return number + 1


@task
def array(n: int) -> Any:
    """An array of 8 n bytes."""
    return np.zeros(n)


@task
def one_more(values: Any) -> Any:
    """Changes its input in place, and returns it."""
    values += 1.0
    return values


@task
def add(left: int, right: int) -> int:
    """The sum."""
    return left + right


@task
def dying_once(number: int, folder: str) -> int:
    """Ends its process in the first attempt; its input."""
    path = Path(folder) / "died"
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def chain(n: int, folder: Path) -> Node[int]:
    """Tasks 0 to n - 1, each of which reads the one before."""
    node = counting(0, str(folder))
    for _ in range(n - 1):
        node = counting(node, str(folder))
    return node


def times_run(folder: Path) -> Counter[int]:
    """By number, how often a task ran."""
    return Counter({int(p.name): p.stat().st_size for p in folder.iterdir() if p.name.isdigit()})


def trips(trace: Trace) -> int:
    """The number of commits that went to the store."""
    return len({(s.worker, s.begin_s) for s in trace.spans if s.phase is Phase.COMMIT})


def phases(trace: Trace) -> Counter[Phase]:
    return Counter(span.phase for span in trace.spans)


@floating_or_pinned
def test_a_chain_of_short_tasks_takes_few_trips_and_each_task_is_seen(
    tmp_path: Path, planner: Planner
) -> None:
    run = dagnb.run(chain(300, tmp_path), workers=Processes(n=2), planner=planner)

    assert run.result(LIMIT_S) == 300
    assert times_run(tmp_path) == dict.fromkeys(range(300), 1)
    assert trips(run.trace) < 100
    seen = phases(run.trace)
    assert (seen[Phase.RUN], seen[Phase.COMMIT], seen[Phase.STORE]) == (300, 300, 0)
    events = Counter(event.kind for event in run.look().events if event.task >= 0)
    assert events == {"start": 300, "done": 300}


@floating_or_pinned
def test_a_large_value_along_a_chain_is_neither_stored_nor_pickled(planner: Planner) -> None:
    """5 MB through eight tasks: the one place that stores it would be a STORE span."""
    node = array(5_000_000 // 8)
    for _ in range(8):
        node = one_more(node)
    first = dagnb.run(_first(node), workers=Processes(n=2), planner=planner)

    assert first.result(LIMIT_S) == 8.0
    spans = first.trace.spans
    assert [span for span in spans if span.phase is Phase.STORE] == []
    loaded = [span.n_bytes for span in spans if span.phase is Phase.LOAD]
    assert max(loaded) < 10_000


@task
def _first(values: Any) -> float:
    return float(values[0])


def test_a_worker_holds_no_second_copy_of_an_input_while_its_reader_runs() -> None:
    @task
    def texts() -> list[str]:
        return ["x" * 1_000]

    @task
    def held(read: list[str]) -> list[object]:
        import gc

        results = [o for o in gc.get_objects() if type(o).__name__ in {"KeptValue", "Result"}]
        values = [getattr(result, "pickled", None) or result.value for result in results]
        return [value for value in values if value is not None]

    run = dagnb.run(held(texts()), workers=Processes(n=1))

    assert run.result(LIMIT_S) == []


def test_a_tree_of_short_tasks_is_added_up_where_its_leaves_are(tmp_path: Path) -> None:
    level = [counting(n, str(tmp_path)) for n in range(256)]
    while len(level) > 1:
        level = [add(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]

    run = dagnb.run(level[0], workers=Processes(n=2))

    assert run.result(LIMIT_S) == sum(range(1, 257))
    assert times_run(tmp_path) == dict.fromkeys(range(256), 1)
    assert trips(run.trace) < 256


def test_branches_that_are_pinned_store_only_what_another_worker_reads() -> None:
    """Two chains of 1 MB arrays, each on its worker, and a task that reads both."""
    ends = []
    for _ in range(2):
        node = array(1_000_000 // 8)
        for _ in range(4):
            node = one_more(node)
        ends.append(node)

    run = dagnb.run(_sum(*ends), workers=Processes(n=2), planner=Heft(n_workers=2))

    assert run.result(LIMIT_S) == 8.0
    assert {step.worker for step in run.plan.steps} == {"w0", "w1"}
    stored = [run.plan.names[s.task] for s in run.trace.spans if s.phase is Phase.STORE]
    assert set(stored) <= {"one_more-3", "one_more-7"}
    assert len(stored) in (1, 2)


@task
def _sum(left: Any, right: Any) -> float:
    return float(left[0] + right[0])


def test_no_other_holder_of_a_value_sees_what_its_reader_changes() -> None:
    """The first task keeps a reference to its result; the reader writes into what it gets."""

    @task
    def remembering() -> Any:
        import builtins

        builtins.remembered = np.zeros(1_000)  # type: ignore[attr-defined]
        return builtins.remembered  # type: ignore[attr-defined]

    @task
    def writing(values: Any) -> tuple[float, float]:
        import builtins

        values += 1.0
        return float(values[0]), float(builtins.remembered[0])  # type: ignore[attr-defined]

    run = dagnb.run(writing(remembering()), workers=Processes(n=1))

    assert run.result(LIMIT_S) == (1.0, 0.0)
    commits = [s.n_bytes for s in run.trace.spans if s.phase is Phase.COMMIT and s.task == 0]
    assert commits == [0]  # kept, though pickled


@floating_or_pinned
def test_a_crash_in_a_chain_repeats_what_was_kept_and_charges_the_one_that_died(
    tmp_path: Path, planner: Planner
) -> None:
    node = dying_once(chain(10, tmp_path), str(tmp_path))
    for _ in range(5):
        node = counting(node, str(tmp_path))
    run = dagnb.run(node, workers=Processes(n=2), planner=planner)

    assert run.result(LIMIT_S) == 15
    assert [(error.task, error.attempt) for error in run.errors] == [("dying_once-0", 1)]
    often = times_run(tmp_path)
    assert set(often) == set(range(15))
    assert {often[n] for n in range(10, 15)} == {1}
    assert {often[n] for n in range(10)} <= {1, 2}


def test_results_of_long_work_are_stored_so_a_crash_does_not_repeat_them(tmp_path: Path) -> None:
    @task
    def long(number: int, folder: str, seconds: float) -> int:
        with open(f"{folder}/{number}", "ab") as file:
            file.write(b"x")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return number + 1

    worked = long(0, str(tmp_path), 1.2 * KEPT_S)
    run = dagnb.run(dying_once(worked, str(tmp_path)), workers=Processes(n=1))

    assert run.result(LIMIT_S) == 1
    assert times_run(tmp_path) == {0: 1}


def test_inputs_of_a_task_with_retries_are_stored_so_a_retry_repeats_nothing_else(
    tmp_path: Path,
) -> None:
    @task(retries=2, backoff_s=0.0)
    def failing_twice(number: int, folder: str) -> int:
        marks = Path(folder) / "failed"
        n_before = marks.stat().st_size if marks.exists() else 0
        if n_before < 2:
            marks.write_bytes(b"x" * (n_before + 1))
            raise ValueError(number)
        return number

    run = dagnb.run(failing_twice(chain(5, tmp_path), str(tmp_path)), workers=Processes(n=2))

    assert run.result(LIMIT_S) == 5
    assert times_run(tmp_path) == dict.fromkeys(range(5), 1)


def test_effects_are_committed_before_the_reader_begins(tmp_path: Path) -> None:
    @task(pure=False)
    def acting(folder: str) -> int:
        with open(f"{folder}/0", "ab") as file:
            file.write(b"x")
        return 1

    run = dagnb.run(dying_once(acting(str(tmp_path)), str(tmp_path)), workers=Processes(n=1))

    assert run.result(LIMIT_S) == 1
    assert times_run(tmp_path) == {0: 1}


def test_a_reader_of_a_failed_task_is_skipped_and_others_go_on(tmp_path: Path) -> None:
    @task
    def failing(number: int) -> int:
        raise ValueError(number)

    broken = counting(failing(counting(0, str(tmp_path))), str(tmp_path))
    whole = chain(3, tmp_path)

    run = dagnb.run(broken, whole, workers=Processes(n=1), on_error="continue")
    with pytest.raises(ValueError, match="1"):
        run.result(LIMIT_S)

    assert [error.task for error in run.errors] == ["failing-0"]
    assert run.status == {"done": 4, "failed": 1, "skipped": 1}
    sink = [i for i, step in enumerate(run.plan.steps) if step.task == run.plan.dag.sinks[1]]
    assert run.value(run.plan.names[sink[0]]) == 3
