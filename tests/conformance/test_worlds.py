"""Random plans of random DAGs, in virtual time and by real workers: equal stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dagnb_workers.launchers.process import Processes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagnb import registry
from dagnb.planning.kept import kept_steps
from dagnb.planning.plan import next_in_order
from tests import graphs
from tests.conformance.agent import private_agent
from tests.conformance.worlds import Case, Lived, Tally, cases, drawn, imagined, lived

INLINE_PLANS, PROCESS_PLANS = 75, 15


@pytest.fixture(scope="module")
def agent() -> Iterator[None]:
    """The agent that starts processes."""
    with private_agent():
        yield


@pytest.fixture(scope="module", params=["inline", pytest.param("process", marks=pytest.mark.redis)])
def workers(request: pytest.FixtureRequest) -> str:
    """Short name of the launcher that does it for real."""
    name: str = request.param
    if name == "process":
        request.getfixturevalue("agent")
    return name


@pytest.fixture(scope="module")
def launched(workers: str) -> Callable[[int], Any]:
    """Makes a launcher of so many instances.

    They take one task at a time: the size of batches depends on how quick the machine is just then.
    """
    kind = registry.find("launcher", workers)
    return lambda n: kind(n=n) if workers == "inline" else kind(n=n, batches=False)


@pytest.fixture
def tally(request: pytest.FixtureRequest, workers: str, summary: list[str]) -> Iterator[Tally]:
    """Counts the plans of a test, told at the end."""
    counted = Tally(
        f"{workers}, {request.node.originalname.removeprefix('test_').replace('_', ' ')}"
    )
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
        assert {i: ran_on[i] for i in pinned if i in ran_on} == {
            i: pinned[i] for i in pinned if i in ran_on
        }


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


def test_with_values_that_stay_and_one_instance_the_two_stories_are_equal_event_by_event(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    n_kept = 0

    def compare(case: Case) -> None:
        nonlocal n_kept
        n_kept += len(kept_steps(case.plan))
        dream, life = imagined(case), lived(case, launched(1))

        with tally.comparing():
            agree(case, dream, life)
            assert life.story == dream.story
            assert life.phases == dream.phases

    each(cases(st.just(1), kept=True, copies=True), workers, compare)
    assert n_kept > 0


@pytest.mark.parametrize(("n", "kept"), [(1, False), (1, True), (3, False)])
def test_with_workers_that_hold_their_order_the_two_stories_are_equal_event_by_event(
    workers: str, launched: Callable[[int], Any], tally: Tally, n: int, kept: bool
) -> None:
    n_waiting = 0

    def compare(case: Case) -> None:
        nonlocal n_waiting
        following = next_in_order(case.plan)
        n_waiting += len(following)
        dream = imagined(case)
        life = lived(case, launched(case.n), dream if n > 1 else None)

        with tally.comparing():
            agree(case, dream, life)
            assert life.story == dream.story
            for world in (dream, life):
                for step, after in following.items():
                    assert world.place("done", step) < world.place("start", after)

    each(cases(st.just(n), hold=True, kept=kept, gated=n > 1), workers, compare)
    assert n_waiting > 0


def test_with_several_instances_the_same_order_of_endings_gives_the_same_hand_overs(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    """Functions end in the order of virtual time, so each hand-over has one right answer.

    Which of the idle instances wakes first is left open, so is who has which value at hand and who
    waits in a queue.
    """

    def compare(case: Case) -> None:
        dream = imagined(case)
        life = lived(case, launched(case.n), dream)

        with tally.comparing():
            agree(case, dream, life)
            assert life.story == dream.story
            for step, told in dream.phases.items():
                assert {**life.phases[step], "fetch": 0, "queue": 0} == {
                    **told,
                    "fetch": 0,
                    "queue": 0,
                }

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


@pytest.mark.redis
@pytest.mark.parametrize("workers", ["process"], indirect=True)  # inline workers take one at a time
@pytest.mark.parametrize("n", [1, 3])
def test_in_batches_every_task_is_done_once_with_the_values_of_the_other_world(
    workers: str, tally: Tally, n: int
) -> None:
    def compare(case: Case) -> None:
        dream, life = imagined(case), lived(case, Processes(n=case.n))

        with tally.comparing():
            agree(case, dream, life)
            for world in (dream, life):
                assert world.times("done") == dict.fromkeys(range(len(case.plan.steps)), 1)

    each(cases(st.just(n)), workers, compare)


def test_every_phase_is_met_in_both_worlds(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    """a -> c, b -> c, large values, two instances: whoever runs c has one of them at hand and
    fetches the other.
    """
    case = drawn(graphs.fan_in(2), n=2, large={"a0", "a1"})

    dream = imagined(case)
    life = lived(case, launched(2), dream)

    with tally.comparing():
        agree(case, dream, life)
        assert life.story == dream.story
        assert life.phases == dream.phases
        assert life.met == dream.met
        assert life.met == {
            *(
                "submit",
                "invoke",
                "register",
                "program",
                "queue",
                "fetch",
                "load",
                "run",
                "dump",
                "store",
            ),
            *("commit", "return"),
        }


def test_who_must_wait_for_the_only_instance_stands_in_the_queue_in_both_worlds(
    workers: str, launched: Callable[[int], Any], tally: Tally
) -> None:
    """a -> b0, b1, b2: the first goes on at once, the others wait"""
    case = drawn(graphs.fan_out(3), n=1)

    dream = imagined(case)
    life = lived(case, launched(1), dream)

    with tally.comparing():
        assert life.phases == dream.phases
        assert [life.phases[step]["queue"] for step in range(4)] == [1, 0, 1, 1]
