"""The parts of the time of one task of dagnb, on a fan-out of 10,000 tasks that do nothing.

Four views of the same run: the client's clock from the first `@task` call to the value; CPU by
process, the server's split into scripts and the rest; the workers' own spans, by phase; and what
the server counted. Of three runs, the one in the middle is shown.

The server measures its scripts by the clock on the wall, so on a busy machine their share of the
CPU is too large.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from dagnb_workers.agent.client import store_url

from benchmarks.peers import tasks, usage
from benchmarks.peers.clock import limited
from benchmarks.peers.dagnb_runs import DagnbRuns
from benchmarks.peers.graphs import fan
from benchmarks.peers.system import as_in_a_notebook
from benchmarks.peers.table import markdown
from dagnb import session
from dagnb.trace.trace import STARTING, Phase, Trace

RUNS = 3
LIMIT_S = 120.0
NOT_OF_TASKS = frozenset((*STARTING, Phase.SUBMIT, Phase.RETURN, Phase.QUEUE))
"""phases in which no worker is busy with a task"""
SHOWN = 10
"""commands in the last line"""


@dataclass(frozen=True, kw_only=True)
class Account:
    """One run. at: moment -> epoch seconds, in order. counted: change of the server's counters."""

    at: dict[str, float]
    trace: Trace
    cpu_s: dict[str, float]
    counted: dict[str, float]
    peak_bytes: int

    @property
    def total_s(self) -> float:
        """Seconds from the first call to the value."""
        moments = list(self.at.values())
        return moments[-1] - moments[0]


def main() -> None:
    """Print the four tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--workers", default="process", choices=("process", "docker"))
    chosen = parser.parse_args()
    as_in_a_notebook(tasks)
    system = DagnbRuns(workers=chosen.workers)
    try:
        system.run(fan(100))
        server = redis.Redis.from_url(session.wait(store_url()))
        accounts = [account_of(system, server, chosen.width) for _ in range(RUNS)]
        ping_us = bare_round_trip_us(server)
        server.close()
    finally:
        system.close()
    middle = sorted(accounts, key=lambda account: account.total_s)[RUNS // 2]
    report(middle, chosen.width + 2, ping_us)


def account_of(system: DagnbRuns, server: redis.Redis, width: int) -> Account:
    """Returns the account of one run of a fan-out."""
    graph = fan(width)
    system.tidy()
    before, memory = counters(server), int(server.info("memory")["used_memory"])
    roots, begin_at = system.roots(), time.time()
    cpu_before = _cpu_s(roots)
    with limited(LIMIT_S):
        run = system.start(graph)
        started_at = time.time()
        run.result(LIMIT_S)
        ended_at = time.time()
    cpu_after = _cpu_s(roots)
    after, peak = counters(server), int(server.info("memory")["used_memory_peak"])

    trace = run.trace
    first_at = min(span.begin_s for span in trace.spans if span.phase is Phase.RUN)
    return Account(
        at={
            "": begin_at,
            "make the nodes, check, plan, pickle, submit": trace.submitted_s,
            "until the first function begins": first_at,
            "until the last task is committed": trace.finished_s,
            "until the client has the value": ended_at,
        },
        trace=trace,
        cpu_s={
            "run() returned after": started_at - begin_at,
            **{role: cpu_s - cpu_before.get(role, 0.0) for role, cpu_s in cpu_after.items()},
        },
        counted={name: number - before.get(name, 0.0) for name, number in after.items()},
        peak_bytes=peak - memory,
    )


def _cpu_s(roots: dict[str, int]) -> dict[str, float]:
    return usage.cpu_by_role(os.getpid(), roots, usage.processes()) if usage.is_known() else {}


def counters(server: redis.Redis) -> dict[str, float]:
    """Returns the server's counters: reads, bytes, and calls of each command; 'lua_us' of scripts."""
    stats: Any = server.info("stats")
    commands: Any = server.info("commandstats")
    values = {
        "reads": float(stats["total_reads_processed"]),
        "in_bytes": float(stats["total_net_input_bytes"]),
        "out_bytes": float(stats["total_net_output_bytes"]),
        "lua_us": 0.0,
    }
    for name, numbers in commands.items():
        command = name.removeprefix("cmdstat_")
        values[f"calls {command}"] = float(numbers["calls"])
        if command.startswith("fcall"):
            values["lua_us"] += float(numbers["usec"])
    return values


