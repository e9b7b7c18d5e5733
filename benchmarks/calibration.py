"""How well plans come true: plan, replay and real makespan of real runs, after some runs of learning.

    python benchmarks/calibration.py [--workers process docker] [--workflows fan arrays] [--runs 10] [--scale 1.0]

Six workflows of unlike shape do real work (hashing, sorting, compressing) on arguments that differ from task to task:
one fails and tries again, one moves values of 1 to 10 MB, one has functions with two modes.
Everything a run teaches is kept in a home of its own, so nothing is known at the beginning.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import Any

from dagnb import task
from dagnb.forecast.makespans import Makespans
from dagnb.graph.task import Node

LIMIT_S = 300.0


@task
def digest(seed: int, rounds: int) -> bytes:
    """Hashes a megabyte again and again: steady arithmetic."""
    data = bytes([seed % 251]) * 2**20
    for _ in range(rounds):
        data = hashlib.sha256(data).digest() * 2**15
    return data[:64]


@task
def table(seed: int, n: int) -> list[float]:
    """n random numbers, sorted: allocates, and gives a value of about 9 n bytes."""
    chance = random.Random(seed)
    return sorted(chance.random() for _ in range(n))


@task
def merge(left: list[float], right: list[float]) -> list[float]:
    """Both tables in one, by Python's own sort, several times over."""
    joined: list[float] = []
    for _ in range(6):
        joined = sorted(right + left)
    return joined


@task
def squeeze(values: list[float], level: int) -> bytes:
    """The table as compressed text."""
    return zlib.compress(repr(values).encode(), level)


@task
def gather(parts: list[bytes]) -> int:
    """How many bytes there are in all."""
    return sum(map(len, parts))


def fan(scale: float) -> Node[int]:
    """32 independent tasks of 0.3 to 1.5 s, then one."""
    return gather([digest(i, int(scale * (250 + 40 * (i * 7 % 24)))) for i in range(32)])


