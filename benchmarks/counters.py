"""Redis commands, script calls and round trips per task, counted by the server itself (INFO), not by us.

A round trip is what the server read from a socket: `total_reads_processed`. The submission, heartbeats,
registrations and the client's looks at the run are in the totals too; script calls are counted apart.
"""

from __future__ import annotations

import argparse
from typing import Any

import redis
import shapes

import dagnb
from dagnb import session
from dagnb.graph.task import Node


def main() -> None:
    """Print a table a graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000)
    n = parser.parse_args().tasks
    settings = session.settings()
    url = session.wait(_url(settings))
    server = redis.Redis.from_url(url)
    shapes.chain(1).run().result(60)  # agent, server and nursery are up
    measure(f"chain of {n}", lambda: shapes.chain(n), n, server)
    measure(f"fan-out of {n}, fan-in", lambda: shapes.fan(n), n + 1, server)


async def _url(settings: session.Settings) -> str:
    _, terms = await session.store_for(settings, settings.launcher())
    return terms.url


def measure(name: str, build: Any, n_tasks: int, server: redis.Redis) -> None:
    """Counters before, a run, counters after."""
    node: Node[Any] = build()
    before, calls_before = server.info("stats"), server.info("commandstats")
    run = dagnb.run(node)
    run.result(120)
    after, calls_after = server.info("stats"), server.info("commandstats")
    reads = after["total_reads_processed"] - before["total_reads_processed"]
    calls = {
        command.removeprefix("cmdstat_"): stats["calls"]
        - calls_before.get(command, {"calls": 0})["calls"]
        for command, stats in calls_after.items()
    }
    scripts = calls.get("fcall", 0)
    used = sum(
        calls_after[c]["usec"] - calls_before.get(c, {"usec": 0})["usec"]
        for c in calls_after
        if "fcall" in c
    )
    commits = len([event for event in run.look().events if event.kind == "done"])
    print(f"{name}: {n_tasks} tasks, {commits} commits, makespan {run.trace.makespan_s:.3f} s")
    each_us = used / max(1, scripts)
    shown = sorted(((c, k) for c, k in calls.items() if k), key=lambda pair: -pair[1])[:14]
    print(f"  round trips (reads of the server): {reads} = {reads / n_tasks:.3f} a task")
    print(
        f"  script calls: {scripts} = {scripts / n_tasks:.3f} a task, {each_us:.0f} us each on the server"
    )
    print(
        "  commands, inside scripts too: "
        + ", ".join(f"{c} {k / n_tasks:.2f}" for c, k in shown)
        + " a task"
    )
    run.forget()


if __name__ == "__main__":
    main()
