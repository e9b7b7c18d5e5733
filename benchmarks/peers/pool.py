"""A process pool with the driver that a careful user writes around it: counts in the client, and values through it."""

from __future__ import annotations

import multiprocessing
import queue
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from benchmarks.peers import tasks
from benchmarks.peers.system import Graph, edges, filled, plain


class Pool:
    """Two forked processes of concurrent.futures."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(2, mp_context=context)
        list(self._pool.map(tasks.noop, range(2)))

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        calls = graph.calls
        upstream, downstream = edges(graph)
        missing = [len(some) for some in upstream]
        readers = [len(some) for some in downstream]
        values: dict[int, Any] = {}
        done: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()

        def submit(task: int) -> None:
            function, arguments = calls[task]
            future = self._pool.submit(function, *filled(arguments, values, plain))
            future.add_done_callback(lambda future: done.put((task, future)))

        for task, n in enumerate(missing):
            if n == 0:
                submit(task)
        for _ in calls:
            task, future = done.get()
            values[task] = future.result()
            for reader in downstream[task]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    submit(reader)
            for call in upstream[task]:
                readers[call] -= 1
                if readers[call] == 0:
                    del values[call]
        return values[len(calls) - 1]

    def tidy(self) -> None:
        """Do nothing: nothing is left."""

    def roots(self) -> dict[str, int]:
        """Returns none: the processes are the client's children."""
        return {}

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()
