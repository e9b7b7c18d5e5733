"""Which container does what next, decided over many random moments, and played to the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from dagnb_workers.launchers.docker.allocation import (
    ContainerState,
    Held,
    Limits,
    Orders,
    Want,
    decide,
)
from dagnb_workers.launchers.docker.spec import Spec
from hypothesis import given, settings
from hypothesis import strategies as st

SMALL, MIDDLE, LARGE = (Spec(image="i", cpus=1.0, memory_mb=mb) for mb in (100, 200, 400))
OTHER = replace(SMALL, image="other")
SPECS = (SMALL, MIDDLE, LARGE, OTHER)
KINDS = {spec: f"kind-{n}" for n, spec in enumerate(SPECS)}
WIDE = Limits(cap=8, memory_mb=10_000)


def idle(name: str, spec: Spec = SMALL, since: float = 0.0) -> Held:
    return Held(name=name, spec=spec, state=ContainerState.IDLE, idle_since=since)


def lent(
    name: str, spec: Spec = SMALL, run: str = "r", *, rests: bool = False, expected: bool = False
) -> Held:
    return Held(
        name=name,
        spec=spec,
        state=ContainerState.LENT,
        run=run,
        kind=KINDS[spec],
        is_resting=rests,
        is_expected=expected,
    )


def ending(name: str, spec: Spec = SMALL) -> Held:
    return Held(name=name, spec=spec, state=ContainerState.ENDING)


def starting(name: str, spec: Spec = SMALL, run: str = "r") -> Held:
    return Held(
        name=name,
        spec=spec,
        state=ContainerState.STARTING,
        run=run,
        kind=KINDS[spec],
        is_expected=bool(run),
    )


def want(spec: Spec = SMALL, n: int = 1, run: str = "r") -> Want:
    return Want(run=run, kind=KINDS[spec], spec=spec, n=n)


def lent_names(orders: Orders) -> list[str]:
    return [name for name, _ in orders.lend]


# ---- one decision ----


def test_nothing_is_ordered_when_nothing_is_wanted() -> None:
    held = [idle("a"), lent("b", rests=True), ending("c"), starting("d", run="")]

    assert decide(held, [], Limits(cap=1, memory_mb=1)) == Orders()


def test_a_want_gets_the_warm_container_that_was_used_last() -> None:
    orders = decide([idle("old", since=1.0), idle("new", since=2.0)], [want()], WIDE)

    assert orders == Orders(lend=(("new", want()),))


def test_one_is_started_where_none_is_warm_and_there_is_room() -> None:
    orders = decide([idle("a", OTHER), lent("b")], [want(n=2)], WIDE)

    assert orders == Orders(start=(want(n=2), want(n=2)))


def test_who_is_on_the_way_is_not_asked_for_again() -> None:
    held = [
        starting("a"),
        lent("b", expected=True),
        lent("c"),
        lent("d", run="other", expected=True),
    ]

    assert decide(held, [want(n=2)], WIDE) == Orders()
    assert decide(held, [want(n=3)], WIDE) == Orders(start=(want(n=3),))


def test_one_that_is_being_started_for_nobody_is_taken_rather_than_another_started() -> None:
    assert decide([starting("a", run="")], [want()], WIDE) == Orders(lend=(("a", want()),))


def test_one_that_is_started_now_is_lent_to_nobody_else_in_the_same_decision() -> None:
    orders = decide([], [want(run="r"), want(run="s")], WIDE)

    assert orders == Orders(start=(want(run="r"), want(run="s")))


def test_the_smallest_idle_one_that_makes_room_enough_is_ended() -> None:
    held = [idle("large", LARGE), idle("middle", MIDDLE), idle("other", OTHER)]

    assert decide(held, [want(SMALL)], Limits(cap=3, memory_mb=10_000)).end == ("other",)
    assert decide(held, [want(SMALL)], Limits(cap=8, memory_mb=700)).end == ("other",)
    assert decide(held[:2], [want(SMALL)], Limits(cap=8, memory_mb=600)).end == ("middle",)


def test_where_none_alone_is_enough_the_largest_goes_first_and_no_more_than_needed() -> None:
    held = [idle("a", SMALL), idle("b", OTHER), idle("c", MIDDLE), idle("d", MIDDLE)]

    orders = decide(held, [want(LARGE)], Limits(cap=8, memory_mb=600))

    assert orders == Orders(end=("c", "d"))


def test_of_equals_the_one_that_was_idle_longest_goes() -> None:
    held = [idle("new", OTHER, since=2.0), idle("old", OTHER, since=1.0)]

    assert decide(held, [want()], Limits(cap=2, memory_mb=10_000)).end == ("old",)


def test_room_that_is_coming_is_waited_for() -> None:
    held = [ending("a", OTHER), idle("b", OTHER)]

    assert decide(held, [want()], Limits(cap=2, memory_mb=10_000)) == Orders()


def test_who_rests_is_hurried_only_when_ending_idle_ones_is_not_enough() -> None:
    resting, busy = lent("resting", MIDDLE, "s", rests=True), lent("busy", MIDDLE, "s")

    full = decide([resting, busy], [want()], Limits(cap=2, memory_mb=10_000))
    with_idle = decide([resting, busy, idle("i", OTHER)], [want()], Limits(cap=3, memory_mb=10_000))

    assert full == Orders(hurry=("resting",))
    assert with_idle == Orders(end=("i",))


def test_a_run_whose_share_is_used_up_hurries_its_own_resting_workers_and_nobody_else() -> None:
    held = [
        lent("mine", MIDDLE, "r", rests=True),
        lent("others", MIDDLE, "s", rests=True),
        idle("i", OTHER),
    ]

    orders = decide(held, [want(SMALL)], Limits(cap=8, memory_mb=10_000, per_run={"r": 1, "s": 8}))

    assert orders == Orders(hurry=("mine",))


def test_a_run_holds_no_more_than_its_own_launcher_allows() -> None:
    limits = Limits(cap=8, memory_mb=10_000, per_run={"r": 2})

    assert decide([], [want(n=5)], limits) == Orders(start=(want(n=5),) * 2)
    assert decide([lent("a"), idle("b")], [want(n=5)], limits) == Orders(lend=(("b", want(n=5)),))


def test_wants_are_served_one_each_in_turn() -> None:
    first, second = want(SMALL, n=5), want(MIDDLE, n=5, run="s")

    assert decide([], [first, second], Limits(cap=3, memory_mb=10_000)).start == (
        first,
        second,
        first,
    )


# ---- wants of nobody ----


def test_what_is_wanted_for_nobody_is_started_and_nothing_is_lent() -> None:
    more = want(n=2, run="")

    assert decide([idle("warm")], [more], WIDE) == Orders(start=(more, more))
    assert decide(
        [idle("warm"), starting("coming", run="")], [more], Limits(cap=3, memory_mb=10_000)
    ).start == (more,)


def test_room_for_nobody_is_made_of_idle_ones_of_another_spec_only() -> None:
    held = [idle("alike", MIDDLE), idle("other", OTHER), lent("resting", SMALL, rests=True)]

    orders = decide(held, [want(MIDDLE, n=3, run="")], Limits(cap=3, memory_mb=10_000))

    assert orders == Orders(end=("other",))
    assert decide([idle("alike")], [want(run="")], Limits(cap=1, memory_mb=10_000)) == Orders()


def test_nothing_is_ended_for_nobody_when_it_would_not_be_enough() -> None:
    held = [idle("a", SMALL), lent("busy", MIDDLE)]

    assert decide(held, [want(LARGE, run="")], Limits(cap=8, memory_mb=500)) == Orders()
    assert decide(held, [want(LARGE, run="")], Limits(cap=8, memory_mb=600)) == Orders(end=("a",))


# ---- every decision ----


def _held(
    name: str, spec: Spec, state: ContainerState, run: str, flags: tuple[bool, bool], since: float
) -> Held:
    if state in {ContainerState.IDLE, ContainerState.ENDING}:
        run = ""
    has_run = bool(run) or state is ContainerState.LENT
    return Held(
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
).map(lambda boxes: [replace(box, name=f"b{n}") for n, box in enumerate(boxes)])
WANTS = st.lists(
    st.builds(want, st.sampled_from(SPECS), st.integers(1, 4), st.sampled_from(["r", "s", ""])),
    max_size=4,
    unique_by=lambda w: (w.run, w.kind),
)


@st.composite
def moments(draw: st.DrawFn) -> tuple[list[Held], list[Want], Limits]:
    """What there is keeps to the limits."""
    held, wants = draw(SOME), draw(WANTS)
    used_mb = sum(box.spec.memory_mb for box in held)
    limits = Limits(
        cap=max(1, len(held)) + draw(st.integers(0, 2)),
        memory_mb=max(used_mb, 400) + draw(st.sampled_from([0, 100, 500])),
        per_run=draw(st.dictionaries(st.sampled_from(["r", "s"]), st.integers(1, 4))),
    )
    return held, wants, limits


@given(moments())
@settings(max_examples=400, derandomize=True)
def test_no_decision_goes_beyond_the_limits_or_gives_what_does_not_fit(
    moment: tuple[list[Held], list[Want], Limits],
) -> None:
    held, wants, limits = moment
    by_name = {box.name: box for box in held}

    orders = decide(held, wants, limits)

    # never beyond the cap or the memory: who is ending counts until it is gone
    assert len(held) + len(orders.start) <= limits.cap
    assert (
        sum(b.spec.memory_mb for b in held) + sum(w.spec.memory_mb for w in orders.start)
        <= limits.memory_mb
    )
    # lent are warm ones of the same spec, each once
    assert len(set(lent_names(orders))) == len(orders.lend)
    for name, got in orders.lend:
        assert by_name[name].spec == got.spec
        assert got.run
        assert by_name[name].state is ContainerState.IDLE or (
            by_name[name].state is ContainerState.STARTING and not by_name[name].run
        )
    # only the idle are ended, only the resting hurried, and none of them is lent
    assert all(by_name[name].state is ContainerState.IDLE for name in orders.end)
    assert all(by_name[name].is_resting for name in orders.hurry)
    assert not {*orders.end, *orders.hurry} & {*lent_names(orders)}
    assert len(set(orders.end)) == len(orders.end)
    # nobody gets more than was asked for, or than its run may hold
    given_to = Counter(
        [(w.run, w.kind) for _, w in orders.lend] + [(w.run, w.kind) for w in orders.start]
    )
    asked = {(w.run, w.kind): w.n for w in wants}
    assert all(given_to[key] <= asked[key] for key in given_to)
    for run, most in limits.per_run.items():
        held_by_it = sum(box.run == run and box.state is not ContainerState.ENDING for box in held)
        more = sum(n for (of, _), n in given_to.items() if of == run)
        assert not more or held_by_it + more <= most


@given(moments().filter(lambda moment: bool(moment[1])))
@settings(max_examples=300, derandomize=True)
def test_nothing_is_ended_or_hurried_without_need(
    moment: tuple[list[Held], list[Want], Limits],
) -> None:
    """Of several wants, a later one may need a place so large that an earlier one would have fitted beside it."""
    held, (only, *_), limits = moment

    orders = decide(held, [only], limits)

    n_got = len(orders.lend) + len(orders.start)
    started = [Held(name="+", spec=only.spec, state=ContainerState.STARTING)] * len(orders.start)
    for name in orders.end:  # with only this one spared, it would go without
        spared = [
            *started,
            *(box for box in held if box.name not in orders.end or box.name == name),
        ]
        used_mb = sum(box.spec.memory_mb for box in spared) + only.spec.memory_mb
        assert len(spared) + 1 > limits.cap or used_mb > limits.memory_mb
    assert n_got < only.n or not (orders.end or orders.hurry)


@given(moments(), st.sampled_from(SPECS), st.integers(1, 4))
@settings(max_examples=300, derandomize=True)
def test_making_room_for_nobody_comes_to_an_end(
    moment: tuple[list[Held], list[Want], Limits], spec: Spec, n: int
) -> None:
    """Asked again when those that end are gone, it soon ends no more; what it ended was not in vain."""
    held, _, limits = moment
    there, n_ended = held, 0

    for _ in held:
        ended = decide(there, [want(spec, n, "")], limits).end
        n_ended += len(ended)
        there = [
            box for box in there if box.name not in ended and box.state is not ContainerState.ENDING
        ]

    orders = decide(there, [want(spec, n, "")], limits)
    assert orders.end == orders.hurry == ()
    assert orders.start or not n_ended
    assert all(
        box in there for box in held if box.spec == spec and box.state is ContainerState.IDLE
    )


@given(moments())
@settings(max_examples=50, derandomize=True)
def test_equal_moments_give_equal_orders(moment: tuple[list[Held], list[Want], Limits]) -> None:
    assert decide(*moment) == decide(*moment)


# ---- to the end ----


class Play:
    """Containers that start, work and end one step at a time; a resting worker stays until it is hurried.

    todo: run -> kinds of its tasks, each of which needs one worker for one step.
    """

    def __init__(self, todo: dict[str, list[Spec]], limits: Limits, chance: random.Random) -> None:
        self.todo, self.limits, self.chance = todo, limits, chance
        self.boxes: dict[str, Held] = {}
        self.n_made, self.ended = 0, list[str]()

    def wants(self) -> list[Want]:
        """As a follower tells them: resting workers of the kind take what is ready by themselves."""
        found = []
        for run, specs in self.todo.items():
            for spec, n in Counter(specs).items():
                n_there = sum(
                    box.run == run
                    and box.spec == spec
                    and box.state is ContainerState.LENT
                    and not box.is_expected
                    for box in self.boxes.values()
                )
                if n > n_there:
                    found.append(want(spec, n - n_there, run))
        return found

    def obey(self, orders: Orders) -> None:
        for name in orders.end:
            self.boxes[name] = replace(self.boxes[name], state=ContainerState.ENDING)
            self.ended.append(name)
        for name, got in orders.lend:
            state = (
                ContainerState.LENT
                if self.boxes[name].state is ContainerState.IDLE
                else ContainerState.STARTING
            )
            self.boxes[name] = replace(
                self.boxes[name], state=state, run=got.run, kind=got.kind, is_expected=True
            )
        for got in orders.start:
            self.n_made += 1
            self.boxes[f"c{self.n_made}"] = replace(
                starting(f"c{self.n_made}", got.spec, got.run), kind=got.kind
            )
        for name in orders.hurry:
            self.boxes[name] = replace(
                idle(name, self.boxes[name].spec), idle_since=float(self.n_made)
            )

    def step(self) -> None:
        """One thing happens."""
        box = self.chance.choice(list(self.boxes.values()))
        if box.state is ContainerState.ENDING:
            del self.boxes[box.name]
        elif box.state is ContainerState.STARTING:
            self.boxes[box.name] = replace(
                box, state=ContainerState.LENT if box.run else ContainerState.IDLE
            )
        elif box.state is ContainerState.LENT and box.spec in self.todo.get(box.run, []):
            self.todo[box.run].remove(box.spec)
            self.boxes[box.name] = replace(box, is_expected=False, is_resting=True)
        elif box.state is ContainerState.LENT:
            self.boxes[box.name] = replace(box, is_expected=False, is_resting=True)

    def to_the_end(self, n_most: int) -> None:
        for _ in range(n_most):
            if not any(self.todo.values()):
                return
            self.obey(decide(self.boxes.values(), self.wants(), self.limits))
            assert len(self.boxes) <= self.limits.cap
            assert sum(box.spec.memory_mb for box in self.boxes.values()) <= self.limits.memory_mb
            self.step()
        raise AssertionError(f"still to do after {n_most} steps: {self.todo}, with {self.boxes}")


TODO = st.dictionaries(
    st.sampled_from(["r", "s", "t"]),
    st.lists(st.sampled_from(SPECS), min_size=1, max_size=8),
    min_size=1,
)


@given(
    TODO, st.integers(1, 3), st.sampled_from([400, 500, 900]), st.integers(0, 2**32), st.booleans()
)
@settings(max_examples=300, derandomize=True)
def test_every_want_is_served_under_any_cap_that_its_spec_fits(
    todo: dict[str, list[Spec]], cap: int, memory_mb: int, seed: int, has_shares: bool
) -> None:
    """Workers that linger for ever make it harder: who is not hurried never leaves."""
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
