"""simulate: the worker's own code in virtual time. Moments of small graphs are checked by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnb.errors import ProtocolError
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import LONG_S, Plan, Step
from dagnb.planning.planner import Costs, LinearCost, Pool, StartCost
from dagnb.protocol.messages import RunState
from dagnb.protocol.worker import LOOK_S, Worker
from dagnb.simulation.simulate import play, simulate
from dagnb.simulation.simulated_run import SimulatedRun, layout_for
from dagnb.simulation.world import VirtualWorld
from dagnb.trace.trace import Phase, Trace
from tests import graphs, strategies

FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "wake_s": 0.0,
    "submit_s": 0.0,
    "return_s": 0.0,
}
"""prices at which only functions take time"""


def floating(dag: Dag) -> Plan:
    steps = tuple(
        Step(task=i, upstream=call.upstream, priority=i) for i, call in enumerate(dag.calls)
    )
    return Plan(dag=dag, steps=steps, planner="floating")


def pinned(dag: Dag, *workers: str) -> Plan:
    placed = enumerate(zip(dag.calls, workers, strict=True))
    steps = tuple(
        Step(task=i, upstream=call.upstream, worker=worker) for i, (call, worker) in placed
    )
    return Plan(dag=dag, steps=steps, planner="pinned")


def calls_of_one(n: int) -> Dag:
    """n calls of one function that need nothing."""
    call = graphs.wide(1).calls[0]
    calls = tuple(replace(call, name=f"f-{number}", upstream=()) for number in range(n))
    return Dag(calls, tuple(range(n)))


def runs(trace: Trace) -> dict[str, tuple[float, float]]:
    return {trace.names[s.task]: (s.begin_s, s.end_s) for s in trace.spans if s.phase is Phase.RUN}


@given(st.data())
@settings(max_examples=25)
def test_equal_inputs_give_equal_bytes(data: st.DataObject) -> None:
    plan = data.draw(strategies.planned(max_tasks=12, copies=True))
    costs = data.draw(strategies.costs(plan.dag))
    n = data.draw(st.integers(1, 4))

    assert (
        simulate(plan, costs, Pool(cap=n)).to_json() == simulate(plan, costs, Pool(cap=n)).to_json()
    )


@given(st.data())
@settings(max_examples=25)
def test_every_step_of_a_plan_without_copies_runs_once_after_its_upstream(
    data: st.DataObject,
) -> None:
    plan = data.draw(strategies.planned(max_tasks=12))
    costs = data.draw(strategies.costs(plan.dag))

    trace = simulate(plan, costs, Pool(cap=data.draw(st.integers(1, 4))))

    begin = {s.task: s.begin_s for s in trace.spans if s.phase is Phase.RUN}
    end = {s.task: s.end_s for s in trace.spans if s.phase is Phase.DUMP}
    assert Counter(s.task for s in trace.spans if s.phase is Phase.RUN) == Counter(
        range(len(plan.steps))
    )
    for position, step in enumerate(plan.steps):
        assert all(begin[position] >= end[u] for u in step.upstream)


@given(st.data())
@settings(max_examples=25)
def test_no_worker_runs_two_functions_at_a_time_and_no_more_run_than_instances(
    data: st.DataObject,
) -> None:
    plan = data.draw(strategies.planned(max_tasks=12))
    n = data.draw(st.integers(1, 3))

    trace = simulate(plan, Costs(), Pool(cap=n))

    spans = [s for s in trace.spans if s.phase is Phase.RUN]
    for worker in trace.workers:
        for one, other in pairwise(s for s in spans if s.worker == worker):
            assert other.begin_s >= one.end_s
    assert all(sum(s.begin_s <= moment.begin_s < s.end_s for s in spans) <= n for moment in spans)


def test_a_chain_takes_the_sum_of_its_parts() -> None:
    costs = Costs(run_s={0: 1.0, 1: 2.0, 2: 4.0}, **FREE)

    trace = simulate(floating(graphs.chain(3)), costs, Pool(cap=1))

    assert runs(trace) == {"t0": (0.0, 1.0), "t1": (1.0, 3.0), "t2": (3.0, 7.0)}
    assert trace.makespan_s == 7.0


@pytest.mark.parametrize(
    ("gate_s", "order", "n_stored"), [(0.2, "u x r", 1), (0.8, "u r x", 0)], ids=["late", "later"]
)
def test_a_pinned_worker_keeps_a_value_unless_a_more_urgent_task_is_ready_by_then(
    gate_s: float, order: str, n_stored: int
) -> None:
    """g (on v) -> x, u (0.5 s) -> r; on w x goes before u, and u before r"""
    dag = graphs.drawn("g x", "u r")
    names = [call.name for call in dag.calls]
    steps = []
    for task, call in enumerate(dag.calls):
        worker, priority = "v" if call.name == "g" else "w", "gxur".index(call.name)
        step = Step(task=task, upstream=call.upstream, worker=worker, priority=priority)
        steps.append(step)
    plan = with_kept_results(Plan(dag=dag, steps=tuple(steps), planner="pinned"))
    run_s = {names.index("g"): gate_s, names.index("u"): 0.5}
    costs = Costs(run_s=run_s, default_run_s=0.1, default_output_bytes=50_000, **FREE)

    trace = simulate(plan, costs, Pool(cap=2))

    on_w = [s for s in trace.spans if s.worker == "w" and s.phase is Phase.RUN]
    stored = [s.task for s in trace.spans if s.phase is Phase.STORE]
    assert " ".join(names[s.task] for s in sorted(on_w, key=lambda s: s.begin_s)) == order
    assert stored.count(names.index("u")) == n_stored


def test_a_fan_out_runs_in_parallel_as_far_as_there_are_workers() -> None:
    """a -> b0, b1, b2"""
    costs = Costs(default_run_s=1.0, **FREE)
    plan = floating(graphs.fan_out(3))

    assert [simulate(plan, costs, Pool(cap=n)).makespan_s for n in (1, 2, 3, 9)] == [
        4.0,
        3.0,
        2.0,
        2.0,
    ]


def test_pinned_tasks_wait_for_their_worker() -> None:
    """a -> b, c: both pinned to one worker while others idle"""
    dag = graphs.drawn("a b", "a c")

    trace = simulate(pinned(dag, "w1", "w2", "w2"), Costs(default_run_s=1.0, **FREE), Pool(cap=3))

    assert trace.makespan_s == 3.0
    assert {span.worker for span in trace.spans if span.worker} == {"w1", "w2"}


def test_priorities_decide_who_goes_first() -> None:
    dag = graphs.drawn("a", "b", "c")
    order = {"a": 2, "b": 0, "c": 1}
    steps = tuple(Step(task=i, priority=order[call.name]) for i, call in enumerate(dag.calls))

    trace = simulate(
        Plan(dag=dag, steps=steps, planner="p"), Costs(**FREE, default_run_s=1.0), Pool(cap=1)
    )

    assert list(runs(trace)) == ["b", "c", "a"]


def test_every_act_takes_the_time_it_is_priced_at() -> None:
    """a -> b on one worker, so that b finds the value at hand"""
    costs = Costs(
        run_s={0: 10.0, 1: 20.0},
        output_bytes={0: 1_000_000, 1: 10},
        fetch=LinearCost(0.5, 1e-6),
        store=LinearCost(0.5, 1e-6),
        load=LinearCost(0.0, 2e-6),
        dump=LinearCost(0.0, 1e-6),
        commit_s=0.2,
        cold=StartCost(invoke_s=3.0),
        submit_s=0.75,
        return_s=0.25,
    )

    trace = simulate(pinned(graphs.chain(2), "w1", "w1"), costs, Pool(cap=1))

    spans = [
        (s.phase.value, s.worker, round(s.begin_s, 5), round(s.end_s, 5), s.n_bytes)
        for s in trace.spans
    ]
    assert sorted(spans, key=lambda line: line[2:4]) == [
        ("submit", "", -0.75, 0.0, 0),
        ("invoke", "w1", 0.0, 3.0, 0),
        ("queue", "w1", 0.0, 3.0, 0),
        ("load", "w1", 3.0, 3.0, 0),
        ("run", "w1", 3.0, 13.0, 0),
        ("dump", "w1", 13.0, 14.0, 1_000_000),
        ("store", "w1", 14.0, 15.5, 1_000_000),
        ("commit", "w1", 15.5, 15.7, 0),
        ("load", "w1", 15.7, 17.7, 1_000_000),
        ("run", "w1", 17.7, 37.7, 0),
        ("dump", "w1", 37.7, 37.70001, 10),
        ("commit", "w1", 37.70001, 37.90001, 10),  # a value this small rides along
        ("return", "", 37.80001, 38.05001, 0),
    ]
    assert round(trace.makespan_s, 5) == 37.80001


def test_the_first_call_of_a_function_in_each_worker_imports_and_later_ones_do_not() -> None:
    """Four calls of one function; those of the first worker end last, so each has two."""
    costs = Costs(import_s=dict.fromkeys(range(4), 2.0), default_run_s=1.0, **FREE)
    trace = simulate(pinned(calls_of_one(4), "w1", "w1", "w2", "w2"), costs, Pool(cap=2))

    spans = [(s.task, s.phase.value, s.begin_s, s.end_s) for s in trace.spans if s.task >= 0]
    assert [span for span in spans if span[1] in {"import", "run"}] == [
        (0, "import", 0.0, 2.0),
        (2, "import", 0.0, 2.0),
        (0, "run", 2.0, 3.0),
        (2, "run", 2.0, 3.0),
        (1, "run", 3.0, 4.0),
        (3, "run", 3.0, 4.0),
    ]
    assert trace.makespan_s == 4.0


def test_a_large_value_is_fetched_by_who_did_not_make_it() -> None:
    """a, b -> c: the worker of c still has one of the two values."""
    costs = Costs(default_run_s=1.0, default_output_bytes=1_000_000, **FREE)

    trace = simulate(floating(graphs.fan_in(2)), costs, Pool(cap=2))

    assert [(s.task, s.n_bytes) for s in trace.spans if s.phase is Phase.FETCH] == [(2, 1_000_000)]
    assert [(s.task, s.n_bytes) for s in trace.spans if s.phase is Phase.LOAD] == [
        (0, 0),
        (1, 0),
        (2, 2_000_000),
    ]


def test_play_gives_the_story_that_simulate_draws() -> None:
    simulated = play(floating(graphs.diamond()), Costs(), Pool(cap=2))

    assert simulated.machine.state is RunState.OK
    kinds = Counter(event.kind for event in simulated.machine.events)
    assert (kinds["start"], kinds["done"], kinds["end"]) == (4, 4, 1)


def empty(plan: Plan) -> SimulatedRun:
    """A submitted run without instances."""
    pool = Pool(cap=0)
    return SimulatedRun(plan, Costs(), pool, layout_for(plan, Pool(cap=1)))


def test_an_instance_of_a_run_that_is_over_does_nothing() -> None:
    simulated = empty(floating(graphs.lone()))
    simulated.machine.cancel("by hand", now=0.0)

    simulated.environment.start(Worker(VirtualWorld(simulated, "v0")).work())
    simulated.environment.run()

    assert simulated.machine.state is RunState.CANCELLED
    assert simulated.spans == []


def test_a_worker_that_is_never_woken_is_reported_at_the_end() -> None:
    """An instance waits, while another one took the only task and vanished."""
    simulated = empty(floating(graphs.lone()))
    simulated.machine.register("vanished", now=0.0, fresh="x", lease_s=1e9)

    simulated.environment.start(Worker(VirtualWorld(simulated, "v0")).work())

    with pytest.raises(ProtocolError, match=r"1 simulated worker\(s\) wait for ever at 0.001 s"):
        simulated.environment.run()


def test_two_thousand_tasks_side_by_side_are_simulated() -> None:
    trace = simulate(floating(graphs.wide(2_000)), Costs(default_run_s=1.0, **FREE), Pool(cap=100))

    assert trace.makespan_s == 22.0
    assert len(runs(trace)) == 2_002


def test_a_back_off_ends_though_everybody_has_left() -> None:
    """One task that fails once; its container lingers 1 s, the back-off takes 5 s."""
    pool = Pool(eager=False, linger_s=1.0, keep_alive_s=60.0)
    costs = Costs(default_run_s=2.0, failures={0: ((1.0, 5.0),)}, **FREE)

    trace = simulate(floating(graphs.lone()), costs, pool)

    assert [(s.begin_s, s.end_s, s.attempt) for s in trace.spans if s.phase is Phase.RUN] == [
        (0.0, 1.0, 1),
        (6.0, 8.0, 2),
    ]


def test_a_back_off_that_ends_later_than_another_is_waited_for_too() -> None:
    """Two tasks that fail at 1 s; both containers leave, the back-offs end at 6 s and at 11 s."""
    pool = Pool(eager=False, linger_s=1.0, keep_alive_s=60.0)
    costs = Costs(default_run_s=1.0, failures={0: ((1.0, 5.0),), 1: ((1.0, 10.0),)}, **FREE)

    trace = simulate(floating(graphs.drawn("a", "b")), costs, pool)

    assert [s.begin_s for s in trace.spans if s.phase is Phase.RUN] == [0.0, 0.0, 6.0, 11.0]


@given(st.floats(0.001, 10.0), st.floats(0.001, 10.0))
@settings(max_examples=50)
def test_a_back_off_ends_whatever_its_length(run_s: float, delay_s: float) -> None:
    costs = Costs(default_run_s=1.0, failures={0: ((run_s, delay_s),)}, **FREE)

    trace = simulate(floating(graphs.lone()), costs, Pool(eager=False))

    assert trace.makespan_s == pytest.approx(run_s + delay_s + 1.0)


def test_who_rests_gives_way_to_other_resources_also_when_it_comes_to_rest_later() -> None:
    """a -> b -> c of two sizes in turn, one container at a time, which does not leave by itself."""
    large, small = Resources(memory_mb=512), Resources(memory_mb=256)
    dag = graphs.chain(3)
    needs = (large, small, large)
    steps = tuple(
        Step(task=i, upstream=call.upstream, resources=needs[i]) for i, call in enumerate(dag.calls)
    )

    trace = simulate(
        Plan(dag=dag, steps=steps, planner="p"),
        Costs(default_run_s=1.0, **FREE),
        Pool(cap=1, eager=False),
    )

    assert trace.makespan_s == 3.0
    assert [s.detail for s in trace.spans if s.phase is Phase.INVOKE] == ["cold", "cold", "cold"]


@pytest.mark.parametrize(
    ("keep_alive_s", "last", "makespan_s"), [(9.0, "warm", 6.5), (1.0, "cold", 8.0)]
)
def test_a_container_is_warm_for_as_long_as_it_is_kept(
    keep_alive_s: float, last: str, makespan_s: float
) -> None:
    """a (1 s) and b (3 s) -> c, each on its own worker: c begins when a's container was idle for 2
    s.
    """
    plan = pinned(graphs.drawn("a c", "b c"), "w1", "w2", "w3")
    prices = {**FREE, "cold": StartCost(invoke_s=2.0), "warm": StartCost(invoke_s=0.5)}
    costs = Costs(run_s={0: 1.0, 1: 3.0, 2: 1.0}, **prices)

    trace = simulate(
        plan, costs, Pool(eager=False, linger_s=0.0, keep_alive_s=keep_alive_s, single=True)
    )

    assert [s.detail for s in trace.spans if s.phase is Phase.INVOKE] == ["cold", "cold", last]
    assert trace.makespan_s == makespan_s


def commits_of(trace: Trace) -> list[list[int]]:
    """The tasks of each commit, in order of time."""
    commits: dict[tuple[float, str], list[int]] = {}
    for span in trace.spans:
        if span.phase is Phase.COMMIT:
            commits.setdefault((span.begin_s, span.worker), []).append(span.task)
    return [tasks for _, tasks in sorted(commits.items())]


def test_short_tasks_are_committed_together_and_long_ones_singly() -> None:
    plan = floating(graphs.drawn(*(f"t{n}" for n in range(40))))
    short = Costs(run_s=dict.fromkeys(range(40), 0.0002), **FREE)
    long = Costs(run_s=dict.fromkeys(range(40), 0.02), **FREE)

    assert max(map(len, commits_of(simulate(plan, short, Pool(cap=1))))) == 9
    assert max(map(len, commits_of(simulate(plan, long, Pool(cap=1))))) == 1
    assert max(map(len, commits_of(simulate(plan, short, Pool(cap=1, batches=False))))) == 1


def test_a_trip_is_paid_once_for_a_batch() -> None:
    plan = floating(graphs.drawn(*(f"t{n}" for n in range(40))))
    costs = Costs(run_s=dict.fromkeys(range(40), 0.0002), **{**FREE, "commit_s": 0.001})

    in_batches, singly = (
        simulate(plan, costs, Pool(cap=1, batches=batches)) for batches in (True, False)
    )

    # A run ends in the middle of its last trip, when the store takes the step.
    assert singly.makespan_s == pytest.approx(40 * (0.0002 + 0.001) - 0.0005)
    n_trips = len(commits_of(in_batches))
    assert in_batches.makespan_s == pytest.approx(40 * 0.0002 + n_trips * 0.001 - 0.0005)
    assert n_trips < 15


def test_tasks_behind_a_long_one_are_run_by_another_instance_meanwhile() -> None:
    """Task 20 takes a second, so the batch that it is in is given back after 35 ms."""
    run_s = dict.fromkeys(range(40), 0.0002) | {20: 1.0}
    plan = floating(graphs.drawn(*(f"t{n}" for n in range(40))))

    trace = simulate(plan, Costs(run_s=run_s, **FREE), Pool(cap=2))

    begins = {s.task: (s.begin_s, s.worker) for s in trace.spans if s.phase is Phase.RUN}
    begin_s, slow_worker = begins[20]
    assert Counter(s.task for s in trace.spans if s.phase is Phase.RUN) == Counter(range(40))
    behind = [task for task, (at, _) in begins.items() if at > begin_s + LONG_S]
    assert behind
    for task in behind:
        assert begins[task][0] == pytest.approx(begin_s + LONG_S + LOOK_S / 2, abs=0.003)
        assert begins[task][1] != slow_worker
    assert trace.makespan_s == pytest.approx(begin_s + 1.0, abs=1e-6)
