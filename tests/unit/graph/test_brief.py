"""Texts stay short, whatever the size of the thing that is printed."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from dagnb_planners.heft import Heft

import dagnb
from dagnb import client, task
from dagnb.errors import Cause, Frame, TaskError
from dagnb.forecast.compare import compare_plans
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.brief import brief, changed, cut
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem
from dagnb.simulation.simulate import simulate
from tests import graphs
from tests.unit.known_costs import known

MANY = 3_300
ONE_LINE = 200
AT_MOST = 2_500
"""characters of a class with many fields"""

UNBOUNDED = re.compile(
    r"\b(tuple|list|dict|set|frozenset|deque|bytes|bytearray|Mapping|Sequence|Set)\b"
)
"""in the type of a field: it may hold any number of things"""


@task
def count(text: str) -> int:
    return len(text)


@task
def merge(counts: list[int]) -> int:
    return sum(counts)


def tree(n: int) -> Problem:
    """n counts -> merge"""
    dag = Dag.of(merge([count(str(i)) for i in range(n)]))
    costs = known(Costs(run_s=dict.fromkeys(range(n + 1), 1.0)), n + 1)
    return Problem(dag=dag, costs=costs, pool=Pool(cap=2))


@pytest.fixture(scope="module")
def large() -> Problem:
    return tree(MANY)


@pytest.fixture(scope="module")
def plan(large: Problem) -> Plan:
    return dataclasses.replace(Heft(n_workers=2).plan(large), problem=large)


def test_the_repr_of_a_dag_has_its_size_and_its_functions(large: Problem) -> None:
    assert repr(large.dag) == "<DAG of 3,301 tasks: 3,300 count, 1 merge>"
    assert repr(graphs.chain(5)) == "<DAG of 5 tasks: 1 t0, 1 t1, 1 t2 and 2 more functions>"


def test_the_repr_of_a_plan_has_planner_size_workers_and_makespan(plan: Plan) -> None:
    outlook = forecast_of(plan)

    assert outlook is not None
    predicted_s = outlook.forecast.p50_s
    assert (
        repr(plan)
        == f"<plan by heft: 3,301 tasks, on 2 workers, predicted makespan {predicted_s:.4g} s>"
    )
    assert str(plan) == repr(plan)


def test_the_repr_of_a_plan_without_a_problem_has_no_makespan() -> None:
    steps = Heft(n_workers=1).plan(tree(2)).steps

    assert (
        repr(Plan(dag=graphs.fan_in(2), steps=steps, planner="mine"))
        == "<plan by mine: 3 tasks, on 1 worker>"
    )


def test_a_plan_that_would_take_long_to_simulate_is_printed_without_it(plan: Plan) -> None:
    limit = client.PRINTED_STEPS
    unasked = dataclasses.replace(plan)
    try:
        client.PRINTED_STEPS = 100
        assert repr(unasked) == "<plan by heft: 3,301 tasks, on 2 workers>"
    finally:
        client.PRINTED_STEPS = limit


def test_the_repr_of_a_trace_and_a_comparison_is_one_line(large: Problem, plan: Plan) -> None:
    trace = simulate(plan, large.costs, large.pool)
    comparison = compare_plans(large, {"heft": Heft(n_workers=2)}, "merge")

    assert re.fullmatch(
        r"<trace: 3,301 tasks on 2 workers, [\d,]+ spans, makespan [\d.e+]+ s>", repr(trace)
    )
    assert re.fullmatch(
        r"<comparison of 1 planner on merge: best heft, predicted makespan [\d.e+]+ s>",
        repr(comparison),
    )


def test_what_belongs_to_a_large_plan_is_short_too(large: Problem, plan: Plan) -> None:
    trace = simulate(plan, large.costs, large.pool)
    comparison = compare_plans(large, {"heft": Heft(n_workers=2)}, "merge")
    for thing in (
        large,
        large.costs,
        plan,
        trace,
        forecast_of(plan),
        comparison,
        *comparison.lines,
        plan.steps[-1],
    ):
        assert len(repr(thing)) <= AT_MOST, type(thing)


def test_the_repr_of_tasks_and_nodes_is_one_line() -> None:
    node = merge([count("") for _ in range(MANY)])

    assert repr(count) == "<task count(text)>"
    assert (
        repr(count.with_options(retries=2, timeout_s=3))
        == "<task count(text): retries=2, timeout_s=3>"
    )
    assert repr(node) == "<node merge of 3300 upstream; .run() computes it>"
    assert repr(count.with_options(resources=Resources(memory_mb=512)).options).startswith(
        "TaskOptions(resources=Res"
    )


def test_the_repr_of_a_task_with_a_huge_default_is_one_line() -> None:
    numbers = list(range(MANY))

    @task
    def total(numbers: list[int] = numbers) -> int:
        return sum(numbers)

    assert repr(total) == "<task total(numbers)>"


def test_the_repr_of_an_error_with_a_long_message_is_one_line() -> None:
    frame = Frame(file="cell 3" * MANY, line=2, function="f" * MANY)
    cause = Cause(how="cause", type="ValueError", message="x" * MANY, frames=(frame,) * 50)
    error = TaskError(
        task="f-0",
        attempt=1,
        worker="w1",
        type="ValueError",
        message="x" * MANY,
        frames=(frame,) * 50,
        causes=(cause,) * 16,
        traceback=("line\n",) * MANY,
    )

    assert repr(error).startswith("<task 'f-0' attempt 1 on w1: ValueError: xxx")
    for thing in (error, cause):
        assert len(repr(thing)) <= ONE_LINE + 20
    assert len(repr(frame)) <= 2 * ONE_LINE + 40


@dataclass(frozen=True)
class Holder:
    """Holds what may be large."""

    text: str = ""
    data: bytes = b""
    items: tuple[object, ...] = ()
    table: dict[str, object] = field(default_factory=dict)
    secret: str = field(default="", repr=False)

    __repr__ = brief


@pytest.mark.parametrize(
    ("holder", "told"),
    [
        (Holder(), "Holder(text='', data=b'', items=(), table={})"),
        (Holder(items=(1, 2)), "Holder(text='', data=b'', items=(1, 2), table={})"),
        (
            Holder(items=tuple(range(1_000))),
            "Holder(text='', data=b'', items=<1,000 items>, table={})",
        ),
        (Holder(data=bytes(5_000)), "Holder(text='', data=<5,000 bytes>, items=(), table={})"),
        (Holder(secret="hidden"), "Holder(text='', data=b'', items=(), table={})"),
    ],
)
def test_a_small_field_is_shown_in_full_and_a_large_one_by_its_size(
    holder: Holder, told: str
) -> None:
    assert repr(holder) == told


def test_fields_that_hold_what_holds_much_are_short() -> None:
    inner: list[object] = []
    for _ in range(100):
        inner = [inner, "x" * MANY, dict.fromkeys(range(MANY))]

    holder = Holder(text="y" * MANY, items=(inner, inner), table={"z" * MANY: inner})

    assert len(repr(holder)) <= 4 * 130
    assert len(changed(holder)) <= 4 * 130


def test_a_text_is_cut_in_its_middle() -> None:
    assert cut("abcdefghijklmnop", 10) == "abcd...nop"
    assert cut("abcdefghij", 10) == "abcdefghij"


def public_classes() -> Iterator[type]:
    for module_info in pkgutil.walk_packages(dagnb.__path__, "dagnb."):
        if module_info.name.startswith("dagnb.testing") or module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        for name, held in vars(module).items():
            is_own = isinstance(held, type) and held.__module__ == module_info.name
            if is_own and dataclasses.is_dataclass(held) and not name.startswith("_"):
                yield held


def test_no_public_class_that_may_hold_thousands_of_things_has_a_generated_repr() -> None:
    unbounded = []
    for kind in public_classes():
        told = [
            one for one in dataclasses.fields(kind) if one.repr and UNBOUNDED.search(str(one.type))
        ]
        if told and kind.__repr__.__qualname__.startswith(kind.__qualname__) and is_generated(kind):
            unbounded.append(
                f"{kind.__module__}.{kind.__qualname__}: {', '.join(one.name for one in told)}"
            )

    assert unbounded == []


def is_generated(kind: type) -> bool:
    """The repr that the decorator makes is wrapped by reprlib's guard against recursion."""
    return kind.__repr__.__module__ == kind.__module__ and hasattr(kind.__repr__, "__wrapped__")
