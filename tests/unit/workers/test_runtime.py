"""Spans of an instance when it has nothing to do, and when it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from dagnb_workers.launchers.inline import Inline
from dagnb_workers.worker.runtime import CallInputs, Runtime

import dagnb
from dagnb import session, task
from dagnb.handle import Run
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Address, Commit, Reply, Status
from dagnb.protocol.worker import Worker
from dagnb.storage.interface import Store
from dagnb.trace.chunk import is_last, unpacked
from dagnb.trace.trace import Phase, Span


class Idle(Inline):
    """Starts no workers; keeps the invocation."""

    asked: ClassVar[list[Invocation]] = []

    async def launch(self, invocation: Invocation, needs: object = ()) -> None:
        self.asked.append(invocation)


async def call(
    function: Callable[..., Any], args: tuple[tuple[Any, ...], dict[str, Any]], here: object
) -> Any:
    return function(*args[0], **args[1])


class Watching:
    """Calls `at_end` whenever an attempt has ended."""

    def __init__(self, at_end: Callable[[], None]) -> None:
        self.end = at_end

    def staff(self, worker: str) -> None: ...

    def begin(self, task: int, attempt: int, limit_s: float, n_behind: int) -> None: ...

    def timed_out(self, task: int, attempt: int) -> bool:
        return False


@task
def number(value: int) -> int:
    return value


class Scene:
    """A run of two tasks. `holder` holds one, so `one` has nothing to do after the other."""

    def __init__(self, **terms: Any) -> None:
        Idle.asked.clear()
        self.run: Run[Any] = dagnb.run(number(1), number(2), workers=Idle(n=2))
        self.invocation = replace(Idle.asked[0], **terms)
        self.store: Store = session.wait(session.reopened(dagnb.Redis(url="memory://")))
        self.chunks_at_end: list[int] = []
        self.holder, self.one = self.instance("holder"), self.instance("one")

    def instance(self, name: str) -> Runtime:
        return Runtime(self.store, self.invocation, name, call, Watching(self.look), at_home=True)

    def look(self) -> None:
        """Note the number of chunks."""
        try:
            # A coroutine that never waits, so its first step ends it.
            self.store.spans(self.run.id).send(None)  # type: ignore[attr-defined]
        except StopIteration as answer:
            self.chunks_at_end.append(len(answer.value))

    async def play(self) -> Reply:
        """Take and hold one task, and run the other one. Returns the answer to that."""
        await self.holder.register(1)
        worker: Worker[CallInputs, object] = Worker(self.one)
        return await worker.branch(await self.one.register(1))

    async def chunks(self) -> list[bytes]:
        """Returns all chunks but the client's."""
        return (await self.store.spans(self.run.id))[1:]

    async def spans(self) -> list[Span]:
        return [span for chunk in await self.chunks() for span in unpacked(chunk)]


def play(scene: Scene, act: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    """Run the act on the loop of the store."""
    session.wait(asyncio.wait_for(act(scene), 20.0))
    scene.run.cancel()


def test_who_may_be_dismissed_while_it_rests_uploads_before_it_rests() -> None:
    async def act(scene: Scene) -> None:
        assert (await scene.play()).status is Status.IDLE
        assert [span.phase for span in await scene.spans()][-3:] == [
            Phase.RUN,
            Phase.DUMP,
            Phase.COMMIT,
        ]
        assert scene.chunks_at_end[-1] == 2

    play(Scene(metrics="at_exit", linger_s=60.0), act)


@pytest.mark.parametrize(
    ("metrics", "held"), [("at_exit", True), ("when_full:64", True), ("each_task", False)]
)
def test_a_commit_takes_along_what_is_due(metrics: str, held: bool) -> None:
    async def act(scene: Scene) -> None:
        assert (await scene.play()).status is Status.IDLE
        phases = [span.phase for span in await scene.spans()]
        assert phases[-2:] == ([] if held else [Phase.RUN, Phase.DUMP])

    play(Scene(metrics=metrics), act)


def test_who_has_nothing_to_do_uploads_what_is_due_before_it_waits() -> None:
    async def act(scene: Scene) -> None:
        await scene.play()
        await scene.store.cancel(scene.run.id, "enough")  # or it would wait for a hint
        await scene.one.wait_work()
        assert (await scene.spans())[-1].phase is Phase.COMMIT

    play(Scene(metrics="each_task"), act)


@pytest.mark.parametrize("metrics", ["at_exit", "when_full:64", "every:3600", "each_task"])
def test_who_leaves_uploads_all_it_has_and_says_that_no_more_will_come(metrics: str) -> None:
    async def act(scene: Scene) -> None:
        await scene.play()
        await scene.store.cancel(scene.run.id, "enough")
        assert (await scene.one.register(1)).status is Status.STOP
        await scene.one.leave()
        chunks = await scene.chunks()
        assert [is_last(chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert (await scene.spans())[-1].phase is Phase.COMMIT

    play(Scene(metrics=metrics), act)


def test_who_never_took_part_does_not_say_that_it_leaves() -> None:
    """It comes when the run is over; only instances that did take part are waited for."""

    async def act(scene: Scene) -> None:
        await scene.play()
        await scene.store.cancel(scene.run.id, "enough")
        late = scene.instance("late")
        assert (await late.register(1)).status is Status.STOP
        await late.leave()
        assert not any(map(is_last, await scene.chunks()))

    play(Scene(metrics="at_exit"), act)


def test_a_task_whose_result_must_be_stored_again_is_still_at_work() -> None:
    """If the process died now, the task would be to blame."""

    async def act(scene: Scene) -> None:
        (offer,) = (await scene.one.register(1)).offers
        n_ended = len(scene.chunks_at_end)
        gone = Commit(task=offer.task, address=Address("gone", 10_000_000, 3))

        reply = await scene.one.complete([gone], 1)

        assert (reply.status, reply.missing) == (Status.NO_BLOB, (offer.task,))
        assert len(scene.chunks_at_end) == n_ended

    play(Scene(), act)
