"""Bytes per task, and seconds to build, plan, lay out, submit and run large graphs of functions that do nothing."""

from __future__ import annotations

import argparse
import itertools
import time

import shapes

import dagnb
from dagnb.graph.dag import Dag
from dagnb.graph.payload import Signer
from dagnb.protocol import program


def main() -> None:
    """Print one line a graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="process")
    workers = parser.parse_args().workers
    sized("chain of 1,000", shapes.chain(1_000))
    sized("fan-out of 999, fan-in", shapes.fan(999))
    shapes.chain(1).run(workers=workers).result(60)  # agent, server and nursery are up
    timed("chain of 5,000", lambda: shapes.chain(5_000), 5_000, workers)
    timed("fan-out of 10,000, fan-in", lambda: shapes.fan(10_000), 50_005_000, workers)


def sized(name: str, node: object) -> None:
    """Bytes of the DAG beyond its arguments."""
    plan = dagnb.plan(node)  # type: ignore[arg-type]  # a node
    made = program.build(plan, "0" * 26, Signer(b"k" * 32), cap=2)
    n = len(plan.steps)
    print(f"{name}: {made.n_bytes} bytes, {made.n_bytes / n:.1f} a task with its arguments")


def timed(name: str, build, want: int, workers: str) -> None:  # type: ignore[no-untyped-def]  # a thunk
    """Seconds of each stage."""
    marks = [time.perf_counter()]
    node = build()
    marks.append(time.perf_counter())
    dag = Dag.of(node)
    plan = dagnb.plan(node, workers=workers)
    marks.append(time.perf_counter())
    run = dagnb.run(node, workers=workers)
    marks.append(time.perf_counter())
    value = run.result(300)
    marks.append(time.perf_counter())
    assert value == want, (value, want)
    build_s, plan_s, submit_s, wait_s = (b - a for a, b in itertools.pairwise(marks))
    trace = run.trace
    print(
        f"{name}: {len(dag)} tasks: build {build_s:.2f} s, plan {plan_s:.2f} s ({plan.planner}), "
        f"plan again + lay out + submit + launch {submit_s:.2f} s, run to result {wait_s:.2f} s; "
        f"makespan {trace.makespan_s:.2f} s, "
        f"{trace.makespan_s / len(dag) * 1e6:.0f} us a task, {len(trace.workers)} workers"
    )
    run.forget()


if __name__ == "__main__":
    main()
