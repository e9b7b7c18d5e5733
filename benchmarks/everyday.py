"""Everyday notebook work: dagnb beside a plain loop, joblib and Dask distributed.

    python benchmarks/everyday.py                  four rows on four systems
    python benchmarks/everyday.py --only months,pi --systems loop,dagnb

Each system runs in a process of its own and is warm: it has run tasks that import nothing. Then a
row runs four times in a row, as the cells of a notebook do. The first time, which imports what the
tasks need, is a figure of its own; the second is the median of the other three. Two workers of one
thread each; joblib has two jobs.

    pip install 'dask[distributed]' joblib pandas scikit-learn
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where `benchmarks` is

from benchmarks.peers.conductor import Results, conduct
from benchmarks.peers.everyday import ROWS
from benchmarks.peers.graphs import Row
from benchmarks.peers.process import ADAPTERS
from benchmarks.peers.table import QUIET_HELP, cell, markdown, noted, picked, ratio

SYSTEMS = ("loop", "joblib", "dask", "dagnb")
REQUIRES = ("numpy", "pandas", "scikit-learn")


def main(arguments: Sequence[str]) -> int:
    """Print the table. Returns the exit code: 1 if a row failed on dagnb."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"rows: {','.join(row.name for row in ROWS)}")
    parser.add_argument("--systems", default="", help=f"columns: {','.join(SYSTEMS)}")
    parser.add_argument("--quiet-s", type=float, default=0.0, help=QUIET_HELP)
    parser.add_argument("--json", type=Path, help="file for all figures, of each repetition too")
    chosen = parser.parse_args(arguments)

    systems = picked(chosen.systems, SYSTEMS, "system")
    names = picked(chosen.only, [row.name for row in ROWS], "row")
    rows = [row for row in ROWS if row.name in names]
    results = Results()
    for name in names:  # a process a row: else the row before would have paid for the imports
        results.update(
            conduct(systems, [name], quick=False, quiet_s=chosen.quiet_s, requires=REQUIRES)
        )

    print(everyday_table(rows, systems, results))
    for line in noted(results, systems, rows):
        print(line)
    if chosen.json:
        chosen.json.write_text(json.dumps(results.to_json(), indent=1), encoding="utf-8")
    return results.exit_code()


def everyday_table(rows: Sequence[Row], systems: Sequence[str], results: Results) -> str:
    """Returns seconds by row and system: the first of four runs in a row, then the others."""
    headings = ["work, s: first run, then", *(ADAPTERS[system].heading for system in systems)]
    lines = []
    for row in rows:
        line = [row.title, *(cell(results, system, row) for system in systems)]
        line += [ratio(results, row.name, "dagnb", other) for other in ("dask", "loop")]
        first = "" if row.aim_cold_s is None else f"{row.aim_cold_s:g}, then "
        lines.append([*line, f"{first}{row.aim_s:g}"])
    return markdown([*headings, "dagnb/Dask", "dagnb/loop", "aim"], lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
