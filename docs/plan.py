"""Draws docs/plan.svg, the plan in the README: its functions were measured in earlier runs.

    python docs/plan.py [--out FILE] [--runs N]

It runs the workflow N times to learn, plans it, draws the plan, runs that plan, and prints the
forecast and what the run took. Its history is one of its own. When the run takes less or more than
the forecast says of 8 runs in 10, the picture is not written and the exit code is 1.
"""
# ruff: noqa: T201  # a program prints

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from dagnb_workers import Processes

from dagnb import task
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.task import Node
from dagnb.views.wording import seconds_text, window_text

LIMIT_S = 60.0
N_WORKERS = 3
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]


@task
def download(part: int) -> list[str]:
    """Wait as for a server, longer for some parts than for others."""
    time.sleep(0.3 + 0.1 * part)
    return WORDS * 1_000


@task
def count(words: list[str]) -> Counter[str]:
    """Count words, slowly."""
    time.sleep(0.4)
    return Counter(words)


@task
def merge(counts: list[Counter[str]]) -> Counter[str]:
    """Add counts."""
    time.sleep(0.2)
    return sum(counts, Counter())


def workflow() -> Node[Counter[str]]:
    """Six parts downloaded and counted, merged in twos, then all."""
    counted = [count(download(part)) for part in range(6)]
    pairs = [merge(counted[i : i + 2]) for i in range(0, 6, 2)]
    return merge(pairs)


def draw(out: Path, n_runs: int) -> bool:
    """Learn, plan, draw and run. Returns whether the run took as long as predicted."""
    chosen = {"workers": Processes(n=N_WORKERS), "planner": "heft"}
    for _ in range(n_runs):
        workflow().run(**chosen).result(LIMIT_S)

    run = workflow().run(**chosen)
    run.result(LIMIT_S)
    outlook = forecast_of(run.plan)
    forecast = outlook.forecast  # made before the run, when it was planned
    took_s = run.trace.makespan_s
    is_close = forecast.covers(took_s)
    if is_close:
        out.write_text(run.plan.to_svg(), encoding="utf-8")
    band = window_text(forecast.p10_s, forecast.p90_s)
    print(
        f"functions known: {forecast.known:.0%}; predicted {seconds_text(forecast.p50_s)}, "
        f"{band} in 8 of 10 runs; the run took {seconds_text(took_s)}"
    )
    return is_close


def main() -> int:
    """Draw in a home of its own, whose agent ends afterwards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("plan.svg"))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dnb", dir="/tmp", ignore_cleanup_errors=True) as home:
        os.environ["DAGNB_HOME"] = home
        os.environ.pop("DAGNB_REDIS_URL", None)
        try:
            return 0 if draw(options.out, options.runs) else 1
        finally:
            subprocess.run([sys.executable, "-m", "dagnb", "agent", "--stop"], check=False)


if __name__ == "__main__":
    sys.exit(main())
