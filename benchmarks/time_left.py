"""The time left of runs, looked at when 10, 25, 50 and 75 % of their tasks are done.

    python benchmarks/time_left.py [FOLDER] [--seeds 12] [--past 0 1 8]

Runs in virtual time on 8 workers, in the situations of bands.py: fans of 8 to 1,200 tasks, a
Montage, an Epigenomics, and up to four recorded workflows of the folder, whose task times are those
that were recorded. --past: so many earlier runs are in the history; with 0, no function is known.

A band holds if the true end lies in it; a lower bound, where a function is unknown, if it is not
above the true end. Error: of the median, relative to the true time left.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from pathlib import Path

from bands import (
    POOL,
    SITUATIONS,
    Draw,
    Situation,
    Work,
    epigenomics,
    fan,
    montage,
    recorded,
    remember,
    signs,
)
from dagnb_planners.flexible import Flexible

from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.forecast.time_left import RestOfRun, TimeLeft
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Problem
from dagnb.run_history.history import History
from dagnb.simulation.list_schedule import RunProgress
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Phase, Trace

SHARES = (0.1, 0.25, 0.5, 0.75)
LOOKED_AT = ("usual", "changed code", "two modes", "heavy tail", "tenfold jump", "slow day")
FLOWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of recorded workflows")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--past", type=int, nargs="+", default=[0, 1, 8])
    arguments = parser.parse_args()
    works = [fan(8), fan(32), fan(128), fan(1_200), montage(), epigenomics()]
    files = sorted(arguments.folder.glob("*.json")) if arguments.folder else []
    for file in files:
        work = recorded(arguments.folder, file.stem) if len(works) < FLOWS else None
        if work is not None:
            works.append(work)

    print(f"{'situation':13} {'past':>4} " + " ".join(f"{share:>14.0%}" for share in SHARES))
    print(f"{'':13} {'':>4} " + " ".join(f"{'error':>7} {'inside':>6}" for _ in SHARES))
    every: dict[float, list[Look]] = {share: [] for share in SHARES}
    for situation in SITUATIONS:
        if situation.name not in LOOKED_AT:
            continue
        for n_past in arguments.past:
            looks: dict[float, list[Look]] = {share: [] for share in SHARES}
            for work in works:
                plan = Flexible().plan(Problem(dag=work.dag, costs=Costs(), pool=POOL))
                for seed in range(arguments.seeds):
                    label = f"{situation.name}/{work.name}/{n_past}/{seed}"
                    for share, look in run(situation, work, plan, n_past, label).items():
                        looks[share].append(look)
                        every[share].append(look)
            print(f"{situation.name:13} {n_past:4} " + texts(looks), flush=True)
    print(f"{'all':13} {'':4} " + texts(every))


class Look:
    """A look at a run, and the time that it really took from then on."""

    def __init__(self, left: TimeLeft, true_s: float) -> None:
        self.holds = left.p10_s <= true_s <= left.p90_s
        self.error = None if left.unknown else abs(left.p50_s / true_s - 1.0)


def texts(looks: dict[float, list[Look]]) -> str:
    """Error and coverage at each share of the tasks."""
    words = []
    for share in SHARES:
        errors = [look.error for look in looks[share] if look.error is not None]
        error = f"{statistics.median(errors):7.1%}" if errors else f"{'-':>7}"
        inside = statistics.fmean(look.holds for look in looks[share])
        words.append(f"{error} {inside:6.0%}")
    return " ".join(words)


def run(situation: Situation, work: Work, plan: Plan, n_past: int, label: str) -> dict[float, Look]:
    """Remember the past, play a run, and look at it four times."""
    with tempfile.TemporaryDirectory(prefix="dagnb") as folder:
        knowledge = Knowledge(History(Path(folder) / "history.sqlite"))
        for age in range(n_past, 0, -1):
            past = situation.law(Draw(work=work, chance=random.Random(f"{label}/{age}"), age=age))
            remember(knowledge.history, work, plan, past, age)
        reality = situation.law(Draw(work=work, chance=random.Random(f"{label}/0"), age=0))
        codes, keys = signs(work, reality)
        sizes = reality.costs.argument_bytes
        costs = expected_costs(work.dag, knowledge, "here", codes, keys, sizes)
    return looks_at(plan, costs, simulate(plan, reality.costs, POOL))


def looks_at(plan: Plan, costs: Costs, trace: Trace) -> dict[float, Look]:
    """Looks at a run as its view does, by what has ended."""
    rest = RestOfRun(plan, costs, POOL)
    ends = sorted(span.end_s for span in trace.spans if span.phase is Phase.COMMIT)
    looks = {}
    for share in SHARES:
        now_s = ends[max(0, round(share * len(ends)) - 1)]
        progress, ran_s = at(trace, now_s)
        looks[share] = Look(
            rest.left(progress, ran_s), trace.makespan_s - (now_s - trace.submitted_s)
        )
    return looks


def at(trace: Trace, now_s: float) -> tuple[RunProgress, dict[int, float]]:
    """The state of a run at a moment."""
    done, begun, ran_s, workers = set[int](), dict[int, float](), dict[int, float](), set[str]()
    for span in trace.spans:
        if span.task < 0 or span.begin_s > now_s:
            continue
        if span.phase is not Phase.QUEUE:
            workers.add(span.worker)
            begun.setdefault(span.task, span.begin_s)
        if span.end_s <= now_s:
            if span.phase is Phase.RUN:
                ran_s[span.task] = span.duration_s
            elif span.phase is Phase.COMMIT:
                done.add(span.task)
    running = {task: now_s - since for task, since in begun.items() if task not in done}
    measured = {task: seconds for task, seconds in ran_s.items() if task in done}
    return RunProgress(done=done, running=running, n_workers=len(workers)), measured


if __name__ == "__main__":
    main()
