"""Workers that hold their order: what they wait for, and that nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dagnb.errors import InvalidPlanError
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan, Step, WorkerTerms, next_in_order
from dagnb.planning.planner import Costs, LinearCost, Pool, StartCost
from dagnb.protocol.layout import lay_out
from dagnb.simulation.list_schedule import ListSchedule
from dagnb.simulation.simulate import outcome, simulate
from dagnb.trace.trace import Phase
from tests import graphs

FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "wake_s": 0.0,
}


def ordered(dag: Dag, order: str, *held: str) -> Plan:
    """The plan "w0: a b, w1: c": each worker's tasks by priority. held: workers that hold it."""
    steps: dict[str, Step] = {}
    for part in order.split(", "):
        worker, names = part.split(": ")
        for priority, name in enumerate(names.split()):
            call = dag.calls[dag.positions[name]]
            steps[name] = Step(
                task=dag.positions[name],
                upstream=call.upstream,
                worker=worker,
                priority=priority,
            )
    terms = dict.fromkeys(held, WorkerTerms(hold=True))
    in_turn = tuple(steps[call.name] for call in dag.calls)
    return Plan(dag=dag, steps=in_turn, planner="by hand", workers=terms)


def costs(dag: Dag, seconds: Mapping[str, float], **more: Any) -> Costs:
    run_s = {dag.positions[name]: spent for name, spent in seconds.items()}
    return Costs(**{**FREE, "run_s": run_s, **more})


def begins(plan: Plan, prices: Costs, cap: int | None = None) -> dict[str, float]:
    """Task -> the moment at which its function begins, the last time."""
    moments: dict[str, float] = {}
    trace = simulate(plan, prices, Pool(cap=cap))
    for span in trace.spans:
        if span.phase is Phase.RUN:
            moments[trace.names[span.task]] = round(span.begin_s, 6)
    return moments


URGENT = graphs.drawn("a b", "c")
"""a on w1 -> b on w0, and c on w0, which is ready at once and comes behind b"""
SECONDS = {"a": 1.0, "b": 2.0, "c": 5.0}
ORDER = "w1: a, w0: b c"


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((), {"a": 0.0, "b": 5.0, "c": 0.0}),
        (("w0",), {"a": 0.0, "b": 1.0, "c": 3.0}),
        (("w1",), {"a": 0.0, "b": 5.0, "c": 0.0}),
    ],
)
def test_only_a_worker_that_holds_its_order_waits_for_its_next_step(
    held: tuple[str, ...], expected: dict[str, float]
) -> None:
    plan = ordered(URGENT, ORDER, *held)

    assert begins(plan, costs(URGENT, SECONDS)) == expected


def test_a_worker_that_waits_leaves_its_process_to_others() -> None:
    """On one process a runs first, though w0 holds its order and was there first."""
    plan = ordered(URGENT, ORDER, "w0", "w1")

    assert begins(plan, costs(URGENT, SECONDS), cap=1) == {"a": 0.0, "b": 1.0, "c": 3.0}


def test_a_step_that_backs_off_is_passed_over() -> None:
    """b fails after 0.5 s and is tried again 3 s later: c runs meanwhile, and b behind it."""
    dag = graphs.drawn("a b", "c")
    plan = ordered(dag, ORDER, "w0")
    failures = {dag.positions["b"]: ((0.5, 3.0),)}

    moments = begins(plan, costs(dag, SECONDS, failures=failures))

    assert moments == {"a": 0.0, "b": 6.5, "c": 1.5}


def test_a_step_that_reads_the_one_before_needs_no_edge_of_its_own() -> None:
    dag = graphs.chain(3)
    plan = ordered(dag, "w0: t0 t1 t2", "w0")

    assert next_in_order(plan) == {}
    assert lay_out(plan, cap=1).n_bits == 2


def test_the_edge_of_an_order_comes_last_and_its_task_is_no_source() -> None:
    plan = ordered(URGENT, ORDER, "w0")
    a, b, c = (URGENT.positions[name] for name in "abc")

    layout = lay_out(plan, cap=1)

    assert next_in_order(plan) == {b: c}
    assert layout.sources == (a,)
    assert [edge[0] for edge in layout.records[b].edges] == [c]
    assert layout.records[c].upstream == ()
    assert layout.n_bits == 2


def test_a_list_schedule_holds_orders_as_the_simulator_does() -> None:
    for held in ((), ("w0",)):
        plan, prices = ordered(URGENT, ORDER, *held), costs(URGENT, SECONDS)
        makespan_s = outcome(plan, prices, Pool()).makespan_s

        assert ListSchedule(plan, prices, Pool()).makespan_s(prices) == pytest.approx(makespan_s)
        assert makespan_s == (8.0 if held else 7.0)


def test_orders_that_wait_for_each_other_are_refused() -> None:
    """a -> b and c -> d, w0 holds d before a, w1 holds b before c: d waits for c, b, a and d."""
    dag = graphs.drawn("a b", "c d")
    crossed = "w0: d a, w1: b c"

    assert ordered(dag, crossed, "w0").check() is not None
    with pytest.raises(InvalidPlanError, match=r"'a'.*hold their order wait for each other"):
        ordered(dag, crossed, "w0", "w1").check()
