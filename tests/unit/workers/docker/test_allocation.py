"""The allocation of containers, checked over many random moments, and played to the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from dagnb_workers.launchers.docker.allocation import (
    Allocation,
    ContainerFacts,
    ContainerRequest,
    ContainerState,
    Limits,
    allocate,
)
from dagnb_workers.launchers.docker.spec import Spec
from hypothesis import given, settings
from hypothesis import strategies as st

SMALL, MIDDLE, LARGE = (Spec(image="i", cpus=1.0, memory_mb=mb) for mb in (100, 200, 400))
OTHER = replace(SMALL, image="other")
SPECS = (SMALL, MIDDLE, LARGE, OTHER)
KINDS = {spec: f"kind-{n}" for n, spec in enumerate(SPECS)}
WIDE = Limits(cap=8, memory_mb=10_000)


def idle(name: str, spec: Spec = SMALL, since: float = 0.0) -> ContainerFacts:
    return ContainerFacts(name=name, spec=spec, state=ContainerState.IDLE, idle_since=since)


def lent(
    name: str, spec: Spec = SMALL, run: str = "r", *, rests: bool = False, expected: bool = False
) -> ContainerFacts:
    return ContainerFacts(
        name=name,
        spec=spec,
        state=ContainerState.LENT,
        run=run,
        kind=KINDS[spec],
        is_resting=rests,
        is_expected=expected,
    )


def ending(name: str, spec: Spec = SMALL) -> ContainerFacts:
    return ContainerFacts(name=name, spec=spec, state=ContainerState.ENDING)


def starting(name: str, spec: Spec = SMALL, run: str = "r") -> ContainerFacts:
    return ContainerFacts(
        name=name,
        spec=spec,
        state=ContainerState.STARTING,
        run=run,
        kind=KINDS[spec],
        is_expected=bool(run),
    )


def request(spec: Spec = SMALL, n: int = 1, run: str = "r") -> ContainerRequest:
    return ContainerRequest(run=run, kind=KINDS[spec], spec=spec, n=n)


def lent_names(allocation: Allocation) -> list[str]:
    return [name for name, _ in allocation.lend]


# ---- one decision ----


def test_nothing_is_done_when_nothing_is_requested() -> None:
    containers = [idle("a"), lent("b", rests=True), ending("c"), starting("d", run="")]

    assert allocate(containers, [], Limits(cap=1, memory_mb=1)) == Allocation()


def test_a_request_gets_the_warm_container_that_was_used_last() -> None:
    allocation = allocate([idle("old", since=1.0), idle("new", since=2.0)], [request()], WIDE)

    assert allocation == Allocation(lend=(("new", request()),))


def test_one_is_started_where_none_is_warm_and_there_is_room() -> None:
    allocation = allocate([idle("a", OTHER), lent("b")], [request(n=2)], WIDE)

    assert allocation == Allocation(start=(request(n=2), request(n=2)))


def test_who_is_on_the_way_is_not_asked_for_again() -> None:
    containers = [
        starting("a"),
        lent("b", expected=True),
        lent("c"),
        lent("d", run="other", expected=True),
    ]

    assert allocate(containers, [request(n=2)], WIDE) == Allocation()
    assert allocate(containers, [request(n=3)], WIDE) == Allocation(start=(request(n=3),))


def test_one_that_is_being_started_for_no_run_is_taken_rather_than_another_started() -> None:
    assert allocate([starting("a", run="")], [request()], WIDE) == Allocation(
        lend=(("a", request()),)
    )


def test_one_that_is_started_now_is_not_lent_again_in_the_same_decision() -> None:
    allocation = allocate([], [request(run="r"), request(run="s")], WIDE)

    assert allocation == Allocation(start=(request(run="r"), request(run="s")))


def test_the_smallest_idle_one_that_makes_room_enough_is_ended() -> None:
    containers = [idle("large", LARGE), idle("middle", MIDDLE), idle("other", OTHER)]

    assert allocate(containers, [request(SMALL)], Limits(cap=3, memory_mb=10_000)).end == ("other",)
    assert allocate(containers, [request(SMALL)], Limits(cap=8, memory_mb=700)).end == ("other",)
    assert allocate(containers[:2], [request(SMALL)], Limits(cap=8, memory_mb=600)).end == (
        "middle",
    )


def test_where_none_alone_is_enough_the_largest_goes_first_and_no_more_than_needed() -> None:
    containers = [idle("a", SMALL), idle("b", OTHER), idle("c", MIDDLE), idle("d", MIDDLE)]

    allocation = allocate(containers, [request(LARGE)], Limits(cap=8, memory_mb=600))

    assert allocation == Allocation(end=("c", "d"))


def test_of_equals_the_one_that_was_idle_longest_goes() -> None:
    containers = [idle("new", OTHER, since=2.0), idle("old", OTHER, since=1.0)]

    assert allocate(containers, [request()], Limits(cap=2, memory_mb=10_000)).end == ("old",)


def test_room_that_is_coming_is_waited_for() -> None:
    containers = [ending("a", OTHER), idle("b", OTHER)]

    assert allocate(containers, [request()], Limits(cap=2, memory_mb=10_000)) == Allocation()


def test_resting_containers_are_asked_back_only_when_ending_idle_ones_is_not_enough() -> None:
    resting, busy = lent("resting", MIDDLE, "s", rests=True), lent("busy", MIDDLE, "s")

    full = allocate([resting, busy], [request()], Limits(cap=2, memory_mb=10_000))
    with_idle = allocate(
        [resting, busy, idle("i", OTHER)], [request()], Limits(cap=3, memory_mb=10_000)
    )

    assert full == Allocation(end_when_idle=("resting",))
    assert with_idle == Allocation(end=("i",))


def test_a_run_that_holds_its_share_is_asked_for_its_own_resting_containers_and_no_others() -> None:
    containers = [
        lent("mine", MIDDLE, "r", rests=True),
        lent("others", MIDDLE, "s", rests=True),
        idle("i", OTHER),
    ]

    allocation = allocate(
        containers, [request(SMALL)], Limits(cap=8, memory_mb=10_000, per_run={"r": 1, "s": 8})
    )

    assert allocation == Allocation(end_when_idle=("mine",))


def test_a_run_holds_no_more_than_its_own_launcher_allows() -> None:
    limits = Limits(cap=8, memory_mb=10_000, per_run={"r": 2})

    assert allocate([], [request(n=5)], limits) == Allocation(start=(request(n=5),) * 2)
    assert allocate([lent("a"), idle("b")], [request(n=5)], limits) == Allocation(
        lend=(("b", request(n=5)),)
    )


def test_requests_are_served_one_each_in_turn() -> None:
    first, second = request(SMALL, n=5), request(MIDDLE, n=5, run="s")

    assert allocate([], [first, second], Limits(cap=3, memory_mb=10_000)).start == (
        first,
        second,
        first,
    )


# ---- requests without a run ----


def test_a_request_without_a_run_starts_containers_and_is_lent_none() -> None:
    more = request(n=2, run="")

    assert allocate([idle("warm")], [more], WIDE) == Allocation(start=(more, more))
    assert allocate(
        [idle("warm"), starting("coming", run="")], [more], Limits(cap=3, memory_mb=10_000)
    ).start == (more,)


def test_room_for_no_run_is_made_of_idle_ones_of_another_spec_only() -> None:
    containers = [idle("alike", MIDDLE), idle("other", OTHER), lent("resting", SMALL, rests=True)]

    allocation = allocate(
        containers, [request(MIDDLE, n=3, run="")], Limits(cap=3, memory_mb=10_000)
    )

    assert allocation == Allocation(end=("other",))
    assert (
        allocate([idle("alike")], [request(run="")], Limits(cap=1, memory_mb=10_000))
        == Allocation()
    )


def test_nothing_is_ended_for_no_run_when_it_would_not_be_enough() -> None:
    containers = [idle("a", SMALL), lent("busy", MIDDLE)]

    assert (
        allocate(containers, [request(LARGE, run="")], Limits(cap=8, memory_mb=500)) == Allocation()
    )
    assert allocate(
        containers, [request(LARGE, run="")], Limits(cap=8, memory_mb=600)
    ) == Allocation(end=("a",))


# ---- every decision ----


def _held(
    name: str, spec: Spec, state: ContainerState, run: str, flags: tuple[bool, bool], since: float
) -> ContainerFacts:
    if state in {ContainerState.IDLE, ContainerState.ENDING}:
        run = ""
    has_run = bool(run) or state is ContainerState.LENT
    return ContainerFacts(
        name=name,
        spec=spec,
        state=state,
        run=(run or "r") if has_run else "",
        kind=KINDS[spec] if has_run else "",
        is_expected=has_run and flags[0],
        is_resting=state is ContainerState.LENT and flags[1] and not flags[0],
        idle_since=since,
    )


SOME = st.lists(
    st.builds(
        _held,
        st.just(""),
        st.sampled_from(SPECS),
        st.sampled_from(ContainerState),
        st.sampled_from(["", "r", "s"]),
        st.tuples(st.booleans(), st.booleans()),
        st.integers(0, 3).map(float),
    ),
    max_size=6,
).map(
    lambda containers: [replace(container, name=f"b{n}") for n, container in enumerate(containers)]
)
REQUESTS = st.lists(
    st.builds(request, st.sampled_from(SPECS), st.integers(1, 4), st.sampled_from(["r", "s", ""])),
    max_size=4,
    unique_by=lambda w: (w.run, w.kind),
)


@st.composite
def moments(draw: st.DrawFn) -> tuple[list[ContainerFacts], list[ContainerRequest], Limits]:
    """Containers that keep to the limits, and requests."""
    containers, requests = draw(SOME), draw(REQUESTS)
    used_mb = sum(container.spec.memory_mb for container in containers)
    limits = Limits(
        cap=max(1, len(containers)) + draw(st.integers(0, 2)),
        memory_mb=max(used_mb, 400) + draw(st.sampled_from([0, 100, 500])),
        per_run=draw(st.dictionaries(st.sampled_from(["r", "s"]), st.integers(1, 4))),
    )
    return containers, requests, limits


@given(moments())
@settings(max_examples=400, derandomize=True)
def test_no_decision_goes_beyond_the_limits_or_gives_what_does_not_fit(
    moment: tuple[list[ContainerFacts], list[ContainerRequest], Limits],
) -> None:
    containers, requests, limits = moment
    by_name = {container.name: container for container in containers}

    allocation = allocate(containers, requests, limits)

    # never beyond the cap or the memory: one that is ending counts until it is gone
    assert len(containers) + len(allocation.start) <= limits.cap
    assert (
        sum(b.spec.memory_mb for b in containers) + sum(w.spec.memory_mb for w in allocation.start)
        <= limits.memory_mb
    )
    # lent are warm ones of the same spec, each once
    assert len(set(lent_names(allocation))) == len(allocation.lend)
    for name, got in allocation.lend:
        assert by_name[name].spec == got.spec
        assert got.run
        assert by_name[name].state is ContainerState.IDLE or (
            by_name[name].state is ContainerState.STARTING and not by_name[name].run
        )
    # only the idle are ended, only the resting asked back, and none of them is lent
    assert all(by_name[name].state is ContainerState.IDLE for name in allocation.end)
    assert all(by_name[name].is_resting for name in allocation.end_when_idle)
    assert not {*allocation.end, *allocation.end_when_idle} & {*lent_names(allocation)}
    assert len(set(allocation.end)) == len(allocation.end)
    # no run gets more than was asked for, or than its run may hold
    given_to = Counter(
        [(w.run, w.kind) for _, w in allocation.lend] + [(w.run, w.kind) for w in allocation.start]
    )
    asked = {(w.run, w.kind): w.n for w in requests}
    assert all(given_to[key] <= asked[key] for key in given_to)
    for run, most in limits.per_run.items():
        held_by_it = sum(
            container.run == run and container.state is not ContainerState.ENDING
            for container in containers
        )
        more = sum(n for (of, _), n in given_to.items() if of == run)
        assert not more or held_by_it + more <= most


@given(moments().filter(lambda moment: bool(moment[1])))
@settings(max_examples=300, derandomize=True)
def test_nothing_is_ended_or_asked_back_without_need(
    moment: tuple[list[ContainerFacts], list[ContainerRequest], Limits],
) -> None:
    """One request only: a later one may need so much room that the earlier one fits beside it."""
    containers, (only, *_), limits = moment

    allocation = allocate(containers, [only], limits)

    n_got = len(allocation.lend) + len(allocation.start)
    started = [ContainerFacts(name="+", spec=only.spec, state=ContainerState.STARTING)] * len(
        allocation.start
    )
    for name in allocation.end:  # with only this one spared, it would go without
        spared = [
            *started,
            *(
                container
                for container in containers
                if container.name not in allocation.end or container.name == name
            ),
        ]
        used_mb = sum(container.spec.memory_mb for container in spared) + only.spec.memory_mb
        assert len(spared) + 1 > limits.cap or used_mb > limits.memory_mb
    assert n_got < only.n or not (allocation.end or allocation.end_when_idle)


@given(moments(), st.sampled_from(SPECS), st.integers(1, 4))
@settings(max_examples=300, derandomize=True)
def test_making_room_for_no_run_comes_to_an_end(
    moment: tuple[list[ContainerFacts], list[ContainerRequest], Limits], spec: Spec, n: int
) -> None:
    """Repeated when those that end are gone, it soon ends no more, and ended none in vain."""
    containers, _, limits = moment
    there, n_ended = containers, 0

    for _ in containers:
        ended = allocate(there, [request(spec, n, "")], limits).end
        n_ended += len(ended)
        there = [
            container
            for container in there
            if container.name not in ended and container.state is not ContainerState.ENDING
        ]

    allocation = allocate(there, [request(spec, n, "")], limits)
    assert allocation.end == allocation.end_when_idle == ()
    assert allocation.start or not n_ended
    assert all(
        container in there
        for container in containers
        if container.spec == spec and container.state is ContainerState.IDLE
    )


@given(moments())
@settings(max_examples=50, derandomize=True)
def test_equal_moments_give_equal_allocations(
    moment: tuple[list[ContainerFacts], list[ContainerRequest], Limits],
) -> None:
    assert allocate(*moment) == allocate(*moment)


# ---- to the end ----


class Play:
    """Containers that start, work and end one step at a time.

    A resting worker stays until it is asked back.

    todo: run -> kinds of its tasks, each of which needs one worker for one step.
    """

    def __init__(self, todo: dict[str, list[Spec]], limits: Limits, chance: random.Random) -> None:
        self.todo, self.limits, self.chance = todo, limits, chance
        self.containers: dict[str, ContainerFacts] = {}
        self.n_made, self.ended = 0, list[str]()

    def requests(self) -> list[ContainerRequest]:
        """Returns requests as run drivers do: resting workers take ready tasks by themselves."""
        requests = []
        for run, specs in self.todo.items():
            for spec, n in Counter(specs).items():
                n_there = sum(
                    container.run == run
                    and container.spec == spec
                    and container.state is ContainerState.LENT
                    and not container.is_expected
                    for container in self.containers.values()
                )
                if n > n_there:
                    requests.append(request(spec, n - n_there, run))
        return requests

    def obey(self, allocation: Allocation) -> None:
        for name in allocation.end:
            self.containers[name] = replace(self.containers[name], state=ContainerState.ENDING)
            self.ended.append(name)
        for name, got in allocation.lend:
            state = (
                ContainerState.LENT
                if self.containers[name].state is ContainerState.IDLE
                else ContainerState.STARTING
            )
            self.containers[name] = replace(
                self.containers[name], state=state, run=got.run, kind=got.kind, is_expected=True
            )
        for got in allocation.start:
            self.n_made += 1
            self.containers[f"c{self.n_made}"] = replace(
                starting(f"c{self.n_made}", got.spec, got.run), kind=got.kind
            )
        for name in allocation.end_when_idle:
            self.containers[name] = replace(
                idle(name, self.containers[name].spec), idle_since=float(self.n_made)
            )

    def step(self) -> None:
        """One thing happens."""
        container = self.chance.choice(list(self.containers.values()))
        if container.state is ContainerState.ENDING:
            del self.containers[container.name]
        elif container.state is ContainerState.STARTING:
            self.containers[container.name] = replace(
                container, state=ContainerState.LENT if container.run else ContainerState.IDLE
            )
        elif container.state is ContainerState.LENT and container.spec in self.todo.get(
            container.run, []
        ):
            self.todo[container.run].remove(container.spec)
            self.containers[container.name] = replace(container, is_expected=False, is_resting=True)
        elif container.state is ContainerState.LENT:
            self.containers[container.name] = replace(container, is_expected=False, is_resting=True)

    def to_the_end(self, n_most: int) -> None:
        for _ in range(n_most):
            if not any(self.todo.values()):
                return
            self.obey(allocate(self.containers.values(), self.requests(), self.limits))
            assert len(self.containers) <= self.limits.cap
            assert (
                sum(container.spec.memory_mb for container in self.containers.values())
                <= self.limits.memory_mb
            )
            self.step()
        raise AssertionError(
            f"still to do after {n_most} steps: {self.todo}, with {self.containers}"
        )


TODO = st.dictionaries(
    st.sampled_from(["r", "s", "t"]),
    st.lists(st.sampled_from(SPECS), min_size=1, max_size=8),
    min_size=1,
)


@given(
    TODO, st.integers(1, 3), st.sampled_from([400, 500, 900]), st.integers(0, 2**32), st.booleans()
)
@settings(max_examples=300, derandomize=True)
def test_every_request_is_served_under_any_cap_that_its_spec_fits(
    todo: dict[str, list[Spec]], cap: int, memory_mb: int, seed: int, has_shares: bool
) -> None:
    """Workers that linger for ever make it harder: one that is not asked back never leaves."""
    chance = random.Random(seed)
    per_run = {run: chance.randint(1, cap) for run in todo} if has_shares else {}

    Play(todo, Limits(cap=cap, memory_mb=memory_mb, per_run=per_run), chance).to_the_end(2_000)


@pytest.mark.parametrize("specs", [[SMALL, LARGE, OTHER], [SMALL] * 3 + [LARGE] * 3 + [MIDDLE] * 2])
@pytest.mark.parametrize("per_run", [{}, {"r": 1}])
def test_one_container_at_a_time_serves_every_kind_of_a_run(
    specs: Sequence[Spec], per_run: dict[str, int]
) -> None:
    play = Play({"r": list(specs)}, Limits(cap=1, memory_mb=400, per_run=per_run), random.Random(0))

    play.to_the_end(200)

    assert play.n_made == len(set(specs))
    assert len(play.ended) == len(set(specs)) - 1
