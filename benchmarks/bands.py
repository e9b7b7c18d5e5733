"""Bands of whole runs in virtual time: how often a run ends inside its forecast of 8 in 10, and how wide that is.

    python benchmarks/bands.py [FOLDER] [--quick] [--json FILE] [--only WORDS ...]

The simulator plays reality: each run has true durations, drawn from a law that this program knows. Past runs of the law
go through the history, the predictor and the forecast as real ones do; then one more run of it is drawn. A row is one
situation on one graph; its cells are

    inside    share of the seeds whose run ended inside the band of its forecast (p10 to p90)
    of law    the same of the band of the law: how far from 80 % so few seeds come by chance
    width     log(p90 / p10) of the forecast over that of the best possible forecaster, which draws
              from the law itself; the median of the seeds
    bias      forecast p50 over the median of the law; the median of the seeds

The graphs are fans, and two workflows in the shapes of Montage and Epigenomics, as Juve et al. 2013 describe them,
"Characterizing and profiling scientific workflows", doi:10.1016/j.future.2012.08.015. Their run times are of the order
of those, and none of them is a figure of the paper. FOLDER holds recorded ones (see cases.py) that take the place of
these two. Nothing is started, and no clock is read.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import cases
from dagnb_planners.flexible import Flexible

from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, Problem, StartCost
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.history import History
from dagnb.simulation.simulate import outcome, simulate
from dagnb.trace.trace import Trace

SEEDS = 12
POOL = Pool(cap=8)
FANS = (8, 32, 128, 1_200)
RECORDED = (
    "wfi-montage-chameleon-2mass-005d-001",
    "wfi-epigenomics-chameleon-hep-1seq-100k-001",
)
SHARED, OWN = 0.08, 0.1
"""how far runs, and the tasks of a run, differ in every situation: standard deviations of log time"""
INPUT_BYTES = 300_000
DAY_S = 86_400.0
DRAWN_STEPS, LEAST_DRAWN, MOST_DRAWN = 60_000, 60, 300
"""the best possible forecaster draws runs of about so many steps in all, within these numbers"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A graph with the usual run time of each task. has_keys: its calls are the same in every run."""

    name: str
    dag: Dag
    run_s: Mapping[int, float]
    has_keys: bool = False

    @property
    def functions(self) -> list[str]:
        """The function of each task."""
        return [call.function for call in self.dag.calls]


