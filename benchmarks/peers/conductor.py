"""The parent: one process a system, one system after the other, and their results in one place."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import graphs
from benchmarks.peers.process import ADAPTERS

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LEFT_OUT = ("DAGNB_REDIS_URL", "DAGNB_NAMESPACE")
"""variables of the user's that would lead to another store"""
END_S = 30.0


@dataclass
class Results:
    """The figures that were measured. cells: (system, row) -> figures, or {"error": ...}."""

    cells: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)

    def median_s(self, system: str, row: str) -> float | None:
        """Returns seconds; None where there is no figure."""
        return self.cells.get((system, row), {}).get("median_s")

    def add(self, system: str, row: str, cell: dict[str, Any]) -> None:
        """Add what one process measured; the seconds of several processes are one list."""
        seconds = [*self.cells.get((system, row), {}).get("seconds", ()), *cell.get("seconds", ())]
        if seconds and row == graphs.FIRST:
            cell = {"seconds": seconds, "median_s": statistics.median(seconds)}
        self.cells[system, row] = cell

    def update(self, others: Results) -> None:
        """Add the results of other rows."""
        self.cells.update(others.cells)
        self.missing.update(others.missing)

    def exit_code(self) -> int:
        """Returns 1 if a row failed on dagnb; peers may fail."""
        return int(any("error" in self.cells[key] for key in self.cells if key[0] == "dagnb"))

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON: system -> row -> figures."""
        by_system: dict[str, dict[str, Any]] = {}
        for (system, row), cell in self.cells.items():
            by_system.setdefault(system, {})[row] = cell
        return {
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            "versions": versions(by_system),
            "systems": by_system,
            "not_installed": self.missing,
        }


def missing_packages(requires: Iterable[str]) -> list[str]:
    """Returns those that are not installed."""
    missing = []
    for name in requires:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def versions(systems: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the packages that these systems need, as far as they are installed."""
    installed = {}
    for system in systems:
        for name in ADAPTERS[system].requires:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                installed[name] = importlib.metadata.version(name)
    return installed


def conduct(
    systems: Sequence[str],
    rows: Sequence[str],
    *,
    quick: bool,
    workers: str = "",
    quiet_s: float = 0.0,
    requires: Sequence[str] = (),
) -> Results:
    """Returns the figures of all rows on all systems.

    workers: of dagnb. quiet_s: see Patience. requires: packages that the rows need.
    """
    results = Results()
    for system in systems:
        missing = missing_packages((*ADAPTERS[system].requires, *requires))
        if system.startswith("floor") and shutil.which("redis-server") is None:
            missing.append("redis-server")
        if missing:
            results.missing[system] = missing
            continue
        options = ["--quick"] if quick else []
        options += ["--quiet-s", str(quiet_s)]
        options += ["--workers", workers] if workers and system == "dagnb" else []
        for share in _shares(rows, quick=quick):
            todo = list(share)
            while todo:  # after a row that failed, the others go on in a fresh process
                cells = _process(system, todo, options)
                for name, cell in cells:
                    results.add(system, name, cell)
                todo = todo[len(cells) :]
    return results


def _shares(rows: Sequence[str], *, quick: bool) -> Iterator[Sequence[str]]:
    """Yields the rows of each process: the first result from nothing needs a process a repetition."""
    together = [name for name in rows if name != graphs.FIRST]
    if together:
        yield together
    if graphs.FIRST in rows:
        for _ in range(1 if quick else 5):
            yield [graphs.FIRST]


def _process(
    system: str, rows: Sequence[str], options: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Returns (row, figures) of one process; an error for the row where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.jsonl"
        arguments = [system, "--rows", ",".join(rows), "--out", str(out), *options]
        code = run_alone("process", arguments)
        lines = out.read_text("utf-8").splitlines() if out.exists() else []

    cells = []
    for line in lines:
        cell = json.loads(line)
        cells.append((cell.pop("row"), cell))
    has_error = any("error" in cell for _, cell in cells)
    if len(cells) < len(rows) and not has_error:
        cells.append((rows[len(cells)], {"error": f"the process ended with {code}"}))
    return cells


def run_alone(module: str, arguments: Sequence[str], *, prints: bool = False) -> int:
    """Run a module of this folder with a home of dagnb of its own. Returns its exit code.

    prints: what it prints is the result; otherwise it goes to stderr, as progress.
    """
    with tempfile.TemporaryDirectory(prefix="dgb", ignore_cleanup_errors=True) as home:
        environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "DAGNB_HOME": home}
        for name in LEFT_OUT:
            environment.pop(name, None)
        child = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=None if prints else sys.stderr,
            start_new_session=True,
        )
        try:
            return child.wait()
        finally:
            _end(child)
            if (Path(home) / "run").exists():  # after a failure its agent may still be there
                stop = [sys.executable, "-m", "dagnb", "agent", "--stop"]
                subprocess.run(stop, check=False, capture_output=True, env=environment)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process that was interrupted, with all that it started in its session."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
