"""How far planners are above known optima: the Standard Task Graph Set, equal processors, nothing to transfer.

    python benchmarks/stg.py /path/to/stg.json heft cpop peft

Two lines a planner: of the schedule as planned, and of the plan as simulated. They differ where two tasks end at the
same moment: a schedule may let a worker wait for what the other makes ready, a real worker takes what is there, unless the
plan has it hold its order.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import cases

from dagnb import registry
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome

FREE: dict[str, Any] = {
    "fetch": LinearCost(),
    "store": LinearCost(),
    "load": LinearCost(),
    "dump": LinearCost(),
    "commit_s": 0.0,
    "wake_s": 0.0,
    "cold": StartCost(),
    "warm": StartCost(),
    "default_output_bytes": 0,
}


def main() -> None:
    """Print mean and largest excess over the optimum, and how many are optimal, for each number of processors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="the graphs as JSON, as benchmarks/cases.py reads them")
    parser.add_argument("planners", nargs="*", default=["heft"])
    parser.add_argument("--every", type=int, default=1, help="only every so many-th graph")
    options = parser.parse_args()
    graphs = cases.load_stg(options.path)[:: options.every]
    print(
        f"{len(graphs)} graphs; excess over the known optimum: mean %, largest %, share that is optimal"
    )
    for name in options.planners:
        begin = time.process_time()
        found = list(excesses(name, graphs))
        took_s = time.process_time() - begin
        for kind in ("planned", "simulated"):
            every = [excess for what, _, excess in found if what == kind]
            if not every:
                continue
            told = [line(kind, n, found) for n in (2, 4, 8, 16)]
            print(
                f"{name:15} {kind:9} {'  '.join(told)}  all: {100 * statistics.mean(every):5.2f} %"
            )
        print(
            f"{name:15} {took_s:.1f} s of CPU for {sum(what == 'simulated' for what, *_ in found)} plans"
        )


def excesses(
    name: str, graphs: list[tuple[str, Dag, dict[int, float], dict[int, tuple[float, float]]]]
) -> Iterator[Any]:
    """(planned or simulated, processors, makespan / optimum - 1) of each graph whose optimum is known."""
    for _, dag, run_s, bounds in graphs:
        for n, (low, high) in bounds.items():
            if low != high:
                continue
            problem = Problem(dag=dag, costs=Costs(run_s=run_s, **FREE), pool=Pool(cap=n))
            plan = planner(name, n).plan(problem)
            if is_schedule(plan):
                yield "planned", n, end_s(plan, run_s) / high - 1
            yield "simulated", n, outcome(plan, problem.costs, problem.pool).makespan_s / high - 1


def is_schedule(plan: Plan) -> bool:
    """Whether it says who runs what and when: plans that float, or were searched on the simulator, need not."""
    is_pinned = all(step.worker is not None for step in plan.steps)
    return is_pinned and all(
        plan.steps[u].priority < step.priority for step in plan.steps for u in step.upstream
    )


def planner(name: str, n: int) -> Any:
    """The planner, told how many processors there are where it can be told."""
    kind = registry.find("planner", name)
    return kind(n_workers=n) if "n_workers" in {field.name for field in fields(kind)} else kind()


def end_s(plan: Plan, run_s: dict[int, float]) -> float:
    """When all is done if each worker keeps to the order of the plan, and waits where that is due."""
    ends: dict[int, float] = {}
    free: dict[str | None, float] = {}
    for step in sorted(plan.steps, key=lambda step: step.priority):
        begin = max(
            [free.get(step.worker, 0.0) if step.worker else 0.0, *(ends[u] for u in step.upstream)]
        )
        ends[step.task] = begin + run_s[step.task]
        free[step.worker] = ends[step.task]
    return max(ends.values())


def line(kind: str, n: int, found: list[tuple[str, int, float]]) -> str:
    """'8: 0.41 6.12 78 %'"""
    some = [excess for what, processors, excess in found if (what, processors) == (kind, n)]
    if not some:
        return f"{n:2}: none"
    optimal = sum(excess < 1e-9 for excess in some) / len(some)
    return (
        f"{n:2}: {100 * statistics.mean(some):5.2f} {100 * max(some):5.2f} {100 * optimal:3.0f} %"
    )


if __name__ == "__main__":
    main()
