"""Random DAGs, costs, problems and plans for hypothesis; they shrink to few tasks, few edges, one worker."""

from __future__ import annotations

from hypothesis import strategies as st

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan, Step, Way, WorkerTerms
from dagnb.planning.planner import Pool, Problem

KINDS = (DEFAULT, Resources(cpus=1.0), Resources(memory_mb=256), Resources(cpus=2.0, memory_mb=512))
"""resources that random tasks and steps ask for"""


@st.composite
def dags(
    draw: st.DrawFn, max_tasks: int = 8, *, resources: bool = False, max_upstream: int = 4
) -> Dag:
    """DAGs of 1 to `max_tasks` tasks of up to three functions, named as `Dag.of` names them.

    Sinks are the tasks without downstream, in any order, at times with others among them. resources: tasks ask for
    some.
    """
    n = draw(st.integers(1, max_tasks))
    functions = draw(st.lists(st.sampled_from("fgh"), min_size=n, max_size=n))
    kinds = (
        draw(st.lists(st.sampled_from(KINDS), min_size=n, max_size=n)) if resources else [None] * n
    )
    calls: list[Call] = []
    for position in range(n):
        above = (
            draw(st.sets(st.integers(0, position - 1), max_size=max_upstream))
            if position
            else set()
        )
        calls.append(
            Call(
                name=f"{functions[position]}-{functions[:position].count(functions[position])}",
                function=functions[position],
                upstream=tuple(draw(st.permutations(sorted(above)))),
                options=TaskOptions(resources=kinds[position]),
            )
        )
    read = {u for call in calls for u in call.upstream}
    ends = [i for i in range(n) if i not in read]
    more = draw(st.lists(st.sampled_from(sorted(read)), max_size=2, unique=True)) if read else []
    return Dag(tuple(calls), tuple(draw(st.permutations(ends + more))))


@st.composite
def costs(draw: st.DrawFn, dag: Dag) -> Costs:
    """Run times from nothing to 100 s and sizes from nothing to a gigabyte, with a few equal ones, some left out."""
    some = st.sampled_from(range(len(dag)))
    run_s = st.one_of(st.sampled_from((0.0, 0.1, 1.0)), st.floats(0, 100))
    sizes = st.one_of(st.sampled_from((0, 1_000)), st.integers(0, 10**9))
    return Costs(
        run_s=draw(st.dictionaries(some, run_s)), output_bytes=draw(st.dictionaries(some, sizes))
    )


@st.composite
def problems(draw: st.DrawFn, max_tasks: int = 12) -> Problem:
    """A DAG with resources, its costs, and a pool with or without a cap."""
    dag = draw(dags(max_tasks, resources=True))
    return Problem(
        dag=dag, costs=draw(costs(dag)), pool=Pool(cap=draw(st.none() | st.integers(1, 4)))
    )


@st.composite
def plans(
    draw: st.DrawFn,
    dag: Dag,
    *,
    max_workers: int = 3,
    copies: bool = False,
    ways: bool = False,
    linger: bool = False,
) -> Plan:
    """Any plan that fits the DAG: floating, pinned to any of some workers, mixed; any priorities and resources.

    copies: a task may have a second step, and a step reads any step of its upstream task. ways: edges may carry
    wishes how a value travels. linger: workers may wait before they leave.
    """
    workers = [f"w{i}" for i in range(draw(st.integers(0, max_workers)))]
    kinds = {worker: draw(st.sampled_from(KINDS)) for worker in workers}
    places = (
        st.sampled_from([None, *workers])
        if draw(st.booleans()) or not workers
        else st.sampled_from(workers)
    )
    steps: list[Step] = []
    of_task: list[list[int]] = []
    for task, call in enumerate(dag.calls):
        of_task.append([])
        for _ in range(draw(st.integers(1, 2)) if copies else 1):
            worker = draw(places)
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
    edges = [(u, position) for position, step in enumerate(steps) for u in step.upstream]
    wishes = (
        draw(st.dictionaries(st.sampled_from(edges), st.sampled_from(Way)))
        if ways and edges
        else {}
    )
    terms = (
        draw(st.dictionaries(st.sampled_from(workers), st.sampled_from((0.0, 0.5))))
        if linger and workers
        else {}
    )
    return Plan(
        dag=dag,
        steps=tuple(steps),
        planner="random",
        ways=wishes,
        workers={worker: WorkerTerms(linger_s=seconds) for worker, seconds in terms.items()},
    )


@st.composite
def planned(
    draw: st.DrawFn, max_tasks: int = 8, *, copies: bool = False, max_workers: int = 3
) -> Plan:
    """A random plan of a random DAG."""
    return draw(plans(draw(dags(max_tasks)), copies=copies, max_workers=max_workers))
