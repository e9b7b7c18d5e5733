"""The worker in a world that answers from a list: its calls, and what it must not import."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dagnb.protocol import worker
from dagnb.protocol.messages import Address, Commit, Failure, Offer, Reply, Status
from dagnb.protocol.worker import Missing, Worker

STOP = Reply(status=Status.STOP)


def offer(task: int) -> Offer:
    return Offer(task=task, attempt=1, record=None, inputs=())


def tasks(*numbers: int) -> Reply:
    return Reply(status=Status.TASKS, worker="w", offers=tuple(map(offer, numbers)))


def failure(task: int) -> Failure:
    return Failure(task=task, attempt=1, error="{}")


class ShortTraceback:
    """A world of prepared replies. odd: unusual answers, by act, like 'run 3'."""

    def __init__(self, *replies: Reply, odd: dict[str, list[Any]] | None = None) -> None:
        self.replies = list(replies)
        self.odd = odd or {}
        self.acts: list[str] = []

    async def register(self) -> Reply:
        return self._next("register")

    async def wait_work(self) -> None:
        self.acts.append("wait")

    async def fetch(self, offer: Offer) -> Any:
        return self._act(f"fetch {offer.task}", f"inputs {offer.task}")

    async def run(self, offer: Offer, inputs: Any) -> Any:
        assert inputs == f"inputs {offer.task}"
        return self._act(f"run {offer.task}", f"value {offer.task}")

    async def store(self, offer: Offer, value: Any) -> Any:
        assert value == f"value {offer.task}"
        return self._act(f"store {offer.task}", Commit(task=offer.task, address=Address("t", 1)))

    async def complete(self, commits: Sequence[Commit]) -> Reply:
        return self._next("complete " + ",".join(str(commit.task) for commit in commits))

    async def fail(self, failure: Failure) -> Reply:
        return self._next(f"fail {failure.task}")

    async def lost(self, missing: Missing) -> Reply:
        return self._next(f"lost {missing.task} {missing.inputs}")

    def _act(self, act: str, usual: Any) -> Any:
        self.acts.append(act)
        answers = self.odd.get(act, [])
        return answers.pop(0) if answers else usual

    def _next(self, act: str) -> Reply:
        self.acts.append(act)
        return self.replies.pop(0)


def acts(world: ShortTraceback) -> list[str]:
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
    assert acts(ShortTraceback(STOP)) == ["register"]


def test_a_task_is_fetched_run_stored_and_committed_and_the_commit_brings_the_next() -> None:
    world = ShortTraceback(tasks(0), tasks(1), STOP)

    assert acts(world) == [
        *("register", "fetch 0", "run 0", "store 0", "complete 0"),
        *("fetch 1", "run 1", "store 1", "complete 1"),
    ]


def test_without_work_it_waits_for_a_hint_and_registers_again() -> None:
    world = ShortTraceback(Reply(status=Status.IDLE), Reply(status=Status.IDLE), STOP)

    assert acts(world) == ["register", "wait", "register", "wait", "register"]


def test_who_is_refused_leaves_at_once() -> None:
    world = ShortTraceback(Reply(status=Status.REFUSED))

    assert acts(world) == ["register"]


def test_a_worker_whose_lease_was_taken_registers_again_at_once() -> None:
    world = ShortTraceback(tasks(0), Reply(status=Status.FENCED), STOP)

    assert acts(world) == ["register", "fetch 0", "run 0", "store 0", "complete 0", "register"]


def test_several_offers_are_committed_in_one_step() -> None:
    world = ShortTraceback(tasks(0, 1), STOP)

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
    world = ShortTraceback(tasks(0), tasks(1), STOP, odd={f"{act} 0": [failure(0)]})

    told = acts(world)

    assert told[told.index(f"{act} 0") + 1 :] == [
        "fail 0",
        "fetch 1",
        "run 1",
        "store 1",
        "complete 1",
    ]


def test_missing_inputs_are_reported_and_the_function_is_not_run() -> None:
    world = ShortTraceback(tasks(3), STOP, odd={"fetch 3": [Missing(3, (1, 2))]})

    assert acts(world) == ["register", "fetch 3", "lost 3 (1, 2)"]


@pytest.mark.parametrize(
    ("odd", "report"),
    [({"run 1": [failure(1)]}, "fail 1"), ({"fetch 1": [Missing(1, (0,))]}, "lost 1 (0,)")],
    ids=["failure", "missing"],
)
def test_what_succeeded_before_trouble_is_committed_first_and_what_comes_after_is_not_begun(
    odd: dict[str, list[Any]], report: str
) -> None:
    world = ShortTraceback(tasks(0, 1, 2), tasks(1, 2), STOP, odd=odd)

    told = acts(world)

    assert told[:4] == ["register", "fetch 0", "run 0", "store 0"]
    assert told[-2:] == ["complete 0", report]
    assert "fetch 2" not in told


def test_a_result_that_the_store_does_not_hold_is_stored_again_and_committed_again() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(1,))
    world = ShortTraceback(tasks(0, 1), gone, gone, STOP)

    assert acts(world)[-5:] == ["complete 0,1", "store 1", "complete 1", "store 1", "complete 1"]


def test_a_result_that_cannot_be_stored_again_fails_its_task() -> None:
    gone = Reply(status=Status.NO_BLOB, missing=(0,))
    fine = Commit(task=0, address=Address("t", 1))
    world = ShortTraceback(tasks(0), gone, STOP, odd={"store 0": [fine, failure(0)]})

    assert acts(world)[-3:] == ["complete 0", "store 0", "fail 0"]
