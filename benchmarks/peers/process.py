"""The process of one system: measures the rows that it is asked for and writes a line of JSON each.

    python -m benchmarks.peers.process SYSTEM --rows chain,fan1000 --out FILE

Started by `conductor.py`. A process of its own, so that no system sees the threads, signal handlers
and imports of another one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

from benchmarks.peers import everyday, everyday_tasks, graphs, tasks
from benchmarks.peers.clock import QUICK, THOROUGH, Patience, measured
from benchmarks.peers.system import System, as_in_a_notebook


@dataclass(frozen=True)
class Adapter:
    """A system by name. requires: packages beyond dagnb's own. heading: of its column."""

    heading: str
    module: str
    class_name: str
    requires: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None

    def start(self, **options: Any) -> System:
        """Returns the running system."""
        module = importlib.import_module(f"benchmarks.peers.{self.module}")
        made: Callable[..., System] = getattr(module, self.class_name)
        return made(**(self.options or {}), **options)


ADAPTERS = {
    "floor1": Adapter("floor, one by one", "floor", "Floor", ("numpy",), {"batch": 1}),
    "floor": Adapter("floor, batch", "floor", "Floor", ("numpy",), {"batch": 128}),
    "pool": Adapter("pool", "pool", "Pool", ("numpy",)),
    "dask": Adapter("Dask", "dask_cluster", "DaskCluster", ("dask", "distributed", "numpy")),
    "ray": Adapter("Ray", "ray_node", "RayNode", ("ray", "numpy")),
    "dagnb": Adapter("dagnb", "dagnb_runs", "DagnbRuns", ("numpy",)),
    "loop": Adapter("loop", "loop", "Loop"),
    "joblib": Adapter("joblib", "loop", "Joblib", ("joblib",)),
}
"""name -> adapter, in the order of columns"""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=ADAPTERS)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", default="")
    parser.add_argument("--quiet-s", type=float, default=0.0)
    chosen = parser.parse_args()
    patience = replace(QUICK if chosen.quick else THOROUGH, quiet_s=chosen.quiet_s)
    as_in_a_notebook(tasks)
    as_in_a_notebook(everyday_tasks)

    adapter = ADAPTERS[chosen.system]
    options = {"workers": chosen.workers} if chosen.workers else {}
    with chosen.out.open("a", encoding="utf-8") as out:
        _measure_all(adapter, options, chosen.rows.split(","), patience, out)


def _measure_all(
    adapter: Adapter, options: dict[str, Any], names: list[str], patience: Patience, out: Any
) -> None:
    """Write a line a row, until one fails. Raises SystemExit then: what follows is not trusted."""
    rows = {row.name: row for row in (*graphs.ROWS, *everyday.ROWS)}
    # Imports of the client are not part of the row that begins with the start of the system.
    importlib.import_module(f"benchmarks.peers.{adapter.module}")
    begin_s = time.perf_counter()
    system = adapter.start(**options)
    try:
        for name in names:
            result = _result(system, rows[name], patience, begin_s)
            out.write(json.dumps({"row": name, **result}) + "\n")
            out.flush()
            sys.stderr.write(f"  {adapter.heading}: {name} {result.get('median_s', nan):.3g} s\n")
            if "error" in result:
                raise SystemExit(1)
    finally:
        system.close()


def _result(system: System, row: graphs.Row, patience: Patience, begin_s: float) -> dict[str, Any]:
    """Returns the figures of a row, or its error."""
    try:
        if row.name != graphs.FIRST:
            return measured(system, row, patience)
        graph = row.build(0)
        graph.check(system.run(graph))
        seconds = time.perf_counter() - begin_s
    except Exception as error:  # noqa: BLE001  # of any system
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    return {"seconds": [seconds], "median_s": seconds}


if __name__ == "__main__":
    main()
