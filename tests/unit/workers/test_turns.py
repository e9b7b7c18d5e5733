"""The main thread takes turns between a loop and calls."""

from __future__ import annotations

import asyncio
import threading

import pytest
from dagnb_workers.worker.executor import Turns


def running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_a_call_sees_no_loop_and_is_in_the_same_thread() -> None:
    turns = Turns()

    async def main() -> tuple[bool, threading.Thread, bool]:
        before = running_loop()
        seen, thread = await turns.call(lambda: (running_loop(), threading.current_thread()))
        return before and running_loop(), thread, seen

    assert turns.run(main()) == (True, threading.current_thread(), False)


def test_a_call_may_run_a_loop_of_its_own() -> None:
    turns = Turns()

    async def main() -> list[int]:
        return [await turns.call(lambda n=n: asyncio.run(asyncio.sleep(0, n))) for n in range(3)]

    assert turns.run(main()) == [0, 1, 2]


def test_other_coroutines_go_on_between_calls() -> None:
    turns = Turns()
    order: list[str] = []

    async def beside(going: asyncio.Event) -> None:
        order.append("beside")
        going.set()

    async def main() -> None:
        going = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(beside(going))
            await turns.call(lambda: order.append("first"))
            await going.wait()
            await turns.call(lambda: order.append("second"))

    turns.run(main())

    assert sorted(order[:2]) == ["beside", "first"]
    assert order[2:] == ["second"]


def test_two_that_ask_for_a_call_at_the_same_time_both_get_theirs() -> None:
    turns = Turns()

    async def main() -> list[int]:
        return list(await asyncio.gather(turns.call(lambda: 1), turns.call(lambda: 2)))

    assert turns.run(main()) == [1, 2]


def test_what_the_coroutine_raises_is_raised_and_what_it_left_is_ended() -> None:
    turns, ended = Turns(), []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        task = asyncio.create_task(left())
        await asyncio.sleep(0)
        raise ValueError(f"on purpose: {task.done()}")

    with pytest.raises(ValueError, match="on purpose: False"):
        turns.run(main())

    assert ended == [True]
