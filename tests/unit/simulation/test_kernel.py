"""Virtual time: who runs when, and that nobody is forgotten."""

from __future__ import annotations

import pytest

from dagnb.errors import ProtocolError
from dagnb.simulation.kernel import Bell, Kernel, Sleep


def test_time_jumps_to_the_next_event() -> None:
    kernel, seen = Kernel(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await Sleep(nap)
            seen.append((kernel.now, name))

    kernel.spawn(sleeper("a", 1.0, 1_000_000.0))
    kernel.spawn(sleeper("b", 0.5, 1.0))
    kernel.run()

    assert seen == [(0.5, "b"), (1.0, "a"), (1.5, "b"), (1_000_001.0, "a")]


def test_who_wakes_at_the_same_moment_wakes_in_the_order_of_falling_asleep() -> None:
    kernel, seen = Kernel(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await Sleep(nap)
        seen.append(name)

    for name, naps in (("late", (0.5, 1.5)), ("first", (2.0,)), ("second", (2.0,))):
        kernel.spawn(sleeper(name, *naps))
    kernel.run()

    assert seen == ["first", "second", "late"]


def test_a_sleep_of_no_time_lets_the_others_go_first() -> None:
    kernel, seen = Kernel(), []

    async def polite() -> None:
        await Sleep(0.0)
        seen.append("polite")

    async def quick() -> None:
        seen.append("quick")

    kernel.spawn(polite())
    kernel.spawn(quick())
    kernel.run()

    assert seen == ["quick", "polite"]
    assert kernel.now == 0.0


def test_a_bell_wakes_as_many_as_asked_the_longest_waiting_first() -> None:
    kernel, seen = Kernel(), []
    bell = Bell(kernel)

    async def waiter(name: str) -> None:
        await bell
        seen.append((kernel.now, name))

    async def ringer() -> None:
        await Sleep(1.0)
        bell.ring(2)
        await Sleep(1.0)
        bell.ring()

    for name in "abcd":
        kernel.spawn(waiter(name))
    kernel.spawn(ringer())
    kernel.run()

    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c"), (2.0, "d")]


def test_a_bell_that_nobody_waits_for_rings_unheard() -> None:
    kernel = Kernel()
    bell = Bell(kernel)

    async def late() -> None:
        bell.ring(3)
        await bell

    kernel.spawn(late())

    with pytest.raises(ProtocolError, match=r"1 simulated worker\(s\) wait for ever at 0 s"):
        kernel.run()


def test_a_coroutine_that_never_ends_is_a_defect_told_with_the_moment() -> None:
    kernel = Kernel()
    bell = Bell(kernel)

    async def forgotten() -> None:
        await Sleep(2.5)
        await bell

    async def fine() -> None:
        await Sleep(1.0)

    for coroutine in (forgotten(), fine(), forgotten()):
        kernel.spawn(coroutine)

    with pytest.raises(ProtocolError) as caught:
        kernel.run()
    assert (
        str(caught.value) == "2 simulated worker(s) wait for ever at 2.5 s. Please report the plan."
    )


def test_an_error_of_a_coroutine_comes_out() -> None:
    async def broken() -> None:
        await Sleep(1.0)
        raise ZeroDivisionError

    kernel = Kernel()
    kernel.spawn(broken())

    with pytest.raises(ZeroDivisionError):
        kernel.run()


def test_a_coroutine_may_start_another() -> None:
    kernel, seen = Kernel(), []

    async def child() -> None:
        await Sleep(1.0)
        seen.append(kernel.now)

    async def parent() -> None:
        await Sleep(2.0)
        kernel.spawn(child())

    kernel.spawn(parent())
    kernel.run()

    assert seen == [3.0]


def test_nothing_to_do_ends_at_once() -> None:
    kernel = Kernel()

    kernel.run()

    assert kernel.now == 0.0
