"""Every planner on workflows of others: simulated makespan relative to a baseline, gap to the lower bound, planning time.

    python benchmarks/planners.py FOLDER [--all] [--pools POOL ...] [--tasks N] [--planners NAME ...] [--budget SECONDS]
    python benchmarks/planners.py --times [--planners NAME ...]        planning and simulation time by size

FOLDER holds the workflows (see cases.py). There is a table for each pool:

    uncapped    containers that come and go as tasks need them, relative to `wukong`
    8, 2        so many equal processes, which start at the submission, relative to `flexible`

`wukong` runs as published: an executor serves one path and is invoked by whoever makes its task ready; the others run
as dagnb's containers do. Uploads block in all of them. A file that cannot be read is named and left out.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import cases

from dagnb import registry
from dagnb.errors import DagnbError
from dagnb.graph.dag import Dag
from dagnb.planning.bounds import lower_bound
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import outcome, simulate

TRANSFER = LinearCost(0.004, 1 / cases.BYTES_PER_S)
WUKONG = "wukong"
EXACT_TASKS = 40
PORTFOLIO = (
    "flexible",
    "one_pass",
    "wukong",
    "dask_like",
    "heft",
    "cpop",
    "peft",
    "heft_lookahead",
)
ORDER = (
    WUKONG,
    "flexible",
    "one_pass",
    "uniform",
    "non_uniform",
    "dask_like",
    "cpop",
    "peft",
    "heft",
    "heft_lookahead",
)


@dataclass(frozen=True)
class Setting:
    """A pool and the planner to which the others are compared there."""

    pool: Pool
    baseline: str


SETTINGS = {
    "uncapped": Setting(Pool(eager=False, linger_s=0.0, keep_alive_s=7.0), WUKONG),
    "8": Setting(Pool(cap=8), "flexible"),
    "2": Setting(Pool(cap=2), "flexible"),
}


@dataclass
class Tally:
    """The results of one planner. ratios: to the baseline, as bounds; gaps: to the bound; seconds: of planning."""

    bounds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    below: int = 0


def priced(workflow: cases.Workflow) -> Costs:
    """The settings of the reference cases: 'docker'."""
    return workflow.costs(
        fetch=TRANSFER,
        store=TRANSFER,
        load=LinearCost(),
        dump=LinearCost(),
        inline_bytes=0,
        commit_s=0.001,
        wake_s=0.001,
        invocation_s=0.01,
        cold=StartCost(invoke_s=0.01, create_s=1.2),
        warm=StartCost(invoke_s=0.01, register_s=0.06),
    )


def names(asked: list[str], baseline: str) -> list[str]:
    """The planners asked for, or all there are, the baseline first.

    `wukong` has processes of its own, so it is left out where workers are equal.
    """
    known = asked or [*ORDER, *(name for name in registry.names("planner") if name not in ORDER)]
    unlike = {baseline} if baseline == WUKONG else {baseline, WUKONG}
    others = [name for name in known if name not in unlike and name in registry.names("planner")]
    return [baseline, *others]


def made(name: str, budget_s: float | None) -> object:
    """The planner, with its defaults."""
    kind = registry.find("planner", name)
    return kind(budget_s=budget_s) if name == "best" and budget_s is not None else kind()


def compare(
    problem: Problem, chosen: list[str], budget_s: float | None
) -> dict[str, tuple[float, float, float]]:
    """planner -> (makespan, planning seconds, GB-s) of those that take the problem"""
    found = {}
    for name in chosen:
        if name == "exact" and len(problem.dag) > EXACT_TASKS:
            continue
        asked = problem
        if name == WUKONG:
            asked = replace(problem, pool=replace(problem.pool, single=True))
        began = time.perf_counter()
        try:
            plan = made(name, budget_s).plan(asked)  # type: ignore[attr-defined]
        except DagnbError as error:
            print(f"    {name}: {error}")
            continue
        seconds = time.perf_counter() - began
        result = outcome(plan, asked.costs, asked.pool)
        found[name] = (result.makespan_s, seconds, result.gb_s)
    return found


def workflows(
    folder: Path, *, every: bool, most_tasks: int | None
) -> tuple[list[cases.Workflow], list[str]]:
    """The reference cases, or all workflows there; and a line for each file that is left out."""
    paths = [folder / f"{name}.json" for name in cases.reference_cases()]
    if every:
        paths = sorted(folder.glob("*.json"))
    loaded: list[cases.Workflow] = []
    left_out: list[str] = []
    for path in paths:
        try:
            workflow = cases.load(path)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, DagnbError) as error:
            left_out.append(f"{path.name}: not a workflow ({type(error).__name__}: {error})")
            continue
        if most_tasks is not None and len(workflow.dag) > most_tasks:
            left_out.append(f"{path.name}: {len(workflow.dag):,} tasks, more than {most_tasks:,}")
            continue
        loaded.append(workflow)
    return loaded, left_out


def compare_all(
    loaded: list[cases.Workflow], setting: Setting, chosen: list[str], budget_s: float | None
) -> None:
    """The table of one pool."""
    tallies = {name: Tally() for name in chosen}
    worse: list[str] = []
    began = time.monotonic()
    print(f"{'workflow':34} ccr   bound  " + " ".join(f"{name[:9]:>9}" for name in chosen))
    for workflow in loaded:
        for ccr in cases.CCRS:
            try:
                scaled = cases.scaled(workflow, ccr)
            except ZeroDivisionError:
                continue  # its edges pass nothing: there is no ratio
            problem = Problem(dag=scaled.dag, costs=priced(scaled), pool=setting.pool)
            bound_s = lower_bound(problem.dag, problem.costs, problem.pool).seconds
            found = compare(problem, chosen, budget_s)
            base_s = found[setting.baseline][0]
            note(tallies, found, bound_s, setting.baseline)
            if is_worse(found):
                worse.append(f"{workflow.name} {ccr}")
            ratios = " ".join(
                f"{found[n][0] / base_s:9.3f}" if n in found else " " * 9 for n in chosen
            )
            name = workflow.name[:34]
            print(f"{name:34} {ccr:3}  {bound_s / base_s:6.3f}  {ratios}", flush=True)
    summary(tallies)
    print(f"best worse than a member of its portfolio: {len(worse)} times {worse}")
    print(f"simulated schedules below the bound: {sum(tally.below for tally in tallies.values())}")
    print(f"{time.monotonic() - began:.0f} s in all")


def note(
    tallies: dict[str, Tally],
    found: dict[str, tuple[float, float, float]],
    bound_s: float,
    baseline: str,
) -> None:
    """Add one case."""
    base_s, _, base_gb_s = found[baseline]
    for planner, (makespan_s, seconds, gb_s) in found.items():
        tally = tallies[planner]
        tally.bounds.append(bound_s / base_s)
        tally.ratios.append(makespan_s / base_s)
        tally.gaps.append(makespan_s / bound_s - 1)
        tally.seconds.append(seconds)
        tally.costs.append(gb_s / base_gb_s)
        tally.below += makespan_s < bound_s * (1 - 1e-9)


def is_worse(found: dict[str, tuple[float, float, float]]) -> bool:
    """Whether `best` is beaten by a planner on the same pool."""
    rivals = [found[name][0] for name in PORTFOLIO if name in found and name != WUKONG]
    return "best" in found and found["best"][0] > min(rivals, default=math.inf) * (1 + 1e-9)


def summary(tallies: dict[str, Tally]) -> None:
    """A line a planner."""
    print(
        f"\n{'planner':15} cases  geo-mean  bound  GB-s  median gap  within 1 %  within 10 %   planning s: median     worst"
    )
    for name, tally in tallies.items():
        if not tally.ratios:
            continue
        n, gaps = len(tally.ratios), tally.gaps
        means = f"{geometric(tally.ratios):8.3f} {geometric(tally.bounds):6.3f} {geometric(tally.costs):5.2f}"
        print(
            f"{name:15} {n:5}  {means}  {statistics.median(gaps):9.1%}"
            f"  {sum(gap <= 0.01 for gap in gaps) / n:9.0%}  {sum(gap <= 0.1 for gap in gaps) / n:10.0%}"
            f"  {statistics.median(tally.seconds):18.3f} {max(tally.seconds):9.3f}"
        )


def geometric(ratios: list[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def layered(n: int, width: int = 25, degree: int = 3) -> Dag:
    """A random DAG of layers."""
    chance = random.Random(n)
    tasks = [f"t{i}" for i in range(n)]
    edges = [
        (tasks[j], tasks[i])
        for i in range(width, n)
        for j in chance.sample(range((i // width - 1) * width, i // width * width), degree)
    ]
    return Dag.from_edges(tasks, edges, functions=["f"] * n)


def times(chosen: list[str]) -> None:
    """How long simulating and planning take, CPU seconds; the loop tells how quick the machine is now."""
    began, x = time.process_time(), 0
    for i in range(10**7):
        x += i
    print(
        f"this machine now: a bare loop of 10,000,000 additions takes {time.process_time() - began:.2f} s"
    )
    for n in (100, 1_000, 10_000):
        dag = layered(n)
        costs = Costs(
            run_s={i: 0.5 + (i * 7 % 13) / 10 for i in range(n)}, default_output_bytes=100_000
        )
        steps = tuple(
            Step(task=i, upstream=call.upstream, priority=i) for i, call in enumerate(dag.calls)
        )
        plan = Plan(dag=dag, steps=steps, planner="floating")
        for what, act in (("trace", simulate), ("outcome only", outcome)):
            began = time.process_time()
            act(plan, costs, Pool(cap=20))
            seconds = time.process_time() - began
            print(
                f"simulation of {n:6,} tasks, {what:12}  {seconds:7.3f} s  {seconds / n * 1e6:6.1f} us a task",
                flush=True,
            )
    for n in (1_000, 5_000):
        dag = layered(n)
        costs = Costs(
            run_s={i: 0.5 + (i * 7 % 13) / 10 for i in range(n)}, default_output_bytes=100_000
        )
        for name in chosen:
            if name == "exact":
                continue
            began = time.process_time()
            made(name, None).plan(Problem(dag=dag, costs=costs, pool=Pool(cap=32)))  # type: ignore[attr-defined]
            print(
                f"planning of {n:5,} tasks, {name:15} {time.process_time() - began:8.3f} s",
                flush=True,
            )


def main() -> None:
    """Compare, or time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--pools", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--tasks", type=int, help="leave out workflows with more tasks")
    parser.add_argument("--planners", nargs="+", default=[])
    parser.add_argument(
        "--budget", type=float, default=None, help="seconds of search of `best` a case"
    )
    parser.add_argument("--times", action="store_true")
    asked = parser.parse_args()
    if asked.times:
        times(names(asked.planners, WUKONG))
        return
    if asked.folder is None:
        parser.error("give the folder of workflows, or --times")
    loaded, left_out = workflows(asked.folder, every=asked.all, most_tasks=asked.tasks)
    for pool in asked.pools:
        setting = SETTINGS[pool]
        print(f"\n== pool {pool}, relative to {setting.baseline}, {len(loaded)} workflows ==")
        compare_all(loaded, setting, names(asked.planners, setting.baseline), asked.budget)
    for line in left_out:
        print(f"left out: {line}")


if __name__ == "__main__":
    main()
