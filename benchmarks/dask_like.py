"""The planner `dask_like` against Dask itself: ten shapes, planned and real makespan.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install -e . 'dask[distributed]'
    /tmp/peers/bin/python benchmarks/dask_like.py

Tasks sleep, so that four workers run side by side on two cores, each for a time of its own between 50 and 200 ms (always the same ones). Real is the
median of three runs on a LocalCluster of four workers with one thread each; planned is the plan's simulated run, with 1 ms a task for Dask's scheduler.
The share is that of tasks which stand on equally busy workers: 1 if both give each worker the same number of tasks, the fullest first.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagnb_planners.dask_like import DaskLike
from dask import delayed
from distributed import Client, LocalCluster, get_worker

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome

N_WORKERS = 4
TIMES = 3
SCHEDULER_S = 0.001
Edges = list[tuple[str, str]]


@dataclass(frozen=True)
class Shape:
    """A graph by the names of its tasks, `function-number`."""

    name: str
    edges: Edges
    alone: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The tasks, upstream first."""
        names = dict.fromkeys(self.alone)
        for above, below in self.edges:
            names |= {above: None, below: None}
        order, placed = [], set[str]()
        above_of: dict[str, list[str]] = {name: [] for name in names}
        for above, below in self.edges:
            above_of[below].append(above)
        while len(order) < len(names):
            for name in names:
                if name not in placed and placed.issuperset(above_of[name]):
                    order.append(name)
                    placed.add(name)
        return order


def fork_join(n: int) -> Edges:
    return [("a-0", f"b-{i}") for i in range(n)] + [(f"b-{i}", "c-0") for i in range(n)]


def chains(n: int, length: int) -> Edges:
    return [(f"s{k}-{i}", f"s{k + 1}-{i}") for i in range(n) for k in range(length - 1)]


def tree_out(levels: int) -> Edges:
    return [(f"t{k}-{i // 2}", f"t{k + 1}-{i}") for k in range(levels) for i in range(2 ** (k + 1))]


def tree_in(levels: int) -> Edges:
    return [
        (f"t{k + 1}-{i}", f"t{k}-{i // 2}")
        for k in reversed(range(levels))
        for i in range(2 ** (k + 1))
    ]


def map_reduce(n: int, m: int) -> Edges:
    edges = [(f"map-{i}", f"part-{j}") for i in range(n) for j in range(m)]
    return edges + [(f"part-{j}", "sum-0") for j in range(m)]


def stencil(width: int, steps: int) -> Edges:
    edges = []
    for k in range(steps - 1):
        for i in range(width):
            edges += [(f"s{k}-{j}", f"s{k + 1}-{i}") for j in (i - 1, i, i + 1) if 0 <= j < width]
    return edges


def layered(n_layers: int, width: int) -> Edges:
    chance, edges = random.Random(7), []
    for k in range(n_layers - 1):
        for i in range(width):
            edges += [(f"l{k}-{j}", f"l{k + 1}-{i}") for j in chance.sample(range(width), 2)]
    return edges


SHAPES = (
    Shape("fork-join of 10", fork_join(10)),
    Shape("fork-join of 6", fork_join(6)),
    Shape("32 alone", [], tuple(f"f-{i}" for i in range(32))),
    Shape("12 chains of 4", chains(12, 4)),
    Shape("3 chains of 8", chains(3, 8)),
    Shape("tree out, 16 leaves", tree_out(4)),
    Shape("tree in, 16 leaves", tree_in(4)),
    Shape("map-reduce 16 x 6", map_reduce(16, 6)),
    Shape("stencil 8 x 5", stencil(8, 5)),
    Shape("5 random layers of 8", layered(5, 8)),
)


def durations(names: list[str]) -> dict[str, float]:
    chance = random.Random(1)
    return {name: round(chance.uniform(0.05, 0.2), 3) for name in names}


def planned(shape: Shape, **settings: Any) -> tuple[float, list[int]]:
    """Seconds of the simulated run, and the tasks of each worker."""
    names = shape.names
    seconds = durations(names)
    dag = Dag.from_edges(names, shape.edges, functions=[name.split("-")[0] for name in names])
    nothing = LinearCost()
    costs = Costs(
        run_s={dag.positions[name]: spent for name, spent in seconds.items()},
        fetch=nothing,
        store=nothing,
        load=nothing,
        dump=nothing,
        commit_s=SCHEDULER_S,
        wake_s=0.0,
        cold=StartCost(),
        warm=StartCost(),
    )
    problem = Problem(dag=dag, costs=costs, pool=Pool(cap=N_WORKERS))
    plan = DaskLike(**settings).plan(problem)
    return outcome(plan, costs, problem.pool).makespan_s, spread(step.worker for step in plan.steps)


def spread(workers: Any) -> list[int]:
    counts = sorted(Counter(workers).values(), reverse=True)
    return counts + [0] * (N_WORKERS - len(counts))


def sleep(seconds: float, *above: object) -> tuple[str, list[Any]]:
    """The task of Dask: returns the names of the workers that ran it and those above it."""
    time.sleep(seconds)
    return str(get_worker().name), list(above)


def real(shape: Shape, client: Any) -> tuple[float, list[int]]:
    """Seconds of one run by Dask, and the tasks of each worker."""
    seconds, nodes = durations(shape.names), dict[str, Any]()
    run = f"{random.getrandbits(32):08x}"
    for name in shape.names:
        above = [nodes[u] for u, below in shape.edges if below == name]
        function, number = name.split("-")
        key = f"{function}{run}-{number}"  # a group of its own for each run
        nodes[name] = delayed(sleep, pure=False)(seconds[name], *above, dask_key_name=key)
    begin_s = time.perf_counter()
    futures = client.compute(list(nodes.values()))
    results = client.gather(futures)
    took_s = time.perf_counter() - begin_s
    return took_s, spread(worker for worker, _ in results)


def share(one: list[int], other: list[int]) -> float:
    return sum(map(min, one, other)) / sum(one)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    chosen = parser.parse_args()
    rows = []
    with (
        LocalCluster(
            n_workers=N_WORKERS, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        real(SHAPES[0], client)  # warm up
        print(
            f"{'shape':22} {'tasks':>5} {'planned s':>9} {'real s':>7} {'ratio':>6}  {'planned':>14} {'real':>14} {'share':>5}"
        )
        for shape in SHAPES:
            plan_s, plan_spread = planned(shape)
            runs = sorted((real(shape, client) for _ in range(TIMES)), key=lambda run: run[0])
            real_s, real_spread = runs[TIMES // 2]
            row = [
                shape.name,
                len(shape.names),
                plan_s,
                real_s,
                plan_s / real_s,
                share(plan_spread, real_spread),
            ]
            rows.append([*row, plan_spread, real_spread])
            plan_text, real_text = (
                " ".join(map(str, counts)) for counts in (plan_spread, real_spread)
            )
            print(
                f"{shape.name:22} {row[1]:5} {plan_s:9.3f} {real_s:7.3f} {row[4]:6.2f}  "
                f"{plan_text:>14} {real_text:>14} {row[5]:5.2f}"
            )
    apart = [abs(row[4] - 1) for row in rows]
    print(f"|planned / real - 1|: median {statistics.median(apart):.3f}, worst {max(apart):.3f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