def bare_round_trip_us(server: redis.Redis) -> float:
    """Returns the median microseconds of a PING of this client."""
    took = []
    for _ in range(2_000):
        begin_s = time.perf_counter()
        server.ping()
        took.append(time.perf_counter() - begin_s)
    return statistics.median(took) * 1e6


# ---- the tables ----


def report(account: Account, n_tasks: int, ping_us: float) -> None:
    """Print one table a view, microseconds a task."""
    print(f"{n_tasks} tasks in {account.total_s:.2f} s; all figures are microseconds a task\n")
    for heading, parts in (
        ("the client's clock", clock_parts(account)),
        ("CPU", cpu_parts(account)),
        ("time of workers, all of them together", phase_parts(account)),
    ):
        lines = [[name, f"{part_s / n_tasks * 1e6:.1f}"] for name, part_s in parts.items()]
        lines.append(["together", f"{sum(parts.values()) / n_tasks * 1e6:.1f}"])
        print(markdown([heading, "us"], lines) + "\n")

    counted = account.counted
    calls = {name: n for name, n in counted.items() if name.startswith("calls ") and n > 0}
    n_scripts = sum(n for name, n in calls.items() if name.startswith("calls fcall"))
    print(f"round trips (reads of the server) {counted['reads'] / n_tasks:.3f} a task")
    print(
        f"script calls {n_scripts / n_tasks:.3f} a task, "
        f"{counted['lua_us'] / max(1.0, n_scripts):.0f} us of Lua each; "
        f"a bare PING of redis-py takes {ping_us:.0f} us"
    )
    print(
        f"bytes a task: {counted['in_bytes'] / n_tasks:.0f} to the server, "
        f"{counted['out_bytes'] / n_tasks:.0f} from it, "
        f"{account.peak_bytes / n_tasks:.0f} in its memory at the peak"
    )
    most = sorted(calls.items(), key=lambda pair: -pair[1])[:SHOWN]
    shown = [f"{name.removeprefix('calls ')} {n / n_tasks:.2f}" for name, n in most]
    print(f"commands a task, those of scripts included: {', '.join(shown)}")


def clock_parts(account: Account) -> dict[str, float]:
    """Returns the parts of the client's wall time, seconds."""
    moments = list(account.at.items())
    parts = {}
    for (_, begin_at), (name, end_at) in itertools.pairwise(moments):
        parts[name] = end_at - begin_at
    return parts


def cpu_parts(account: Account) -> dict[str, float]:
    """Returns CPU seconds by process; the server's in two."""
    cpu_s, lua_s = account.cpu_s, account.counted["lua_us"] / 1e6
    return {
        "client": cpu_s.get("client", 0.0),
        "workers, supervisor, agent": cpu_s.get("workers", 0.0),
        "server: Lua": lua_s,
        "server: sockets, parsing, the rest": max(0.0, cpu_s.get("store", 0.0) - lua_s),
    }


def phase_parts(account: Account) -> dict[str, float]:
    """Returns seconds of workers by phase, from the first function to the last commit.

    The commit of a batch is a span of each of its tasks, so time is counted once where spans of a
    worker and a phase lie over one another.
    """
    trace = account.trace
    parts: dict[str, float] = {}
    for phase in Phase:
        if phase in NOT_OF_TASKS:
            continue
        for spans in trace.by_worker.values():
            times = [(span.begin_s, span.end_s) for span in spans if span.phase is phase]
            parts[phase.value] = parts.get(phase.value, 0.0) + covered_s(times)
    first_at = account.at["until the first function begins"]
    working_s = len(trace.workers) * (trace.finished_s - first_at)
    parts["between spans, and waiting"] = working_s - sum(parts.values())
    return parts


def covered_s(times: Sequence[tuple[float, float]]) -> float:
    """Returns the seconds that lie in at least one of these times from begin to end."""
    seconds, last = 0.0, -math.inf
    for begin_s, end_s in sorted(times):
        seconds += max(0.0, end_s - max(begin_s, last))
        last = max(last, end_s)
    return seconds


if __name__ == "__main__":
    main()
