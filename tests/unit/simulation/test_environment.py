"""Virtual time: the order of processes, and processes that wait for ever."""

from __future__ import annotations

import pytest

from dagnb.errors import ProtocolError
from dagnb.simulation.environment import Condition, Environment, Sleep


def test_time_jumps_to_the_next_event() -> None:
    environment, seen = Environment(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await Sleep(nap)
            seen.append((environment.now, name))

    environment.start(sleeper("a", 1.0, 1_000_000.0))
    environment.start(sleeper("b", 0.5, 1.0))
    environment.run()

    assert seen == [(0.5, "b"), (1.0, "a"), (1.5, "b"), (1_000_001.0, "a")]


def test_who_wakes_at_the_same_moment_wakes_in_the_order_of_falling_asleep() -> None:
    environment, seen = Environment(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await Sleep(nap)
        seen.append(name)

    for name, naps in (("late", (0.5, 1.5)), ("first", (2.0,)), ("second", (2.0,))):
        environment.start(sleeper(name, *naps))
    environment.run()

    assert seen == ["first", "second", "late"]


def test_a_sleep_of_no_time_lets_the_others_go_first() -> None:
    environment, seen = Environment(), []

    async def polite() -> None:
        await Sleep(0.0)
        seen.append("polite")

    async def quick() -> None:
        seen.append("quick")

    environment.start(polite())
    environment.start(quick())
    environment.run()

    assert seen == ["quick", "polite"]
    assert environment.now == 0.0


def test_a_condition_continues_as_many_as_asked_the_longest_waiting_first() -> None:
    environment, seen = Environment(), []
    condition = Condition(environment)

    async def waiter(name: str) -> None:
        await condition
        seen.append((environment.now, name))

    async def notifier() -> None:
        await Sleep(1.0)
        condition.notify(2)
        await Sleep(1.0)
        condition.notify()

    for name in "abcd":
        environment.start(waiter(name))
    environment.start(notifier())
    environment.run()

    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c"), (2.0, "d")]


def test_a_condition_without_waiters_is_notified_in_vain() -> None:
    environment = Environment()
    condition = Condition(environment)

    async def late() -> None:
        condition.notify(3)
        await condition

    environment.start(late())

    with pytest.raises(ProtocolError, match=r"1 simulated worker\(s\) wait for ever at 0 s"):
        environment.run()


def test_a_coroutine_that_never_ends_is_a_defect_told_with_the_moment() -> None:
    environment = Environment()
    condition = Condition(environment)

    async def forgotten() -> None:
        await Sleep(2.5)
        await condition

    async def fine() -> None:
        await Sleep(1.0)

    for coroutine in (forgotten(), fine(), forgotten()):
        environment.start(coroutine)

    with pytest.raises(ProtocolError) as caught:
        environment.run()
    assert (
        str(caught.value) == "2 simulated worker(s) wait for ever at 2.5 s. Please report the plan."
    )


def test_an_error_of_a_coroutine_comes_out() -> None:
    async def broken() -> None:
        await Sleep(1.0)
        raise ZeroDivisionError

    environment = Environment()
    environment.start(broken())

    with pytest.raises(ZeroDivisionError):
        environment.run()


def test_a_coroutine_may_start_another() -> None:
    environment, seen = Environment(), []

    async def child() -> None:
        await Sleep(1.0)
        seen.append(environment.now)

    async def parent() -> None:
        await Sleep(2.0)
        environment.start(child())

    environment.start(parent())
    environment.run()

    assert seen == [3.0]


def test_nothing_to_do_ends_at_once() -> None:
    environment = Environment()

    environment.run()

    assert environment.now == 0.0