@dataclass(frozen=True, kw_only=True)
class Reality:
    """One run as it really is. code: version of every function."""

    costs: Costs
    code: str = "1"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A run to be drawn: is_new for the one that is predicted, age: runs between it and that one."""

    work: Work
    chance: random.Random
    age: int

    @property
    def is_new(self) -> bool:
        """True for the run that is predicted."""
        return self.age == 0

    def times(self, factor_of: Callable[[int], float] = lambda task: 1.0) -> dict[int, float]:
        """Usual run times by a factor of each task, on a usual day."""
        day = math.exp(self.chance.gauss(0.0, SHARED))
        run_s = {}
        for task, seconds in self.work.run_s.items():
            own = math.exp(self.chance.gauss(0.0, OWN))
            run_s[task] = seconds * day * own * factor_of(task)
        return run_s

    def by_function(self, sigma: float) -> Callable[[int], float]:
        """A factor for each function, drawn once."""
        functions = self.work.functions
        factors = {name: math.exp(self.chance.gauss(0.0, sigma)) for name in sorted(set(functions))}
        return lambda task: factors[functions[task]]


# ---- situations ----


def usual(draw: Draw) -> Reality:
    """All as it was."""
    return Reality(costs=priced(draw, draw.times()))


def unknown(draw: Draw) -> Reality:
    """Functions that never ran: 0.1 s, and two orders of magnitude to either side."""
    level = draw.by_function(2.5)
    return Reality(
        costs=priced(draw, draw.times(lambda task: level(task) * 0.1 / draw.work.run_s[task]))
    )


def unseen_sizes(draw: Draw) -> Reality:
    """Inputs thirty times as large as any before; the time grows as a power of them, nearly."""
    exponents = {}
    for name in sorted(set(draw.work.functions)):
        exponents[name] = random.Random(name).uniform(0.5, 1.0)
    beyond = draw.by_function(0.4)
    scale = 30.0 if draw.is_new else 1.0
    sizes, factors = {}, {}
    for task, name in enumerate(draw.work.functions):
        sizes[task] = round(INPUT_BYTES * scale * 10 ** draw.chance.uniform(-0.5, 0.5))
        factors[task] = (sizes[task] / INPUT_BYTES) ** exponents[name]
        if draw.is_new:
            factors[task] *= beyond(task)
    costs = priced(draw, draw.times(factors.__getitem__))
    return Reality(costs=costs.with_(argument_bytes=sizes))


def changed_code(draw: Draw) -> Reality:
    """Every function was changed since: its time by a factor of its own."""
    if not draw.is_new:
        return usual(draw)
    return Reality(costs=priced(draw, draw.times(draw.by_function(0.5))), code="2")


def two_modes(draw: Draw) -> Reality:
    """Three tasks in ten take twenty times as long as the others, as one that misses a cache."""

    def factor(_: int) -> float:
        return 6.0 if draw.chance.random() < 0.3 else 0.3

    return Reality(costs=priced(draw, draw.times(factor)))


def heavy_tail(draw: Draw) -> Reality:
    """A Pareto law with exponent 2: one task in a hundred takes ten times the shortest."""
    return Reality(costs=priced(draw, draw.times(lambda _: 0.5 * draw.chance.paretovariate(2.0))))


def tenfold_jump(draw: Draw) -> Reality:
    """Four runs ago all became ten times as slow, as with ten times the data in one file."""
    factor = 10.0 if draw.age <= 4 else 1.0
    return Reality(costs=priced(draw, draw.times(lambda _: factor)))


def slow_day(draw: Draw) -> Reality:
    """On one day in four all takes 1.7 times as long."""
    factor = 1.7 if draw.chance.random() < 0.25 else 1.0
    return Reality(costs=priced(draw, draw.times(lambda _: factor)))


def retries(draw: Draw) -> Reality:
    """One attempt in ten fails on its way; the next begins half a second later."""
    run_s, failures = draw.times(), {}
    for task, seconds in run_s.items():
        failed: list[tuple[float, float]] = []
        while draw.chance.random() < 0.1 and len(failed) < 3:
            failed.append((seconds * draw.chance.uniform(0.2, 1.0), 0.5))
        if failed:
            failures[task] = tuple(failed)
    return Reality(costs=priced(draw, run_s).with_(failures=failures))


def agent_gone(draw: Draw) -> Reality:
    """Before three runs in ten the agent has left, and its next start takes two seconds."""
    start_s = 2.0 if draw.chance.random() < 0.3 else 0.02
    start_s *= math.exp(draw.chance.gauss(0.0, 0.1))
    return Reality(costs=priced(draw, draw.times(), start_s))


def imports(draw: Draw) -> Reality:
    """The first call of a function in a worker imports for a second and a half."""
    import_s = 1.5 * math.exp(draw.chance.gauss(0.0, 0.3))
    every = dict.fromkeys(draw.work.run_s, import_s)
    return Reality(costs=priced(draw, draw.times()).with_(import_s=every))


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A law of runs, and the number of past ones."""

    law: Callable[[Draw], Reality]
    n_past: int

    @property
    def name(self) -> str:
        """Its name, in words."""
        return self.law.__name__.replace("_", " ")


SITUATIONS = (
    Situation(law=usual, n_past=10),
    Situation(law=unknown, n_past=0),
    Situation(law=unseen_sizes, n_past=8),
    Situation(law=changed_code, n_past=8),
    Situation(law=two_modes, n_past=8),
    Situation(law=heavy_tail, n_past=8),
    Situation(law=tenfold_jump, n_past=12),
    Situation(law=slow_day, n_past=20),
    Situation(law=retries, n_past=8),
    Situation(law=agent_gone, n_past=12),
    Situation(law=imports, n_past=8),
)


