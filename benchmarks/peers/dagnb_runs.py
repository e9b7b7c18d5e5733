"""dagnb: `@task` and `run`, on two worker processes or two containers, with its embedded server."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

from dagnb_workers import Docker, Processes
from dagnb_workers.agent.client import ask_agent, ask_running

from benchmarks.peers import usage
from benchmarks.peers.system import Graph, filled, plain
from dagnb import Run, session, task
from dagnb.graph.task import Task

LIMIT_S = 600.0
LEAVE_S = 20.0


class DagnbRuns:
    """The agent, the server and the workers start with the first run, as for a user."""

    def __init__(self, *, workers: str = "process") -> None:
        self._workers: Docker | Processes = Processes(n=2)
        if workers == "docker":
            numpy = f"numpy=={importlib.metadata.version('numpy')}"
            self._workers = Docker(cap=2, cpus=1, memory_mb=2_048, requirements=[numpy])
        self._tasks: dict[Callable[..., Any], Task[..., Any]] = {}
        self._runs: list[Run[Any]] = []

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        run = self.start(graph)
        return run.result(LIMIT_S)

    def start(self, graph: Graph) -> Run[Any]:
        """Returns the run of a graph, just submitted."""
        nodes: list[Any] = []
        for function, arguments in graph.calls:
            made = self._tasks.get(function)
            if made is None:
                made = self._tasks[function] = task(function)
            nodes.append(made(*filled(arguments, nodes, plain)))
        run: Run[Any] = nodes[-1].run(workers=self._workers)
        self._runs.append(run)
        return run

    def tidy(self) -> None:
        """Forget the runs, once the history has recorded them."""
        session.wait_for_pending(60.0)
        for run in self._runs:
            run.forget()
        self._runs.clear()

    def roots(self) -> dict[str, int]:
        """Returns the agent, which is no child of the client, and its server, which is below it."""
        status = session.wait(ask_running("status"))
        if not status:
            return {}
        return {"agent": int(status["pid"]), "store": int(status["server"])}

    def close(self) -> None:
        """End agent, server and workers."""
        session.wait_for_pending(60.0)
        roots = self.roots()
        pids = usage.below(roots.values(), usage.processes()) if usage.is_known() else set()
        session.wait(ask_agent("leave", force=True))
        # The last of them may still write its history, into a home that is removed next.
        until = time.monotonic() + LEAVE_S
        while pids & usage.processes().keys() and time.monotonic() < until:
            time.sleep(0.02)
