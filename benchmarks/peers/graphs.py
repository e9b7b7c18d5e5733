"""The rows of `overhead.py`: graphs of tasks that do nothing, little, or move large values.

Every repetition gets a graph of its own, with other values where the client gives large ones: a
system that keeps contents under their hash would otherwise upload them in the warm-up only.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import tasks
from benchmarks.peers.system import Builder, Given, Graph, Ref

MEGABYTES = 50
NUMBERS = MEGABYTES * 131_072
"""float64 numbers in so many MB"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    build: repetition -> graph. aim_s: seconds that dagnb is meant to reach on two cores.
    n_tasks: 0 where an average a task says nothing. is_cold: the first repetition, which imports what
    the tasks need, is a figure of its own.
    """

    name: str
    title: str
    build: Callable[[int], Graph]
    aim_s: float
    aim_cold_s: float | None = None
    n_tasks: int = 0
    moves_arrays: bool = False
    shows_memory: bool = False
    is_cold: bool = False


def chain(repetition: int) -> Graph:
    """1,000 increments, one after the other."""
    make = Builder()
    last = make.call(tasks.increment, 0)
    for _ in range(999):
        last = make.call(tasks.increment, last)
    return make.graph(1_000)


def fan(width: int) -> Graph:
    """A task, `width` tasks that read it, and one that reads them all."""
    make = Builder()
    source = make.call(tasks.noop)
    make.call(tasks.noop, *[make.call(tasks.noop, source) for _ in range(width)])
    return make.graph(None)


def bipartite(repetition: int) -> Graph:
    """100 tasks, each read by each of 100 others."""
    make = Builder()
    upper = [make.call(tasks.noop) for _ in range(100)]
    lower = [make.call(tasks.noop, *upper) for _ in range(100)]
    make.call(tasks.noop, *lower)
    return make.graph(None)


def tree(add: Callable[[float, float], float]) -> Graph:
    """1,024 numbers, added in pairs by 1,023 tasks."""
    make = Builder()
    level: list[float | Ref] = [float(number) for number in range(1_024)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [make.call(add, left, right) for left, right in pairs]
    return make.graph(float(1_023 * 1_024 // 2))


def matrices(repetition: int) -> Graph:
    """The sum of a product of two matrices of 2,000 x 2,000, in 4 x 4 blocks."""
    n_blocks, size = 4, 500
    make, sides = Builder(), range(n_blocks)
    left, right = {}, {}
    for i in sides:
        for j in sides:
            left[i, j] = make.call(tasks.block, i * n_blocks + j, size)
            right[i, j] = make.call(tasks.block, 100 + i * n_blocks + j, size)

    blocks = []
    for i in sides:
        for j in sides:
            products = [make.call(tasks.multiply, left[i, k], right[k, j]) for k in sides]
            blocks.append(make.call(tasks.total_of, *products))
    make.call(tasks.grand_total, *blocks)
    return make.graph(_matrix_total(n_blocks, size), approximately=True)


def _matrix_total(n_blocks: int, size: int) -> float:
    """Returns the sum of all entries of the product, from column sums and row sums."""
    total, sides = 0.0, range(n_blocks)
    for k in sides:
        columns = sum(tasks.block(i * n_blocks + k, size).sum(axis=0) for i in sides)
        rows = sum(tasks.block(100 + k * n_blocks + j, size).sum(axis=1) for j in sides)
        total += float(columns @ rows)
    return total


def array_chain(repetition: int) -> Graph:
    """An array of 50 MB, made by one task, changed by nine more, and its sum."""
    make = Builder()
    last = make.call(tasks.ones, MEGABYTES)
    for _ in range(9):
        last = make.call(tasks.plus_one, last)
    make.call(tasks.array_sum, last)
    return make.graph(10.0 * NUMBERS)


def array_fan(repetition: int) -> Graph:
    """An array of 50 MB, made by one task and read by eight."""
    make = Builder()
    source = make.call(tasks.ones, MEGABYTES)
    make.call(tasks.total_of, *[make.call(tasks.array_sum, source) for _ in range(8)])
    return make.graph(8.0 * NUMBERS)


def array_of_client(repetition: int) -> Graph:
    """An array of 50 MB of the client's, read by eight tasks."""
    import numpy as np  # noqa: PLC0415  # the other rows need it on workers only

    number, make = float(repetition + 2), Builder()
    array = Given(np.full(NUMBERS, number))
    make.call(tasks.total_of, *[make.call(tasks.array_sum, array) for _ in range(8)])
    return make.graph(8.0 * number * NUMBERS)


