"""Predictions, scored on real task records the way they are used: a whole run before any of its tasks is seen.

The records: a folder with records.csv.gz, columns family, run, function, input_bytes, output_bytes, runtime_s. Runs
come in the order of the file, one predictor a family. The first 250 tasks of each function and run count; functions
that were never seen before in the family are left out. Losses are of the logarithm; times are of the processor.

The last table is of whole runs: the sum of the run times of all their tasks, in the scenarios that forecasts are made of.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dagnb.forecast.costs import Platform, expected_costs
from dagnb.graph.dag import Call, Dag
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.predictor import Predictor
from dagnb.simulation.scenarios import quantile, scenarios

FIRST = 250
SCENARIOS = 48
COLUMNS = ("med APE", "|log e|", "pin90", "cov90", "cov50")

Score = tuple[float, ...]
"""of one prediction: absolute percentage error, absolute log error, pinball loss, below p90, below p50"""
Run = tuple[float, float, float]
"""of a whole run: 1 if its run time lies in its band, log of p90 over p10, log of p50 over the real one"""
Runs = dict[str, dict[str, list[Sample]]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where records.csv.gz lies")
    records = read(parser.parse_args().folder / "records.csv.gz")
    tables: dict[Target, dict[str, Score]] = {Target.RUN: {}, Target.OUTPUT: {}}
    whole: dict[str, list[Run]] = {}
    spent: list[float] = []
    learning_s = 0.0
    for family, runs in records.items():
        scores: dict[Target, list[Score]] = {target: [] for target in tables}
        learning_s += play(runs, scores, spent)
        whole[family] = list(totals(runs))
        for target, rows in scores.items():
            ape = statistics.median(row[0] for row in rows)
            tables[target][family] = (
                ape,
                *(statistics.fmean(column) for column in list(zip(*rows, strict=True))[1:]),
            )
    for target, table in tables.items():
        show(target, table)
    show_totals(whole)
    n_samples = sum(
        len(tasks) for runs in records.values() for run in runs.values() for tasks in run.values()
    )
    spent.sort()
    print(
        f"\nmicroseconds a prediction: median {spent[len(spent) // 2]:.1f}, p99 {spent[len(spent) * 99 // 100]:.1f}"
    )
    print(f"microseconds to learn a sample (all quantities): {learning_s / n_samples * 1e6:.1f}")


def read(path: Path) -> dict[str, Runs]:
    """Family -> run -> function -> samples, in the order of the file."""
    found: dict[str, Runs] = {}
    with gzip.open(path, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            tasks = (
                found.setdefault(row["family"], {})
                .setdefault(row["run"], {})
                .setdefault(row["function"], [])
            )
            if len(tasks) < FIRST:
                tasks.append(
                    Sample(
                        function=row["function"],
                        name=row["function"],
                        input_bytes=int(float(row["input_bytes"])),
                        output_bytes=int(float(row["output_bytes"])),
                        run_s=float(row["runtime_s"]),
                    )
                )
    return found


def play(runs: Runs, scores: dict[Target, list[Score]], spent: list[float]) -> float:
    """Predict each run, then learn it; returns the seconds learning took."""
    predictor, known, learning_s = Predictor(), set[str](), 0.0
    for run in runs.values():
        for target, sample in ((t, s) for f in run if f in known for s in run[f] for t in scores):
            began = time.thread_time()
            estimate = predictor.predict(target, sample.function, sample.name, sample.input_bytes)
            p50, p90 = estimate.p50, estimate.p90
            spent.append((time.thread_time() - began) * 1e6)
            scores[target].append(score(target, sample, p50, p90))
        began = time.thread_time()
        predictor.learn([sample for tasks in run.values() for sample in tasks])
        learning_s += time.thread_time() - began
        known |= set(run)
    return learning_s


class Learnt:
    """The part of a history that expected_costs asks for: one predictor, nothing of the platform."""

    def __init__(self) -> None:
        self.all = Predictor()

    def predictor(self, names: Iterable[str]) -> Predictor:
        """The predictor, whatever the names."""
        return self.all

    def platform(self, name: str, *, is_agent_gone: bool = False) -> Platform:
        """Defaults."""
        return Platform()


def totals(runs: Runs) -> Iterator[Run]:
    """Predict the run time of each run as a whole, then learn the run."""
    learnt, known = Learnt(), set[str]()
    for run in runs.values():
        tasks = [sample for function in run if function in known for sample in run[function]]
        if tasks:
            yield total(learnt, tasks)
        learnt.all.learn([sample for samples in run.values() for sample in samples])
        known |= set(run)


def total(learnt: Learnt, tasks: Sequence[Sample]) -> Run:
    """One run, without an edge between its tasks."""
    calls = [Call(name=f"{i}", function=sample.name) for i, sample in enumerate(tasks)]
    dag = Dag(tuple(calls), tuple(range(len(calls))))
    costs = expected_costs(
        dag,
        learnt,  # type: ignore[arg-type]  # all of a history that is asked for
        "",
        [sample.function for sample in tasks],
        argument_bytes={i: sample.input_bytes for i, sample in enumerate(tasks)},
    )
    drawn = scenarios(costs, len(tasks), SCENARIOS)
    sums = sorted(sum(scenario.run_s.values()) for scenario in drawn)
    p10, p50, p90 = (quantile(sums, p) for p in (0.1, 0.5, 0.9))
    real = sum(sample.run_s or 0.0 for sample in tasks)
    return float(p10 <= real <= p90), math.log(p90 / p10), math.log(p50 / real)


def show_totals(whole: dict[str, list[Run]]) -> None:
    """One line a family, then the mean over families."""
    print(f"\n{'whole runs':<14}     runs   inside    width p50/real")
    lines = []
    for name, rows in whole.items():
        inside, widths, errors = zip(*rows, strict=True)
        shares = statistics.fmean(inside), statistics.median(widths), statistics.median(errors)
        lines.append(shares)
        print(
            f"{name:<14}{len(rows):>9} {shares[0]:>8.1%} {shares[1]:>8.2f} {math.exp(shares[2]):>8.2f}"
        )
    inside, width, error = (statistics.fmean(column) for column in zip(*lines, strict=True))
    print(f"{'macro':<14}{'':>9} {inside:>8.1%} {width:>8.2f} {math.exp(error):>8.2f}")


def score(target: Target, sample: Sample, p50: float, p90: float) -> Score:
    """Of one prediction. Sizes are told apart from 1 byte on, times from 1 microsecond on."""
    _, real = target.read(sample)
    assert real is not None
    y, low, high = (math.log(max(value + target.plus, target.floor)) for value in (real, p50, p90))
    loss = 0.9 * (y - high) if y > high else 0.1 * (high - y)
    return (
        abs(p50 - real) / max(real, target.floor),
        abs(y - low),
        loss,
        y <= high + 1e-9,
        y <= low + 1e-9,
    )


def show(target: Target, table: dict[str, Score]) -> None:
    """One line a family, then the mean over families."""
    print(f"\n{target.value:<14}" + "".join(f"{column:>9}" for column in COLUMNS))
    macro = tuple(statistics.fmean(column) for column in zip(*table.values(), strict=True))
    for name, row in lines({**table, "macro": macro}):
        print(f"{name:<14}{row}")


def lines(table: dict[str, Score]) -> Iterator[tuple[str, str]]:
    """Percent for shares, three places for losses."""
    for name, (ape, error, pinball, cov90, cov50) in table.items():
        yield name, f"{ape:>8.1%} {error:>8.3f} {pinball:>8.3f} {cov90:>8.1%} {cov50:>8.1%}"


if __name__ == "__main__":
    main()
