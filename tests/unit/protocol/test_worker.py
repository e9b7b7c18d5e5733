"""The worker in a world that answers from a list: its calls, and what it must not import."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dagnb.planning.plan import KEPT_S, LONG_S
from dagnb.protocol import worker
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Reply, Status
from dagnb.protocol.worker import MOST_BYTES, MOST_TASKS, Missing, Worker

STOP = Reply(status=Status.STOP)


def offer(task: int) -> Offer:
    return Offer(task=task, attempt=1, record=None, inputs=())


def tasks(*numbers: int) -> Reply:
    return Reply(status=Status.TASKS, worker="w", offers=tuple(map(offer, numbers)))


def failure(task: int) -> Failure:
    return Failure(task=task, attempt=1, error="{}")


class PreparedWorld:
    """A world of prepared replies.

    odd: unusual answers, by act, like 'run 3'. task_s: seconds that each task takes, or a list of
    them by task. impure: tasks that end their batch. wants: numbers of tasks that were asked for.
    readers: of tasks that are run together with their reader: it, and the number of its inputs.
    """

    def __init__(
        self,
        *replies: Reply,
        odd: dict[str, list[Any]] | None = None,
        task_s: float | list[float] = 0.0001,
        impure: tuple[int, ...] = (),
        result_bytes: int = 1,
        readers: dict[int, tuple[int, int]] | None = None,
    ) -> None:
        self.replies = list(replies)
        self.odd = odd or {}
        self.acts: list[str] = []
        self.wants: list[int] = []
        self.behind: list[int] = []
        self.clock_s = 100.0
        self.readers = readers or {}
        self.task_s, self.impure, self.result_bytes = task_s, impure, result_bytes

    def clock(self) -> float:
        return self.clock_s

    def ends_batch(self, offer: Offer) -> bool:
        return offer.task in self.impure

    async def register(self, want: int) -> Reply:
        self.wants.append(want)
        return self._next("register")

    async def wait_work(self) -> None:
        self.acts.append("wait")

    async def fetch(self, offer: Offer, n_behind: int) -> Any:
        self.behind.append(n_behind)
        return self._act(f"fetch {offer.task}", f"inputs {offer.task}")

    async def run(self, offer: Offer, inputs: Any) -> Any:
        assert inputs == f"inputs {offer.task}"
        self.clock_s += self.task_s if isinstance(self.task_s, float) else self.task_s[offer.task]
        return self._act(f"run {offer.task}", f"value {offer.task}")

    def reader(self, offer: Offer) -> tuple[int, int]:
        return self.readers.get(offer.task, (-1, 0))

    async def store(self, offer: Offer, value: Any, *, keeps: bool) -> Any:
        assert value == f"value {offer.task}"
        act = "keep" if keeps else "store"
        return self._act(f"{act} {offer.task}", self._commit(offer, keeps))

    async def store_kept(self, offer: Offer) -> Any:
        return self._act(f"store kept {offer.task}", self._commit(offer, False))

    def _commit(self, offer: Offer, is_kept: bool) -> Commit:
        return Commit(task=offer.task, address=Address("t", self.result_bytes), is_kept=is_kept)

    async def complete(self, commits: Sequence[Commit], want: int) -> Reply:
        self.wants.append(want)
        return self._next("complete " + ",".join(str(commit.task) for commit in commits))

    async def fail(self, failure: Failure, want: int) -> Reply:
        self.wants.append(want)
        return self._next(f"fail {failure.task}")

    async def lost(self, missing: Missing, want: int) -> Reply:
        self.wants.append(want)
        return self._next(f"lost {missing.task} {missing.inputs}")

    def _act(self, act: str, usual: Any) -> Any:
        self.acts.append(act)
        answers = self.odd.get(act, [])
        return answers.pop(0) if answers else usual

    def _next(self, act: str) -> Reply:
        self.acts.append(act)
        return self.replies.pop(0)


def acts(world: PreparedWorld) -> list[str]:
    """What a worker asks of the world until the run is over; every reply must be used."""
    asyncio.run(Worker(world).work())
    assert world.replies == []
    return world.acts


def test_the_worker_knows_no_clock_no_loop_and_no_store() -> None:
    tree = ast.parse(Path(str(worker.__file__)).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {name for name in imported if name.startswith("dagnb")} == {
        "dagnb.graph.brief",
        "dagnb.planning.plan",
        "dagnb.protocol.messages",
    }
    assert not {name.split(".")[0] for name in imported} & {
        "asyncio",
        "time",
        "random",
        "redis",
        "threading",
    }


def test_a_worker_of_a_run_that_is_over_leaves() -> None:
    assert acts(PreparedWorld(STOP)) == ["register"]


def test_a_task_is_fetched_run_stored_and_committed_and_the_commit_brings_the_next() -> None:
    world = PreparedWorld(tasks(0), tasks(1), STOP)

    assert acts(world) == [
        *("register", "fetch 0", "run 0", "store 0", "complete 0"),
        *("fetch 1", "run 1", "store 1", "complete 1"),
    ]


def test_without_work_it_waits_for_a_hint_and_registers_again() -> None:
    world = PreparedWorld(Reply(status=Status.IDLE), Reply(status=Status.IDLE), STOP)

    assert acts(world) == ["register", "wait", "register", "wait", "register"]


def test_who_is_refused_leaves_at_once() -> None:
    world = PreparedWorld(Reply(status=Status.REFUSED))

    assert acts(world) == ["register"]


def test_a_worker_whose_lease_was_taken_registers_again_at_once() -> None:
    world = PreparedWorld(tasks(0), Reply(status=Status.FENCED), STOP)

    assert acts(world) == ["register", "fetch 0", "run 0", "store 0", "complete 0", "register"]


def test_several_offers_are_committed_in_one_step() -> None:
    world = PreparedWorld(tasks(0, 1), STOP)

    assert acts(world) == [
        "register",
        "fetch 0",
        "run 0",
        "store 0",
        "fetch 1",
        "run 1",
        "store 1",
        "complete 0,1",
    ]


@pytest.mark.parametrize("act", ["run", "store"])
def test_a_failure_is_reported_and_the_answer_brings_the_next(act: str) -> None:
    world = PreparedWorld(tasks(0), tasks(1), STOP, odd={f"{act} 0": [failure(0)]})

    told = acts(world)

    assert told[told.index(f"{act} 0") + 1 :] == [
        "fail 0",
        "fetch 1",
        "run 1",
        "store 1",
        "complete 1",
    ]


def test_missing_inputs_are_reported_and_the_function_is_not_run() -> None:
    world = PreparedWorld(tasks(3), STOP, odd={"fetch 3": [Missing(3, (1, 2))]})

    assert acts(world) == ["register", "fetch 3", "lost 3 (1, 2)"]


@pytest.mark.parametrize(
    ("odd", "report"),
    [({"run 1": [failure(1)]}, "fail 1"), ({"fetch 1": [Missing(1, (0,))]}, "lost 1 (0,)")],
    ids=["failure", "missing"],
)
def test_what_succeeded_before_trouble_is_committed_first_and_what_comes_after_is_not_begun(
    odd: dict[str, list[Any]], report: str
) -> None:
    world = PreparedWorld(tasks(0, 1, 2), tasks(1, 2), STOP, odd=odd)

    told = acts(world)

    assert told[:4] == ["register", "fetch 0", "run 0", "store 0"]
    assert told[-2:] == ["complete 0", report]
    assert "fetch 2" not in told


def test_a_result_that_the_store_does_not_hold_is_stored_again_and_committed_again() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(1,))
    world = PreparedWorld(tasks(0, 1), gone, gone, STOP)

    assert acts(world)[-5:] == ["complete 0,1", "store 1", "complete 1", "store 1", "complete 1"]


def test_a_result_that_cannot_be_stored_again_fails_its_task() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(0,))
    fine = Commit(task=0, address=Address("t", 1))
    world = PreparedWorld(tasks(0), gone, STOP, odd={"store 0": [fine, failure(0)]})

    assert acts(world)[-3:] == ["complete 0", "store 0", "fail 0"]


def test_a_worker_asks_for_as_many_tasks_as_take_two_milliseconds() -> None:
    world = PreparedWorld(tasks(0), tasks(1), tasks(2), tasks(3), STOP, task_s=0.0005)

    acts(world)

    # Means: 2 ms before the first task, then halves of it and of half a millisecond.
    assert world.wants == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(("task_s", "want"), [(0.005, 1), (1.0, 1), (0.0, MOST_TASKS)])
def test_long_tasks_are_taken_one_at_a_time_and_of_the_shortest_a_limited_number(
    task_s: float, want: int
) -> None:
    world = PreparedWorld(*(tasks(n) for n in range(20)), STOP, task_s=task_s)

    acts(world)

    assert world.wants[-1] == want


def test_a_worker_without_a_supervisor_takes_one_task_at_a_time() -> None:
    world = PreparedWorld(tasks(0), tasks(1), tasks(2), STOP, task_s=0.0)

    asyncio.run(Worker(world, most_tasks=1).work())

    assert world.wants == [1, 1, 1, 1]


def test_a_task_that_takes_long_ends_its_batch_and_the_reply_says_what_is_left() -> None:
    world = PreparedWorld(
        tasks(0, 1, 2, 3), tasks(3), STOP, task_s=[0.0001, 2 * LONG_S, 0.0001, 0.0001]
    )

    assert [act for act in acts(world) if not act.startswith(("fetch", "store"))] == [
        "register", "run 0", "run 1", "complete 0,1", "run 3", "complete 3",
    ]  # fmt: skip
    assert world.behind == [3, 2, 0]


def test_a_task_with_effects_is_committed_before_the_next_one_begins() -> None:
    world = PreparedWorld(tasks(0, 1, 2), tasks(2), STOP, impure=(1,))

    assert [act for act in acts(world) if act.startswith(("run", "complete"))] == [
        "run 0", "run 1", "complete 0,1", "run 2", "complete 2",
    ]  # fmt: skip


def test_results_that_are_large_together_end_a_batch() -> None:
    half = MOST_BYTES // 2 + 1
    world = PreparedWorld(tasks(0, 1, 2), tasks(2), STOP, result_bytes=half)

    assert [act for act in acts(world) if act.startswith("complete")] == [
        "complete 0,1", "complete 2",
    ]  # fmt: skip


def ends_of(world: PreparedWorld) -> list[str]:
    """Returns the acts that keep, store and commit results."""
    return [act for act in acts(world) if act.startswith(("keep", "store", "complete"))]


def test_a_result_is_kept_for_a_reader_in_the_same_batch() -> None:
    world = PreparedWorld(tasks(0, 1), STOP, readers={0: (1, 1)})

    assert ends_of(world) == ["keep 0", "store 1", "complete 0,1"]


@pytest.mark.parametrize("task_s", [LONG_S / 2, 2 * LONG_S])
def test_a_result_is_kept_if_its_reader_waits_for_nothing_else(task_s: float) -> None:
    world = PreparedWorld(tasks(0), tasks(1), STOP, task_s=task_s, readers={0: (1, 1)})

    assert ends_of(world) == ["keep 0", "complete 0", "store 1", "complete 1"]


def test_a_result_is_stored_if_its_reader_is_elsewhere_and_waits_for_more() -> None:
    world = PreparedWorld(tasks(0), STOP, readers={0: (1, 2)})

    assert ends_of(world) == ["store 0", "complete 0"]


@pytest.mark.parametrize(
    ("task_s", "end"), [(LONG_S / 2, "keep 0"), (2 * LONG_S, "store 0")], ids=["short", "long"]
)
def test_a_result_is_stored_after_a_long_task_since_others_may_have_its_reader(
    task_s: float, end: str
) -> None:
    world = PreparedWorld(tasks(0, 1, 2), STOP, task_s=task_s, readers={0: (2, 2)})

    assert ends_of(world)[0] == end


def test_a_crash_repeats_a_limited_time_of_work_since_then_a_result_is_stored() -> None:
    """Four tasks in a row, two of which take as long as may be repeated."""
    world = PreparedWorld(
        *(tasks(n) for n in range(4)),
        STOP,
        task_s=0.45 * KEPT_S,
        readers={n: (n + 1, 1) for n in range(3)},
    )

    assert [act for act in ends_of(world) if "complete" not in act] == [
        "keep 0", "keep 1", "store 2", "store 3",
    ]  # fmt: skip


def test_a_result_stored_in_one_chain_does_not_save_the_work_of_another() -> None:
    """Two chains, 0 2 4 6 and 1 3 5 7. No three results in a row may be kept.

    When 2 is stored, 1 is still kept; so 4 is stored, too.
    """
    world = PreparedWorld(
        *(tasks(n, n + 1) for n in range(5)),
        STOP,
        task_s=0.4 * KEPT_S,
        readers={n: (n + 2, 1) for n in range(6)},
    )

    assert [act for act in ends_of(world) if "complete" not in act] == [
        "keep 0", "keep 1", "store 2", "keep 3", "store 4",
    ]  # fmt: skip


def test_work_kept_for_a_reader_that_was_taken_away_is_not_counted() -> None:
    world = PreparedWorld(
        tasks(0),
        tasks(2),
        STOP,
        task_s=0.6 * KEPT_S,
        readers={0: (1, 1), 2: (3, 1)},
    )

    assert ends_of(world) == ["keep 0", "complete 0", "keep 2", "complete 2"]


def test_a_reader_begins_after_the_commit_of_an_input_that_is_not_kept() -> None:
    """Task 3 reads 1 and 2; 0 to 2 together are more work than may be repeated.

    It would report both inputs as lost otherwise, and the one that is kept would be run again.
    """
    world = PreparedWorld(
        tasks(0),
        tasks(1, 2, 3),
        tasks(3),
        STOP,
        task_s=[KEPT_S - 0.005, 0.003, 0.003, 0.003],
        readers={0: (1, 1), 1: (3, 2), 2: (3, 2)},
    )

    assert ends_of(world) == [
        "keep 0", "complete 0", "keep 1", "store 2", "complete 1,2", "store 3", "complete 3",
    ]  # fmt: skip


def test_kept_results_do_not_count_as_bytes_of_a_batch() -> None:
    readers = {0: (1, 1), 1: (2, 1)}
    world = PreparedWorld(tasks(0, 1, 2), STOP, result_bytes=MOST_BYTES, readers=readers)

    assert ends_of(world) == ["keep 0", "keep 1", "store 2", "complete 0,1,2"]


def test_a_kept_result_whose_reader_was_taken_away_is_stored() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(0,))
    world = PreparedWorld(tasks(0), gone, STOP, readers={0: (1, 1)})

    assert ends_of(world) == ["keep 0", "complete 0", "store kept 0", "complete 0"]


def test_a_kept_result_that_its_reader_has_used_up_is_not_committed_again() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(0,))
    world = PreparedWorld(
        tasks(0, 1), gone, STOP, readers={0: (1, 1)}, odd={"store kept 0": [None]}
    )

    assert ends_of(world)[-3:] == ["complete 0,1", "store kept 0", "complete "]