def word_count(repetition: int) -> Graph:
    """The words of Python's own sources, in 16 chunks, counted and merged in pairs."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = "".join(file.read_text("utf-8", "replace") for file in sorted(folder.glob("*.py")))
    lines, n_chunks = text.split("\n"), 16
    make, n_words = Builder(), 0
    level = []
    for i in range(n_chunks):
        part = lines[i * len(lines) // n_chunks : (i + 1) * len(lines) // n_chunks]
        chunk = "\n".join([*part, f"repetition-{repetition}"])
        n_words += len(chunk.split())
        level.append(make.call(tasks.words, chunk))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [make.call(tasks.merge, left, right) for left, right in pairs]
    make.call(tasks.count, level[0])
    return make.graph(n_words)


def grid(width: int, depth: int) -> Graph:
    """`depth` levels of `width` tasks; each reads two of the level before; one reads the last."""
    make = Builder()
    level = [make.call(tasks.noop) for _ in range(width)]
    for _ in range(depth - 1):
        beside = [*level[1:], level[0]]
        level = [make.call(tasks.noop, *pair) for pair in zip(level, beside, strict=True)]
    make.call(tasks.noop, *level)
    return make.graph(None)


def one(repetition: int) -> Graph:
    """A task that does nothing."""
    make = Builder()
    make.call(tasks.noop)
    return make.graph(None)


FIRST = "first"
"""name of the row that is measured from before the system starts, in a process of its own"""

ROWS = (
    Row(name="chain", title="chain of 1,000 no-ops", build=chain, aim_s=0.12, n_tasks=1_000),
    Row(
        name="fan1000",
        title="fan-out/in 1,000",
        build=lambda _: fan(1_000),
        aim_s=0.12,
        n_tasks=1_002,
    ),
    Row(
        name="fan10000",
        title="fan-out/in 10,000",
        build=lambda _: fan(10_000),
        aim_s=0.9,
        n_tasks=10_002,
    ),
    Row(name="bipartite", title="bipartite 100 x 100", build=bipartite, aim_s=0.08, n_tasks=201),
    Row(
        name="tree",
        title="tree of 1,024, no-op",
        build=lambda _: tree(tasks.add),
        aim_s=0.12,
        n_tasks=1_023,
    ),
    Row(
        name="busy",
        title="tree of 1,024 x 5 ms busy",
        build=lambda _: tree(tasks.add_busy),
        aim_s=2.85,
        n_tasks=1_023,
    ),
    Row(name="matrices", title="matrix product 2000, 4 x 4 blocks", build=matrices, aim_s=0.40),
    Row(
        name="chain50mb",
        title="50 MB along 10 tasks",
        build=array_chain,
        aim_s=0.12,
        moves_arrays=True,
    ),
    Row(
        name="fan50mb",
        title="50 MB to 8 readers",
        build=array_fan,
        aim_s=0.07,
        moves_arrays=True,
    ),
    Row(
        name="client50mb",
        title="50 MB from the client to 8 tasks",
        build=array_of_client,
        aim_s=0.07,
        moves_arrays=True,
    ),
    Row(name="words", title="word count, 16 chunks", build=word_count, aim_s=0.28),
    Row(
        name="grid",
        title="100,001 no-ops (peak memory of the client)",
        build=lambda _: grid(1_000, 100),
        aim_s=8.0,
        n_tasks=100_001,
        shows_memory=True,
    ),
    Row(name=FIRST, title="nothing to first result", build=one, aim_s=0.35),
)
