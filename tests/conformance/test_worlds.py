"""Random plans of random DAGs, in virtual time and by real workers: equal stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.worlds import Case, Lived, Tally, cases, imagined, lived

INLINE_PLANS, PROCESS_PLANS = 120, 20


@pytest.fixture(scope="module", params=["inline", pytest.param("process", marks=pytest.mark.redis)])
def workers(request: pytest.FixtureRequest) -> str:
    """Short name of the launcher that does it for real."""
    name: str = request.param
    if name == "process":
        request.getfixturevalue("agent")
    return name


@pytest.fixture(scope="module")
def launched(workers: str) -> Callable[[int], Any]:
    """Makes a launcher of so many instances."""
    from dagnb import registry

    kind = registry.find("launcher", workers)
    return lambda n: kind(n=n)


@pytest.fixture
def tally(request: pytest.FixtureRequest, workers: str, summary: list[str]) -> Iterator[Tally]:
    """Counts the plans of a test, told at the end."""
    counted = Tally(f"{workers}, {request.node.originalname.removeprefix('test_').replace('_', ' ')}")
    yield counted
    summary.append(counted.line())


def each(strategy: st.SearchStrategy[Case], workers: str, compare: Callable[[Case], None]) -> None:
    """Compare so many random cases as this launcher is quick enough for."""
    n = INLINE_PLANS if workers == "inline" else PROCESS_PLANS

    @settings(max_examples=n, suppress_health_check=[HealthCheck.too_slow])
    @given(strategy)
    def attempt(case: Case) -> None:
        compare(case)

    attempt()


def agree(case: Case, dream: Lived, life: Lived) -> None:
    """What both worlds must have in common, whatever the timing."""
    assert life.values == (case.expected if len(case.nodes) > 1 else case.expected[0])
    pinned = {i: step.worker for i, step in enumerate(case.plan.steps) if step.worker is not None}
    for world in (dream, life):
        assert world.times("start") == world.times("done")
        ran_on = world.ran_on()
        assert {i: ran_on[i] for i in pinned if i in ran_on} == {i: pinned[i] for i in pinned if i in ran_on}


def test_with_one_instance_the_two_stories_are_equal_event_by_event(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    def compare(case: Case) -> None:
        dream, life = imagined(case), lived(case, launched(1))

        with tally.comparing():
            agree(case, dream, life)
            assert set(life.times("done").values()) == {1}
            assert set(life.times("done")) == set(range(len(case.plan.steps)))
            assert life.story == dream.story
            assert life.phases == dream.phases

    each(cases(st.just(1)), workers, compare)


def test_with_copies_and_one_instance_the_two_stories_are_equal_event_by_event(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    def compare(case: Case) -> None:
        dream, life = imagined(case), lived(case, launched(1))

        with tally.comparing():
            agree(case, dream, life)
            assert max(life.times("done").values()) == 1
            assert life.story == dream.story
            assert life.phases == dream.phases

    each(cases(st.just(1), copies=True), workers, compare)


def test_with_several_instances_the_same_order_of_endings_gives_the_same_hand_overs(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    """Functions end in the order of virtual time, so each hand-over has one right answer."""

    def compare(case: Case) -> None:
        dream = imagined(case)
        life = lived(case, launched(case.n), dream)

        with tally.comparing():
            agree(case, dream, life)
            assert life.story == dream.story
            assert {phase for step in life.phases.values() for phase in step} == {
                phase for step in dream.phases.values() for phase in step
            }
            for step, told in dream.phases.items():
                assert {**life.phases[step], "fetch": 0, "queue": 0} == {**told, "fetch": 0, "queue": 0}

    each(cases(st.integers(2, 3), gated=True), workers, compare)


def test_with_several_instances_and_no_order_forced_every_task_is_done_once(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    def compare(case: Case) -> None:
        dream, life = imagined(case), lived(case, launched(case.n))

        with tally.comparing():
            agree(case, dream, life)
            for world in (dream, life):
                assert world.times("done") == dict.fromkeys(range(len(case.plan.steps)), 1)

    each(cases(st.integers(2, 3)), workers, compare)
