"""Ray on this machine with two CPUs: `remote` functions; values live in its shared memory, read-only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray  # it reads these at its import

from benchmarks.peers.system import Graph, filled

STORE_BYTES = 4 << 30


class RayNode:
    """A node of its own, without the dashboard."""

    def __init__(self) -> None:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _node_ip_address="127.0.0.1",
            logging_level="ERROR",
            log_to_driver=False,
        )
        self._remote: dict[Callable[..., Any], Any] = {}

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        put: dict[int, Any] = {}

        def given(value: Any) -> Any:
            if id(value) not in put:
                put[id(value)] = ray.put(value)
            return put[id(value)]

        references: list[Any] = []
        for function, arguments in graph.calls:
            made = self._remote.get(function)
            if made is None:
                made = self._remote[function] = ray.remote(function)
            references.append(made.remote(*filled(arguments, references, given)))
        return ray.get(references[-1])

    def tidy(self) -> None:
        """Do nothing: values go with their references."""

    def roots(self) -> dict[str, int]:
        """Returns none: Ray's processes are below the client."""
        return {}

    def close(self) -> None:
        """End all of Ray's processes."""
        ray.shutdown()