def priced(draw: Draw, run_s: Mapping[int, float], start_s: float = 0.02) -> Costs:
    """The true costs of a run; all but the run times and starts are those of every run."""
    return Costs(
        run_s=run_s,
        argument_bytes=dict.fromkeys(run_s, INPUT_BYTES),
        output_bytes=dict.fromkeys(run_s, 1_000),
        cold=StartCost(invoke_s=start_s * math.exp(draw.chance.gauss(0.0, SHARED))),
    )


# ---- graphs ----


def fan(n: int) -> Work:
    """n tasks of one function, and one that gathers them."""
    tasks = [f"work-{i}" for i in range(n)]
    dag = Dag.from_edges(
        [*tasks, "gather"],
        [(task, "gather") for task in tasks],
        functions=["work"] * n + ["gather"],
    )
    run_s = {task: 0.2 if call.function == "work" else 0.05 for task, call in enumerate(dag.calls)}
    return Work(name=f"fan {n:,}", dag=dag, run_s=run_s)


def montage(n: int = 12) -> Work:
    """A mosaic of n images: each is projected, neighbours are compared, then all are corrected and joined."""
    edges = []
    for i in range(n):
        edges.append((f"mProjectPP-{i}", f"mBackground-{i}"))
        edges.append(("mBgModel-0", f"mBackground-{i}"))
        edges.append((f"mBackground-{i}", "mImgtbl-0"))
        for near in (i + 1, i + 2):
            if near < n:
                edges.append((f"mProjectPP-{i}", f"mDiffFit-{i}_{near}"))
                edges.append((f"mProjectPP-{near}", f"mDiffFit-{i}_{near}"))
                edges.append((f"mDiffFit-{i}_{near}", "mConcatFit-0"))
    edges += [("mConcatFit-0", "mBgModel-0"), ("mImgtbl-0", "mAdd-0")]
    edges += [("mAdd-0", "mShrink-0"), ("mShrink-0", "mJPEG-0")]
    # mConcatFit, mBgModel and mAdd grow with the number of images: here in proportion to it.
    seconds = {"mProjectPP": 1.73, "mDiffFit": 0.66, "mConcatFit": 0.8, "mBgModel": 2.2}
    seconds |= {"mBackground": 1.72, "mImgtbl": 2.78, "mAdd": 1.6, "mShrink": 0.5, "mJPEG": 0.64}
    return published("montage", edges, seconds)


def epigenomics(lanes: int = 2, chunks: int = 7) -> Work:
    """Reads of some lanes, split, filtered and mapped in chunks; then merged, indexed, piled up."""
    edges = []
    for lane in range(lanes):
        for i in range(chunks):
            per_chunk = ("filterContams", "sol2sanger", "fastq2bfq", "map")
            middle = [f"{function}-{lane}_{i}" for function in per_chunk]
            edges += pairwise([f"fastqSplit-{lane}", *middle, f"mapMerge-{lane}"])
        edges.append((f"mapMerge-{lane}", "mapMerge-all"))
    edges += [("mapMerge-all", "maqIndex-0"), ("maqIndex-0", "pileup-0")]
    seconds = {"fastqSplit": 34.32, "filterContams": 2.47, "sol2sanger": 0.48, "fastq2bfq": 1.4}
    seconds |= {"map": 201.89, "mapMerge": 11.01, "maqIndex": 43.57, "pileup": 55.95}
    return published("epigenomics", edges, seconds)


def published(name: str, edges: Sequence[tuple[str, str]], seconds: Mapping[str, float]) -> Work:
    """A workflow whose tasks are called as their functions, with a number behind."""
    tasks = list(dict.fromkeys(task for edge in edges for task in edge))
    functions = [task.partition("-")[0] for task in tasks]
    dag = Dag.from_edges(tasks, edges, functions=functions)
    run_s = {task: seconds[call.function] for task, call in enumerate(dag.calls)}
    return Work(name=name, dag=dag, run_s=run_s, has_keys=True)


def recorded(folder: Path, name: str) -> Work | None:
    """A recorded workflow, its shortest tasks 1 ms; None, with a message, where its file is missing."""
    path = folder / f"{name}.json"
    if not path.exists():
        print(f"skipped: {path} is missing", file=sys.stderr)
        return None
    workflow = cases.load(path)
    run_s = {task: max(seconds, cases.SHORTEST_S) for task, seconds in workflow.run_s.items()}
    return Work(name=name.split("-")[1], dag=workflow.dag, run_s=run_s, has_keys=True)


