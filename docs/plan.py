"""Draws docs/plan.svg, the picture of the README: the plan of a small tree of merges, with simulated times."""

from __future__ import annotations

from pathlib import Path

from dagnb_planners.one_pass import OnePass

import dagnb
from dagnb import task
from dagnb.planning.costs import Costs
from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import simulate
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
    plan = dagnb.plan(merge(pairs), planner=OnePass(), workers="inline")
    predicted = simulate(plan, Costs.hinted(plan.dag), Pool(cap=3))
    Path(__file__).with_name("plan.svg").write_text(plan_svg(plan, predicted))


if __name__ == "__main__":
    main()