def tree(scale: float) -> Node[int]:
    """16 tables, merged pair by pair: values grow towards the root."""
    level: list[Any] = [table(i, int(scale * (120_000 + 15_000 * (i % 5)))) for i in range(16)]
    while len(level) > 1:
        level = [merge(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return gather([squeeze(level[0], 6)])


def mesh(scale: float) -> Node[int]:
    """Six uneven chains beside each other, joined twice on the way."""
    packed = [squeeze(table(i, int(scale * (220_000 + 60_000 * i))), 4 + i % 4) for i in range(6)]
    halves = [gather(packed[:3]), gather(packed[3:])]
    sums = [digest(i, int(scale * (1_600 + 300 * (i % 4)))) for i in range(8)]
    pairs = [(int(scale * 300_000), int(scale * (200_000 + 40_000 * i))) for i in range(4)]
    merged = [
        merge(table(20 + i, left), table(30 + i, right)) for i, (left, right) in enumerate(pairs)
    ]
    return total(*halves, *merged, *sums)


@task
def total(*values: Any) -> int:
    """The last word of the mesh."""
    return sum(v if isinstance(v, int) else len(v) for v in values)


@task(retries=4)
def unreliable(seed: int, rounds: int) -> bytes:
    """Hashes, and then fails in one of four attempts."""
    data = digest.function(seed, rounds)
    if os.urandom(1)[0] < 64:
        raise ConnectionError("the line was cut")
    return data


def retried(scale: float) -> Node[int]:
    """16 tasks of which each fourth attempt fails, joined, then 8 more."""
    first = [unreliable(i, int(scale * (200 + 25 * (i % 5)))) for i in range(16)]
    joined = gather(first)
    return total(joined, *[unreliable_after(joined, i, int(scale * 300)) for i in range(8)])


@task(retries=4)
def unreliable_after(_: int, seed: int, rounds: int) -> bytes:
    """Does what `unreliable` does, after another task."""
    return unreliable.function(seed, rounds)


@task
def block(seed: int, n_bytes: int) -> bytes:
    """Makes so many bytes that do not compress, and hashes them ten times."""
    data = random.Random(seed).randbytes(n_bytes)
    for _ in range(10):
        hashlib.sha256(data).digest()
    return data


@task
def mixed(*blocks: bytes) -> bytes:
    """One block of the size of the first, from all."""
    joined = b"".join(blocks)
    packed = zlib.compress(joined, 1)
    return packed[: len(blocks[0])]


def arrays(scale: float) -> Node[int]:
    """Twelve values of 1 to 10 MB, each read by three tasks, in two rounds."""
    level: list[Any] = [block(i, int(scale * 1e6 * (1 + 9 * (i * 5 % 12) / 11))) for i in range(12)]
    for _ in range(2):
        level = [mixed(level[i], level[(i + 1) % 12], level[(i + 5) % 12]) for i in range(12)]
    return gather(level)


@task
def found_or_made(seed: int, rounds: int) -> bytes:
    """Hashes a tenth of the rounds in six of ten calls, as one does that finds a file there."""
    return digest.function(seed, rounds // 10 if os.urandom(1)[0] < 154 else rounds)


def modes(scale: float) -> Node[int]:
    """40 tasks of a function with two modes, then one."""
    return gather([found_or_made(i, int(scale * 600)) for i in range(40)])


WORKFLOWS: dict[str, Callable[[float], Node[int]]] = {
    "fan": fan,
    "tree": tree,
    "mesh": mesh,
    "retried": retried,
    "arrays": arrays,
    "modes": modes,
}


def calibrate(
    workers: str, workflows: list[str], learn: int, runs: int, planner: str, scale: float
) -> list[tuple[str, list[Makespans]]]:
    """The makespans of each workflow on these workers."""
    found = []
    for name in workflows:
        kept = []
        for number in range(learn + runs):
            run = WORKFLOWS[name](scale).run(workers=workers, planner=planner)
            run.result(LIMIT_S)
            spans = run.makespans
            run.forget()
            what = "learns" if number < learn else "counts"
            plan_s = spans.plan_s if spans.plan_s is not None else float("nan")
            told = f"plan {plan_s:6.2f} replay {spans.replay_s:6.2f} real {spans.real_s:6.2f}"
            print(
                f"  {workers:8} {name:7} {number:2} {what}  {told}  in band {spans.in_band}",
                file=sys.stderr,
                flush=True,
            )
            if number >= learn:
                kept.append(spans)
        found.append((name, kept))
    return found


def line(workers: str, name: str, kept: list[Makespans]) -> str:
    """Medians and worst cases."""
    model = [abs(m.real_s - m.replay_s) / m.real_s for m in kept]
    plan = [abs(m.real_s - (m.plan_s or 0.0)) / m.real_s for m in kept]
    real = statistics.median(m.real_s for m in kept)
    inside = sum(bool(m.in_band) for m in kept)
    return (
        f"{workers:8} {name:7} real {real:6.2f} s   |real - replay| / real  median {statistics.median(model):6.2%}"
        f" worst {max(model):6.2%}   |plan - real| / real  median {statistics.median(plan):6.2%} worst {max(plan):6.2%}"
        f"   in the 80 % band {inside} of {len(kept)}"
    )


def main() -> None:
    """Print a line a workflow and platform, and one over all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", nargs="+", default=["process"])
    parser.add_argument("--learn", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--planner", default="heft")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="so many times the work, for a quicker machine"
    )
    parser.add_argument("--workflows", nargs="+", default=list(WORKFLOWS), choices=list(WORKFLOWS))
    asked = parser.parse_args()
    began = time.monotonic()
    every = []
    with tempfile.TemporaryDirectory(prefix="dagnb") as home:
        os.environ["DAGNB_HOME"] = home
        try:
            for workers in asked.workers:
                for name, kept in calibrate(
                    workers, asked.workflows, asked.learn, asked.runs, asked.planner, asked.scale
                ):
                    print(line(workers, name, kept), flush=True)
                    every += kept
        finally:
            subprocess.run([sys.executable, "-m", "dagnb", "agent", "--stop"], check=False)
    print(line("all", "", every))
    print(
        f"planner {asked.planner}, {asked.learn} runs of learning, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
