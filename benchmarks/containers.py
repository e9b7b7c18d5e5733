"""Containers: starts against a bare `docker run`, hand-overs against a bare message, many tasks against processes.

Cold and bare starts alternate, so that both meet the same machine. Needs a Docker engine; the first run builds an
image.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: `docker` must be the SDK, not this program

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dagnb_workers import Docker, Processes
from dagnb_workers.agent.client import store_url
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.settings import store_access
from dagnb_workers.launchers.docker.spec import create_arguments

import dagnb
from dagnb import client, session, task
from dagnb.graph.task import Node
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Problem
from dagnb.trace.trace import STARTING, Phase, Trace

PYTHON = "/opt/dagnb/env/bin/python"

ECHO = """
import sys, time, redis
store = redis.Redis.from_url(sys.argv[1], socket_timeout=None)
store.lpush("dagnb:bench:back", "ready")
while store.blpop("dagnb:bench:there")[1] != b"end":
    store.lpush("dagnb:bench:back", repr(time.time()))
"""


@task
def moment() -> float:
    """When its first line ran."""
    return time.time()


@task
def spine(before: Any, wait_s: float) -> float:
    """A task that gives others work while it goes on itself."""
    time.sleep(wait_s)
    return time.time()


@task
def rib(before: Any) -> float:
    """When its first line ran."""
    return time.time()


@task
def busy(number: int, ms: float) -> int:
    """So many milliseconds of work."""
    end = time.perf_counter() + ms / 1e3
    while time.perf_counter() < end:
        pass
    return number


@task
def kept(values: list[Any]) -> list[Any]:
    """All of them."""
    return values


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """spine on worker w0, rib on w1: each hand-over goes to a worker that waits in another container."""

    name: ClassVar[str] = "pinned"

    def plan(self, problem: Problem) -> Plan:
        """One pinned step a task."""
        calls = problem.dag.calls
        steps = tuple(
            Step(
                task=i, upstream=call.upstream, worker="w1" if call.function == "rib" else "w0",
                resources=call.options.needs, priority=i,
            )
            for i, call in enumerate(calls)
        )  # fmt: skip
        return Plan(dag=problem.dag, steps=steps, planner=self.name)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=15, help="cold starts, and as many bare ones")
    parser.add_argument("--messages", type=int, default=200)
    options = parser.parse_args()
    warm = Docker(cap=2, cpus=1, memory_mb=256, idle_s=600)
    moment().run(workers=warm).result(600)  # image, agent and server are there
    image = client.workers(workers=warm)[0].made_of
    starts(options.starts, image)
    hand_overs(options.messages, warm, image)
    many(warm)


# ---- starts ----


def starts(n: int, image: str) -> None:
    """A cold start, asked for until registered, against `docker run ... python -c pass`; one of each in turn."""
    cold: list[dict[Phase, float]] = []
    bare, warm, process = [], [], []
    for i in range(n):
        launcher = Docker(
            cap=1, memory_mb=256, idle_s=0.0, environment={"N": str(i)}
        )  # another spec: never warm
        cold.append(phases(traced(moment().run(workers=launcher))))
        bare.append(timed(lambda: run_bare(image)))
    lasting = Docker(cap=1, memory_mb=256, idle_s=60)
    for _ in range(n + 1):
        warm.append(sum(phases(traced(moment().run(workers=lasting))).values()))
        process.append(sum(phases(traced(moment().run(workers=Processes(n=1)))).values()))
    wholes = [sum(each.values()) for each in cold]
    print(f"bare docker run, python -c pass      {spread(bare)}")
    print(
        f"cold start, asked until registered   {spread(wholes)}   {ratio(wholes, bare)} times the bare one"
    )
    for phase in STARTING:
        print(f"    {phase:<32} {spread([each.get(phase, 0.0) for each in cold])}")
    print(f"warm start                           {spread(warm[1:])}   {ratio(warm[1:], bare)}")
    print(
        f"start of a process worker            {spread(process[1:])}   {ratio(process[1:], bare)}"
    )


def run_bare(image: str) -> None:
    """What a container with our limits costs by itself."""
    flags = [
        "--network",
        "none",
        "--log-driver",
        "none",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--user",
        "65534:65534",
    ]
    limits = ["--memory", "256m", "--cpus", "1", "--pids-limit", "256", "--tmpfs", "/tmp"]
    command = [
        "docker",
        "run",
        "--rm",
        *flags,
        *limits,
        "--entrypoint",
        PYTHON,
        image,
        "-c",
        "pass",
    ]
    subprocess.run(command, check=True)


def traced(run: Any) -> Trace:
    """Its trace when it is over."""
    run.result(120)
    trace: Trace = run.trace
    return trace


def phases(trace: Trace) -> dict[Phase, float]:
    """Seconds of each phase of the first start."""
    return {
        phase: next((s.duration_s for s in trace.spans if s.phase is phase), 0.0)
        for phase in STARTING
    }


# ---- hand-overs ----


def hand_overs(n: int, launcher: Docker, image: str) -> None:
    """From 'ready' in the store to the function's first line in another container, against a bare message."""
    session.wait(launcher.prewarm(dagnb.Resources(), 2))
    node: Node[float] = spine(0, 0.3)  # till both have begun
    ribs = [rib(node)]
    for _ in range(n):
        node = spine(node, 0.005)
        ribs.append(rib(node))
    run = kept(ribs).run(workers=launcher, planner=Pinned())
    begun, handed = run.result(120), []
    for index in range(n // 10, n):
        first = run.trace.names.index(f"rib-{index}")
        spans = {span.phase: span for span in run.trace.of_task(first)}
        if Phase.QUEUE in spans:
            handed.append(begun[index] - spans[Phase.QUEUE].begin_s)
    sent = messages(n, image)
    print(f"bare message to a container          {spread(sent)}   one way, LPUSH to BLPOP")
    print(
        f"ready until the function's 1st line  {spread(handed)}   {ratio(handed, sent)} times the bare message"
    )


def messages(n: int, image: str) -> list[float]:
    """Seconds from LPUSH on this side until a client in a container has it."""
    import redis  # noqa: PLC0415  # the bare thing, for once

    url = session.wait(store_url())
    place = store_access(url)
    terms = create_arguments(_spec(image, place.mounts), "dagnb-bench-echo", {})
    container = connect().containers.create(**terms, entrypoint=[PYTHON, "-c", ECHO, place.url])
    container.start()
    store = redis.Redis.from_url(url, socket_timeout=None)
    store.blpop(["dagnb:bench:back"])
    took = []
    for _ in range(n):
        time.sleep(0.005)  # it waits, as a worker does
        sent = time.time()
        store.lpush("dagnb:bench:there", "x")
        took.append(float(store.blpop(["dagnb:bench:back"])[1]) - sent)  # type: ignore[index]  # it waits for ever
    store.lpush("dagnb:bench:there", "end")
    return took


def _spec(image: str, mounts: Any) -> Any:
    from dagnb_workers.launchers.docker.spec import Spec  # noqa: PLC0415

    return Spec(image=image, cpus=1.0, memory_mb=256, mounts=mounts)


# ---- many tasks ----


def many(launcher: Docker) -> None:
    """100 tasks and their sum, on two warm containers and on two processes, one after the other."""
    for ms in (0.0, 5.0):
        took: dict[str, list[float]] = {"docker": [], "process": []}
        for _ in range(7):
            for each in (launcher, Processes(n=2)):
                node = kept([busy(i, ms) for i in range(100)])
                took[each.name].append(
                    timed(lambda node=node, each=each: node.run(workers=each).result(120))
                )
        docker, process = took["docker"][1:], took["process"][1:]
        beside = f"{ratio(docker, process)} times 2 processes"
        print(f"100 tasks of {ms:g} ms, 2 containers      {spread(docker)}   {beside}")
        print(f"100 tasks of {ms:g} ms, 2 processes       {spread(process)}")


# ---- figures ----


def timed(act: Callable[[], object]) -> float:
    """Seconds it took."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def spread(seconds: list[float]) -> str:
    """Median, fastest and slowest, in milliseconds."""
    low, high = min(seconds) * 1e3, max(seconds) * 1e3
    return f"p50 {statistics.median(seconds) * 1e3:8.2f} ms  ({low:.2f} to {high:.2f}, n {len(seconds)})"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Of the medians."""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(Path(__file__).name, dagnb.__version__, f"engine {connect().version()['Version']}")
    main()