def works(folder: Path | None, *, is_quick: bool) -> Iterator[Work]:
    """All graphs of the table."""
    yield from map(fan, FANS[:3] if is_quick else FANS)
    if folder is None:
        yield montage()
        yield epigenomics()
        return
    for name in RECORDED:
        work = recorded(folder, name)
        if work is not None:
            yield work


# ---- a row ----


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One seed: quantiles of the forecast, and the true makespan, seconds. took_s: of the forecast."""

    p10_s: float
    p50_s: float
    p90_s: float
    true_s: float
    took_s: float

    @property
    def is_inside(self) -> bool:
        """True if the run ended inside the band."""
        return self.p10_s <= self.true_s <= self.p90_s


@dataclass(frozen=True, kw_only=True)
class Row:
    """A situation on a graph. best: p10, p50 and p90 of the law, seconds."""

    situation: str
    work: str
    best: tuple[float, float, float]
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def inside(self) -> float:
        """Share of the runs inside their bands."""
        return sum(cell.is_inside for cell in self.cells) / len(self.cells)

    @property
    def best_inside(self) -> float:
        """Share of the same runs inside the band of the law: chance, at so few seeds."""
        p10, _, p90 = self.best
        return sum(p10 <= cell.true_s <= p90 for cell in self.cells) / len(self.cells)

    @property
    def width(self) -> float:
        """Median width of the bands, over that of the law."""
        widths = [math.log(cell.p90_s / cell.p10_s) for cell in self.cells]
        return statistics.median(widths) / math.log(self.best[2] / self.best[0])

    @property
    def bias(self) -> float:
        """Median of the forecasts' p50, over that of the law."""
        return statistics.median(cell.p50_s for cell in self.cells) / self.best[1]

    @property
    def text(self) -> str:
        """A line of the table."""
        p10, p50, p90 = self.best
        took_ms = 1e3 * statistics.median(cell.took_s for cell in self.cells)
        return (
            f"{self.situation:13} {self.work:12} {self.inside:6.0%} {self.best_inside:6.0%}"
            f" {self.width:7.2f} {self.bias:6.2f}"
            f"   {p10:9.3g} {p50:9.3g} {p90:9.3g} s {took_ms:8.0f}"
        )


HEAD = f"{'situation':13} {'graph':12} inside of law   width   bias     law: p10       p50       p90   forecast ms"


