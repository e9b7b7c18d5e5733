"""Dask distributed: `delayed` on a LocalCluster of two processes with a thread each. Its scheduler runs in the client."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dask import delayed
from dask.distributed import Client, LocalCluster

from benchmarks.peers.system import Graph, filled


class DaskCluster:
    """A cluster and its client, as `Client()` makes them, without the dashboard."""

    def __init__(self) -> None:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        self._cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        self._client = Client(self._cluster)
        self._client.wait_for_workers(2)
        self._delayed: dict[Callable[..., Any], Any] = {}

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        scattered: dict[int, Any] = {}

        def given(value: Any) -> Any:
            if id(value) not in scattered:
                scattered[id(value)] = self._client.scatter(value, hash=False)
            return scattered[id(value)]

        nodes: list[Any] = []
        for function, arguments in graph.calls:
            made = self._delayed.get(function)
            if made is None:
                made = self._delayed[function] = delayed(function, pure=False)
            nodes.append(made(*filled(arguments, nodes, given)))
        return self._client.compute(nodes[-1]).result()

    def tidy(self) -> None:
        """Do nothing: values go with their futures."""

    def roots(self) -> dict[str, int]:
        """Returns none: the workers are below the client."""
        return {}

    def close(self) -> None:
        """End client and cluster."""
        self._client.close()
        self._cluster.close()
