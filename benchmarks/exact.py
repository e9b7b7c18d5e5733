"""Is `exact` at most every other planner, by simulation? 200 random DAGs of up to 12 tasks, in random pools."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dagnb_planners.exact import Exact

from dagnb import registry
from dagnb.errors import ConfigError, PlanError
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """One problem: the makespan of `exact`, of each other planner, what `exact` says, how long it took."""

    exact_s: float
    others: dict[str, float]
    notes: tuple[str, ...]
    took_s: float

    @property
    def losers(self) -> list[str]:
        """The planners that are better than exact."""
        return [
            name for name, seconds in self.others.items() if self.exact_s > seconds * (1 + 1e-9)
        ]


def main() -> None:
    """Print one line, and one a lost problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="how many DAGs")
    parser.add_argument("--without", nargs="*", default=[], help="planners to leave out")
    told = parser.parse_args()
    names = [name for name in registry.names("planner") if name not in {"exact", *told.without}]
    duels = []
    for seed, duel in enumerate(fought(range(told.n), names)):
        duels.append(duel)
        if duel.losers:
            print(f"seed {seed}: exact {duel.exact_s:.6f} s; better: {', '.join(duel.losers)}")
    took = [duel.took_s for duel in duels]
    print(
        f"exact at most every planner ({', '.join(names)}) on {len(duels)} random DAGs of up to 12 tasks: "
        f"{'no' if any(duel.losers for duel in duels) else 'yes'}; "
        f"solved to optimality {sum('CP-SAT: optimal' in duel.notes[-1] for duel in duels)}, "
        f"simulated as short as the bound {sum(duel.notes[0].startswith('optimal') for duel in duels)}; "
        f"median {statistics.median(took):.2f} s; max {max(took):.2f} s"
    )


def fought(seeds: Iterable[int], names: Iterable[str]) -> Iterator[Duel]:
    """Exact against the planners of these names."""
    names = tuple(names)
    for seed in seeds:
        problem = random_problem(seed)
        begin_s = time.process_time()
        plan = Exact().plan(problem)
        took_s = time.process_time() - begin_s
        others = {
            name: simulated(problem, other)
            for name in names
            if (other := planned(problem, name)) is not None
        }
        yield Duel(exact_s=simulated(problem, plan), others=others, notes=plan.notes, took_s=took_s)


def random_problem(seed: int) -> Problem:
    """A DAG of 1 to 12 tasks, sparse or dense, of equal and of odd sizes, in a pool with or without a cap."""
    chance = random.Random(seed)
    n, density = chance.randint(1, 12), chance.choice((0.1, 0.2, 0.4))
    names = [f"t{i}" for i in range(n)]
    pairs = [(a, b) for j, b in enumerate(names) for a in names[:j] if chance.random() < density]
    costs = Costs(
        run_s={i: chance.choice((0.1, 1.0, 3.0, chance.uniform(0.05, 5.0))) for i in range(n)},
        output_bytes={i: chance.choice((100, 10**7, chance.randint(0, 10**8))) for i in range(n)},
        external_bytes={i: 10**7 for i in range(n) if chance.random() < 0.1},
        fetch=LinearCost(0.003, 1 / 80e6),
        store=LinearCost(0.003, 1 / 80e6),
        cold=StartCost(create_s=chance.choice((0.02, 1.2))),
        warm=StartCost(invoke_s=0.01),
    )
    pool = Pool(cap=chance.choice((1, 2, 3, 4, None)), eager=chance.random() < 0.5)
    return Problem(dag=Dag.from_edges(names, pairs), costs=costs, pool=pool)


def planned(problem: Problem, name: str) -> Plan | None:
    """The plan of the planner of this name; None where it refuses."""
    try:
        plan: Plan = registry.find("planner", name)().plan(problem)
    except (PlanError, ConfigError):
        return None
    return plan


def simulated(problem: Problem, plan: Plan) -> float:
    """The makespan, seconds."""
    return outcome(plan, problem.costs, problem.pool).makespan_s


if __name__ == "__main__":
    main()