def row(situation: Situation, work: Work, n_seeds: int) -> Row:
    """All seeds of one row. A seed has its own past, and its own run after it."""
    plan = Flexible().plan(Problem(dag=work.dag, costs=Costs(), pool=POOL))
    label = f"{situation.name}/{work.name}"
    n_drawn = min(MOST_DRAWN, max(LEAST_DRAWN, DRAWN_STEPS // len(work.dag)))
    makespans = []
    for number in range(n_drawn):
        chance = random.Random(f"{label}/law/{number}")
        costs = situation.law(Draw(work=work, chance=chance, age=0)).costs
        makespans.append(outcome(plan, costs, POOL).makespan_s)
    deciles = statistics.quantiles(makespans, n=10, method="inclusive")
    cells = tuple(cell(situation, work, plan, f"{label}/{seed}") for seed in range(n_seeds))
    best = deciles[0], deciles[4], deciles[8]
    return Row(situation=situation.name, work=work.name, best=best, cells=cells)


def cell(situation: Situation, work: Work, plan: Plan, seed: str) -> Cell:
    """Remember the past runs of this seed, predict the next one, and play it."""
    with tempfile.TemporaryDirectory(prefix="dagnb") as folder:
        knowledge = Knowledge(History(Path(folder) / "history.sqlite"))
        for age in range(situation.n_past, 0, -1):
            chance = random.Random(f"{seed}/{age}")
            reality = situation.law(Draw(work=work, chance=chance, age=age))
            remember(knowledge.history, work, plan, reality, age)

        reality = situation.law(Draw(work=work, chance=random.Random(f"{seed}/0"), age=0))
        began = time.process_time()
        codes, keys = signs(work, reality)
        sizes = reality.costs.argument_bytes
        costs = expected_costs(work.dag, knowledge, "here", codes, keys, sizes)
        expected = forecast_of(replace(plan, problem=Problem(dag=work.dag, costs=costs, pool=POOL)))
        assert expected is not None  # the plan has a problem
        forecast = expected.forecast
        took_s = time.process_time() - began
    return Cell(
        p10_s=forecast.p10_s,
        p50_s=forecast.p50_s,
        p90_s=forecast.p90_s,
        true_s=outcome(plan, reality.costs, POOL).makespan_s,
        took_s=took_s,
    )


def signs(work: Work, reality: Reality) -> tuple[list[str], list[str]]:
    """Code and key of each task, as a submission stores them."""
    codes = [f"{name} {reality.code}" for name in work.functions]
    if not work.has_keys:
        return codes, [""] * len(codes)
    # A call on other inputs is another call.
    sizes = reality.costs.argument_bytes
    return codes, [f"{call.name} {sizes[task]}" for task, call in enumerate(work.dag.calls)]


def remember(history: History, work: Work, plan: Plan, reality: Reality, age: int) -> None:
    """Play a run, so many days ago, and record it as a client does."""
    submitted_at = 1e9 - age * DAY_S
    simulated = simulate(plan, reality.costs, POOL)
    spans = []
    for span in simulated.spans:
        begin_s, end_s = span.begin_s + submitted_at, span.end_s + submitted_at
        spans.append(replace(span, begin_s=begin_s, end_s=end_s))
    finished_at = submitted_at + simulated.finished_s
    trace = Trace.of(spans, simulated.names, submitted_s=submitted_at, finished_s=finished_at)

    codes, keys = signs(work, reality)
    kinds = sorted(set(codes))
    meta = {
        "name": work.name,
        "planner": plan.planner,
        "names": list(plan.names),
        "functions": work.functions,
        "upstream": [list(step.upstream) for step in plan.steps],
        "sinks": list(plan.sinks),
        "codes": kinds,
        "code": [kinds.index(code) for code in codes],
        "keys": keys,
        "platform": "here",
    }
    history.record(f"run {age}", RunDescription.read(json.dumps(meta)), RunState.OK, trace)


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of recorded workflows")
    parser.add_argument("--quick", action="store_true", help="without the fan of 1,200; six seeds")
    parser.add_argument("--seeds", type=int, help=f"of a row; {SEEDS} if left out")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names have these words")
    asked = parser.parse_args()
    n_seeds = asked.seeds or (SEEDS // 2 if asked.quick else SEEDS)
    rows = []
    print(HEAD)
    for situation in SITUATIONS:
        for work in works(asked.folder, is_quick=asked.quick):
            label = f"{situation.name} {work.name}"
            if all(word in label for word in asked.only):
                rows.append(row(situation, work, n_seeds))
                print(rows[-1].text, flush=True)
    summary(rows)
    if asked.json is not None:
        written = [{**asdict(row), "inside": row.inside, "width": row.width} for row in rows]
        asked.json.write_text(json.dumps(written, indent=1), encoding="utf-8")


def summary(rows: Sequence[Row]) -> None:
    """Print how many rows keep to the aim."""
    if not rows:
        print("no row has these words")
        return
    n = len(rows)
    honest = sum(0.7 <= row.inside <= 0.95 for row in rows)
    narrow = sum(row.width <= 2.0 for row in rows)
    by_chance = sum(0.7 <= row.best_inside <= 0.95 for row in rows)
    cells = [cell.is_inside for row in rows for cell in row.cells]
    print(
        f"\n{n} rows: {honest} with 70 to 95 % inside ({by_chance} of the law's own bands),"
        f" {narrow} at most twice as wide as the law; {sum(cells)} of {len(cells)} runs inside"
    )
    print("\nall graphs    inside of law")
    for name in dict.fromkeys(row.situation for row in rows):
        alike = [row for row in rows if row.situation == name]
        inside = statistics.fmean(row.inside for row in alike)
        best = statistics.fmean(row.best_inside for row in alike)
        print(f"{name:13} {inside:6.0%} {best:6.0%}")


if __name__ == "__main__":
    main()
