"""The cost of a history for the first plan of a process: histories of 0 to 1,000 runs, side by side.

    python benchmarks/fresh_process.py [--runs 0 10 100 1000]

Each history is of a Montage of 12 images and of fans of 32, in turn, with sizes and times that
vary. Each plan of the Montage is made in a process of its own, five times; the least time counts.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bands import POOL, Draw, fan, montage, remember, signs, usual
from dagnb_planners.flexible import Flexible

from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.planner import Costs, Problem
from dagnb.run_history.history import History

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[0, 10, 100, 1_000])
    parser.add_argument(
        "--plan", type=Path, metavar="HISTORY", help="time one plan in this process"
    )
    arguments = parser.parse_args()
    if arguments.plan is not None:
        timed(arguments.plan)
        return

    print(f"{'runs':>6} {'know, ms':>9} {'costs, ms':>9} {'forecast, ms':>12} {'file, MB':>9}")
    with tempfile.TemporaryDirectory(prefix="dagnb") as folder:
        for n_runs in arguments.runs:
            path = Path(folder) / f"{n_runs}.sqlite"
            fill(path, n_runs)
            command = [sys.executable, __file__, "--plan", str(path)]
            times = []
            for _ in range(REPEATS):
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                times.append([float(word) for word in printed.split()])
            least = [1e3 * min(column) for column in zip(*times, strict=True)]
            megabytes = path.stat().st_size / 2**20
            print(
                f"{n_runs:6}",
                f"{least[0]:9.1f} {least[1]:9.1f} {least[2]:12.1f}",
                f"{megabytes:9.1f}",
                flush=True,
            )


def fill(path: Path, n_runs: int) -> None:
    """Record so many runs, as clients do."""
    history = History(path)
    works = montage(), fan(32)
    plans = [Flexible().plan(Problem(dag=work.dag, costs=Costs(), pool=POOL)) for work in works]
    history.birth()  # so that the file is there
    for age in range(n_runs, 0, -1):
        work, plan = works[age % 2], plans[age % 2]
        reality = usual(Draw(work=work, chance=random.Random(age), age=age))
        remember(history, work, plan, reality, age)


def timed(path: Path) -> None:
    """Print the seconds of learning, of pricing and of the forecast of one plan."""
    work = montage()
    reality = usual(Draw(work=work, chance=random.Random(0), age=0))
    codes, keys = signs(work, reality)
    began = time.perf_counter()
    knowledge = Knowledge(History(path))
    knowledge.predictor(work.functions)
    knowledge.platform("here")
    known = time.perf_counter()
    costs = expected_costs(work.dag, knowledge, "here", codes, keys, reality.costs.argument_bytes)
    priced = time.perf_counter()
    problem = Problem(dag=work.dag, costs=costs, pool=POOL)
    outlook = forecast_of(replace(Flexible().plan(problem), problem=problem))
    assert outlook is not None
    assert outlook.forecast.p50_s > 0
    print(known - began, priced - known, time.perf_counter() - priced)


if __name__ == "__main__":
    main()
