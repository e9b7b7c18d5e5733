"""The cost of isolation to a task: the worker does not show in it, nor the task in the next one.

Microseconds a task, of one process without a store: stopping the loop for a call, looking at all a
task could have changed (aspect by aspect), looking for threads; and beside them the cost of an
audit hook in the user's own code, for ever, since a hook cannot be taken off again.
"""

from __future__ import annotations

import subprocess
import sys
import timeit
from collections.abc import Callable
from typing import Any

from dagnb_workers.surroundings import left_behind
from dagnb_workers.surroundings.aspects import of_process
from dagnb_workers.surroundings.isolation import Isolation
from dagnb_workers.surroundings.output import opened

from dagnb.graph.context import TaskContext

N = 200
TIMES = 300
"""many short measurements, of which the shortest counts: other processes interrupt few of them"""
HERE = TaskContext(run="r", task="nothing-0", attempt=1, seed=0, worker="~/1")
CALL: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


def nothing() -> None:
    """The task."""


def took_us(act: Callable[[], object], n: int = N) -> float:
    return min(timeit.repeat(act, number=n, repeat=TIMES)) / n * 1e6


def row(what: str, us: float, note: str = "") -> None:
    print(f"{what:64} {us:8.2f}  {note}".rstrip())


HOOKED = """
import copy, logging, sys, timeit
if sys.argv[1] == "hook":
    events = {"os.chdir", "os.putenv", "os.unsetenv"}
    sys.addaudithook(lambda event, args: event in events)
value = [[i] for i in range(100)]
log = logging.getLogger("x")
log.addHandler(logging.NullHandler())
log.propagate = False
acts = lambda: copy.deepcopy(value), lambda: log.warning("x"), lambda: open("/dev/null").close()
for act in acts:
    print(min(timeit.repeat(act, number=50, repeat=300)) / 50 * 1e6)
"""


def hooked(how: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", HOOKED, how], capture_output=True, text=True, check=True
    )
    return [float(line) for line in done.stdout.split()]


def main() -> None:
    print(f"{'microseconds a task where nothing changed':64} {'us':>8}")
    isolation = Isolation(of_process(opened))
    isolation.around(nothing)
    plain = took_us(nothing)
    row(
        "looking at all aspects, as after each task",
        took_us(lambda: isolation.around(nothing)) - plain,
    )
    row(
        "looking for threads, as before and after each task",
        took_us(lambda: left_behind.around(nothing, "x")) - plain,
    )
    print("\nthe aspects")
    for aspect in of_process(opened):
        look, kept = aspect.look, aspect.keep()
        if look is not None:
            row(f"  {aspect.name}", took_us(look))
            continue
        row(
            f"  {aspect.name}",
            took_us(lambda aspect=aspect, kept=kept: aspect.restore(kept)),
            "put back, no look",
        )
    print(
        "\nwhat an audit hook for the environment would cost the user's code instead: without, with"
    )
    for what, without, hook in zip(
        ("copy.deepcopy of 100 lists", "a log record that nobody takes", "open and close a file"),
        hooked("none"),
        hooked("hook"),
        strict=True,
    ):
        row(f"  {what}", without, f"{hook:.2f}  {hook / without:.1f} times")


if __name__ == "__main__":
    main()
