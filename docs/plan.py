"""Draws docs/plan.svg, the picture of the README: the plan of a small tree of merges, and what is foretold of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dagnb_planners.heft import Heft

from dagnb import task
from dagnb.graph.dag import Dag
from dagnb.planning.costs import Costs, Doubt, Start
from dagnb.planning.planner import Pool, Problem
from dagnb.views.plan import plan_svg


@task(time_s=2.0)
def count(text: str) -> dict[str, int]:
    """Never called: only drawn."""
    raise NotImplementedError(text)


@task(time_s=0.5)
def merge(counts: list[dict[str, int]]) -> dict[str, int]:
    """As above."""
    raise NotImplementedError(counts)


def main() -> None:
    """Write the picture beside this file."""
    pairs = [merge([count(f"chunk {i}"), count(f"chunk {i + 1}")]) for i in range(0, 6, 2)]
    dag = Dag.of(merge(pairs))
    doubt = Doubt(run=dict.fromkeys(range(len(dag)), 0.1), batch=0.1)
    costs = Costs.hinted(dag).with_(cold=Start(invoke_s=0.3, boot_s=0.5, import_s=0.4), doubt=doubt)
    problem = Problem(dag=dag, costs=costs, pool=Pool(cap=3, eager=False))
    plan = replace(Heft().plan(problem), problem=problem)
    Path(__file__).with_name("plan.svg").write_text(plan_svg(plan))


if __name__ == "__main__":
    main()
