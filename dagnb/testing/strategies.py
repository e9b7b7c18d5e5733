"""Random DAGs, costs, problems and plans for hypothesis. They shrink to few tasks and edges."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.plan import Plan, Step, Way, WorkerTerms, order_problems
from dagnb.planning.planner import Costs, Pool, Problem

KINDS = (DEFAULT, Resources(cpus=1.0), Resources(memory_mb=256), Resources(cpus=2.0, memory_mb=512))
"""Resources of random tasks and steps."""


@st.composite
def dags(
    draw: st.DrawFn, max_tasks: int = 8, *, resources: bool = False, max_upstream: int = 4
) -> Dag:
    """Draws DAGs of 1 to `max_tasks` tasks of up to three functions, named as `Dag.of` names them.

    The sinks are all tasks without downstream, and sometimes others, in any order.
    resources: tasks may ask for some.
    """
    n = draw(st.integers(1, max_tasks))
    functions = draw(st.lists(st.sampled_from("fgh"), min_size=n, max_size=n))
    kinds: list[Resources | None] = [None] * n
    if resources:
        kinds = list(draw(st.lists(st.sampled_from(KINDS), min_size=n, max_size=n)))

    calls: list[Call] = []
    for position in range(n):
        upstream: set[int] = set()
        if position:
            upstream = draw(st.sets(st.integers(0, position - 1), max_size=max_upstream))
        function = functions[position]
        calls.append(
            Call(
                name=f"{function}-{functions[:position].count(function)}",
                function=function,
                upstream=tuple(draw(st.permutations(sorted(upstream)))),
                options=TaskOptions(resources=kinds[position]),
            )
        )

    read: set[int] = set()
    for call in calls:
        read.update(call.upstream)
    sinks = [position for position in range(n) if position not in read]
    if read:
        sinks += draw(st.lists(st.sampled_from(sorted(read)), max_size=2, unique=True))
    return Dag(tuple(calls), tuple(draw(st.permutations(sinks))))


@st.composite
def costs(draw: st.DrawFn, dag: Dag) -> Costs:
    """Draws run times from 0 to 100 s and sizes from 0 to 1 GB; those of some tasks are unknown."""
    # Fixed values, too: they make ties.
    some = st.sampled_from(range(len(dag)))
    run_s = st.one_of(st.sampled_from((0.0, 0.1, 1.0)), st.floats(0, 100))
    sizes = st.one_of(st.sampled_from((0, 1_000)), st.integers(0, 10**9))
    return Costs(
        run_s=draw(st.dictionaries(some, run_s)), output_bytes=draw(st.dictionaries(some, sizes))
    )


@st.composite
def problems(draw: st.DrawFn, max_tasks: int = 12) -> Problem:
    """Draws a DAG with resources, its costs, and a pool with or without a cap."""
    dag = draw(dags(max_tasks, resources=True))
    dag_costs = draw(costs(dag))
    return Problem(dag=dag, costs=dag_costs, pool=Pool(cap=draw(st.none() | st.integers(1, 4))))


@st.composite
def plans(
    draw: st.DrawFn,
    dag: Dag,
    *,
    max_workers: int = 3,
    copies: bool = False,
    ways: bool = False,
    linger: bool = False,
    hold: bool = False,
) -> Plan:
    """Draws plans that fit the DAG: floating, pinned or mixed, with any priorities and resources.

    copies: a task may have a second step, and a step reads any step of its upstream task.
    ways: edges may say how their value is passed on. linger: workers may wait before they leave.
    hold: workers may hold their order, where no worker then waits for ever; they do not linger.
    """
    workers = [f"w{i}" for i in range(draw(st.integers(0, max_workers)))]
    kinds = {worker: draw(st.sampled_from(KINDS)) for worker in workers}
    choices: list[str | None] = [*workers]
    if draw(st.booleans()) or not workers:
        choices.insert(0, None)  # a floating step

    steps: list[Step] = []
    of_task: list[list[int]] = []
    for task, call in enumerate(dag.calls):
        of_task.append([])
        for _ in range(draw(st.integers(1, 2)) if copies else 1):
            worker = draw(st.sampled_from(choices))
            of_task[task].append(len(steps))
            steps.append(
                Step(
                    task=task,
                    upstream=tuple(draw(st.sampled_from(of_task[u])) for u in call.upstream),
                    worker=worker,
                    resources=kinds[worker] if worker else draw(st.sampled_from(KINDS)),
                    priority=draw(st.integers(0, 9)),
                )
            )

    edges: list[tuple[int, int]] = []
    for position, step in enumerate(steps):
        edges += [(upstream, position) for upstream in step.upstream]
    way_of: dict[tuple[int, int], Way] = {}
    if ways and edges:
        way_of = draw(st.dictionaries(st.sampled_from(edges), st.sampled_from(Way)))
    linger_s: dict[str, float] = {}
    if linger and workers:
        linger_s = draw(st.dictionaries(st.sampled_from(workers), st.sampled_from((0.0, 0.5))))
    terms = {worker: WorkerTerms(linger_s=seconds) for worker, seconds in linger_s.items()}
    plan = Plan(dag=dag, steps=tuple(steps), planner="random", ways=way_of, workers=terms)
    if hold and workers:
        holding = draw(st.sets(st.sampled_from(workers)))
        held = replace(plan, workers=dict.fromkeys(holding, WorkerTerms(hold=True)))
        # Random orders may wait for each other.
        if not any(order_problems(held)):
            return held
    return plan


@st.composite
def planned(
    draw: st.DrawFn, max_tasks: int = 8, *, copies: bool = False, max_workers: int = 3
) -> Plan:
    """Draws a plan of a random DAG."""
    return draw(plans(draw(dags(max_tasks)), copies=copies, max_workers=max_workers))
