"""The costs of a task: dagnb beside a process pool, Dask distributed, Ray, and bare Redis.

    python benchmarks/overhead.py                      all rows, about 20 minutes
    python benchmarks/overhead.py --quick              fewer repetitions, without the largest row
    python benchmarks/overhead.py --only fan10000,chain --systems floor,dagnb
    python benchmarks/overhead.py --workers docker     dagnb in containers: rows of 50 MB, and fan-outs
    python benchmarks/overhead.py --breakdown          where the time of one task of dagnb goes

Two workers of one thread each. The clock of a row starts at the first call that is turned into a
task and stops when the client has the result; the last row starts it before the system itself
starts, with the imports of the client done. Medians after a warm-up; systems run one after the
other, each in a process of its own. Dask's scheduler runs in its client, whose memory and CPU it
counts to.

    pip install 'dask[distributed]' ray numpy          the peers; dagnb needs none of them
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where `benchmarks` is

from benchmarks.peers import usage
from benchmarks.peers.conductor import Results, conduct, run_alone, versions
from benchmarks.peers.graphs import FIRST, ROWS, Row
from benchmarks.peers.process import ADAPTERS
from benchmarks.peers.table import QUIET_HELP, cell, markdown, noted, picked, ratio

SYSTEMS = ("floor1", "floor", "pool", "dask", "ray", "dagnb")
ROLES = ("client", "workers", "store")
ROLES_TITLE = f" = {' + '.join(ROLES)}"
LARGEST = "grid"
OF_CONTAINERS = ("fan1000", "fan10000", "chain50mb", "fan50mb", "client50mb")


def main(arguments: Sequence[str]) -> int:
    """Print the tables. Returns the exit code: 1 if a row failed on dagnb."""
    chosen = _parser().parse_args(arguments)
    if chosen.breakdown:
        return run_alone("breakdown", ["--workers", chosen.workers], prints=True)

    systems = picked(chosen.systems, SYSTEMS, "system")
    rows = _rows(chosen)
    results = conduct(
        systems,
        [row.name for row in rows],
        quick=chosen.quick,
        workers=chosen.workers,
        quiet_s=chosen.quiet_s,
    )

    print(setting(chosen, systems) + "\n")
    print(overhead_table(rows, systems, results))
    # Processes in containers are below the engine, so their CPU is in no tree of the client's.
    if usage.is_known() and chosen.workers == "process":
        print("\n" + cpu_table(rows, systems, results))
    if usage.is_known():
        print("\n" + memory_table(rows, systems, results))
    for line in noted(results, systems, rows):
        print(line)
    left_out = [row.title for row in ROWS if row not in rows]
    if left_out and not chosen.only:
        print(f"left out: {'; '.join(left_out)}")
    if chosen.json:
        chosen.json.write_text(json.dumps(results.to_json(), indent=1), encoding="utf-8")
    return results.exit_code()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--only", default="", help=f"rows: {','.join(row.name for row in ROWS)}")
    parser.add_argument("--systems", default="", help=f"columns: {','.join(SYSTEMS)}")
    parser.add_argument("--workers", default="process", choices=("process", "docker"))
    parser.add_argument("--quiet-s", type=float, default=0.0, help=QUIET_HELP)
    parser.add_argument("--json", type=Path, help="file for all figures, of each repetition too")
    parser.add_argument("--breakdown", action="store_true")
    return parser


def setting(chosen: argparse.Namespace, systems: Sequence[str]) -> str:
    """Returns a line about the repetitions, the machine and the versions."""
    places = "containers" if chosen.workers == "docker" else "processes"
    parts = [
        "up to 3 repetitions in 2 s" if chosen.quick else "5 repetitions, or 40 s of them",
        f"dagnb on 2 {places}",
        f"{os.cpu_count()} CPUs",
        f"Python {platform.python_version()}",
        *(f"{name} {version}" for name, version in versions(systems).items()),
    ]
    return "; ".join(parts)


def _rows(chosen: argparse.Namespace) -> list[Row]:
    names = picked(chosen.only, [row.name for row in ROWS], "row")
    if chosen.workers == "docker" and not chosen.only:
        names = list(OF_CONTAINERS)
    if chosen.quick and not chosen.only:
        names = [name for name in names if name != LARGEST]
    return [row for row in ROWS if row.name in names]


# ---- tables ----


def overhead_table(rows: Sequence[Row], systems: Sequence[str], results: Results) -> str:
    """Returns seconds by row and system, dagnb's ratios, and the aims."""
    headings = ["work, s", *(ADAPTERS[system].heading for system in systems)]
    lines = []
    for row in rows:
        line = [row.title]
        line += [cell(results, system, row) for system in systems]
        line += [
            ratio(results, row.name, "dagnb", "dask"),
            ratio(results, row.name, "dagnb", "pool"),
        ]
        lines.append([*line, f"{row.aim_s:g}"])
    return markdown([*headings, "dagnb/Dask", "dagnb/pool", "aim"], lines)


def cpu_table(rows: Sequence[Row], systems: Sequence[str], results: Results) -> str:
    """Returns CPU microseconds a task: dagnb's by role, the others' in all; and memory of clients."""
    headings = ["CPU, us a task"]
    for system in systems:
        parts = [ROLES_TITLE] if system == "dagnb" else []
        headings += [f"{ADAPTERS[system].heading}{part}" for part in ("", *parts)]
    lines = []
    for row in rows:
        if row.n_tasks:
            line = [row.title]
            for system in systems:
                used = results.cells.get((system, row.name), {}).get("cpu_us")
                line.append(_whole(sum(used.values()) if used else None))
                if system == "dagnb":
                    line.append(_by_role(used))
            lines.append(line)
    return markdown(headings, lines)


def memory_table(rows: Sequence[Row], systems: Sequence[str], results: Results) -> str:
    """Returns the peak memory of the client's process, MB."""
    lines = []
    for row in rows:
        if row.name == FIRST:
            continue
        figures = [results.cells.get((system, row.name), {}) for system in systems]
        lines.append([row.title, *(_whole(each.get("client_mb")) for each in figures)])
    headings = [ADAPTERS[system].heading for system in systems]
    return markdown(["peak memory of the client, MB", *headings], lines)


def _by_role(used: Mapping[str, float] | None) -> str:
    if not used:
        return "-"
    return " + ".join(_whole(used.get(role, 0.0)) for role in ROLES)


def _whole(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
