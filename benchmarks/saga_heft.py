"""HEFT here against the HEFT of SAGA, where both mean the same: equal processors, nothing to transfer.

    pip install anrg-saga            # no dependency of dagnb, not even of its tests
    PYTHONHASHSEED=0 python benchmarks/saga_heft.py --random 60 --stg /path/to/stg.json

Source: Coleman, Krishnamachari, "Comparing task graph scheduling algorithms: an adversarial approach",
arXiv:2403.07120. Run times are whole seconds, so equal sums are equal; what differs then differs by how ties are
broken, which in SAGA changes with PYTHONHASHSEED.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import random
import statistics
from collections.abc import Iterator
from typing import Any

import cases
from dagnb_planners.heft import by_rank, in_order
from dagnb_planners.placing import Placing
from dagnb_planners.ranks import RankPrices, upward
from stg import FREE

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Costs, Pool, Problem

PROCESSORS = (2, 4, 8)


def main() -> None:
    """Print how many makespans are equal, and by how much the others differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", type=int, default=60, help="how many random DAGs")
    parser.add_argument("--tasks", type=int, default=40, help="tasks of a random DAG")
    parser.add_argument(
        "--stg", help="graphs of the Standard Task Graph Set, as benchmarks/cases.py reads them"
    )
    parser.add_argument("--every", type=int, default=1, help="only every so many-th graph of it")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # SAGA says of each graph that it adds one source and one sink
    compare("random", list(randoms(options.random, options.tasks)))
    if options.stg:
        compare(
            "STG",
            [(dag, run_s) for _, dag, run_s, _ in cases.load_stg(options.stg)[:: options.every]],
        )


def randoms(n: int, n_tasks: int) -> Iterator[tuple[Dag, dict[int, float]]]:
    """DAGs with edges of any density; always the same ones."""
    chance = random.Random(0)
    for _ in range(n):
        names, density = [f"t{i}" for i in range(n_tasks)], chance.choice((0.03, 0.08, 0.2))
        edges = [
            (names[u], names[v])
            for v in range(n_tasks)
            for u in range(v)
            if chance.random() < density
        ]
        dag = Dag.from_edges(names, edges)
        yield dag, {task: float(chance.randint(1, 20)) for task in range(n_tasks)}


def compare(name: str, graphs: list[tuple[Dag, dict[int, float]]]) -> None:
    """One line."""
    differences = [
        ours(dag, run_s, n) / theirs(dag, run_s, n) - 1 for dag, run_s in graphs for n in PROCESSORS
    ]
    equal = sum(abs(difference) < 1e-9 for difference in differences)
    print(
        f"{name}: {len(differences)} cases, {equal} equal; here the makespan is "
        f"{100 * statistics.mean(differences):+.2f} % on average, {100 * min(differences):+.2f} to "
        f"{100 * max(differences):+.2f} %"
    )


def ours(dag: Dag, run_s: dict[int, float], n: int) -> float:
    """The makespan of the schedule of HEFT here."""
    prices = RankPrices(Problem(dag=dag, costs=Costs(run_s=run_s, **FREE), pool=Pool(cap=n)))
    return in_order(Placing(prices, n), by_rank(upward(prices))).makespan_s


def theirs(dag: Dag, run_s: dict[int, float], n: int) -> float:
    """The makespan of the schedule of SAGA's."""
    saga: Any = importlib.import_module("saga")
    heft: Any = importlib.import_module("saga.schedulers.heft")
    nodes = [f"p{i}" for i in range(n)]
    network = saga.Network.create(
        nodes=[(node, 1.0) for node in nodes],
        edges=[(a, b, 1.0) for a in nodes for b in nodes if a < b],
    )
    graph = saga.TaskGraph.create(
        tasks=[(call.name, run_s[task]) for task, call in enumerate(dag.calls)],
        dependencies=[
            (dag.calls[u].name, call.name, 0.0) for call in dag.calls for u in call.upstream
        ],
    )
    return float(heft.HeftScheduler().schedule(network, graph).makespan)


if __name__ == "__main__":
    main()
