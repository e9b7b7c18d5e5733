"""Tables as Markdown, and the lines below them: missing packages, failures, a busy machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from benchmarks.peers.clock import BUSY
from benchmarks.peers.conductor import Results
from benchmarks.peers.graphs import Row
from benchmarks.peers.process import ADAPTERS

QUIET_HELP = "seconds that a repetition waits at most until others leave the machine alone"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns the table, its columns aligned; the first to the left."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    texts = []
    for line in (headings, rule, *lines):
        parts = [line[0].ljust(widths[0])]
        parts += [part.rjust(width) for part, width in zip(line[1:], widths[1:], strict=True)]
        texts.append(f"| {' | '.join(parts)} |")
    return "\n".join(texts)


def seconds(number: float) -> str:
    """Returns two significant digits, three from 10 on."""
    return f"{number:.3g}" if number >= 10 else f"{number:.2g}"


def cell(results: Results, system: str, row: Row) -> str:
    """Returns the median; '~' before it: others used the machine; memory where the row shows it."""
    if system in results.missing:
        return "not installed"
    figures = results.cells.get((system, row.name))
    if figures is None:
        return "-"
    if "error" in figures:
        return "failed"
    text = seconds(figures["median_s"])
    if row.is_cold:
        text = f"{seconds(figures['seconds'][0])}, then {text}"
    if row.shows_memory and "client_mb" in figures:
        text += f" ({figures['client_mb']:.0f} MB)"
    return f"~{text}" if figures.get("others", 0.0) > BUSY else text


def ratio(results: Results, row: str, of: str, to: str) -> str:
    """Returns the ratio of two medians."""
    ours, theirs = results.median_s(of, row), results.median_s(to, row)
    return "-" if ours is None or not theirs else f"{ours / theirs:.2f}"


def noted(results: Results, systems: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Yields a line for each thing that a reader of the table must know."""
    absent: dict[str, None] = {}
    for system in systems:
        absent.update(dict.fromkeys(results.missing.get(system, ())))
    server = absent.pop("redis-server", 0)
    if absent:
        yield f"not installed; to compare: pip install {' '.join(absent)}"
    if server is None:
        yield "the floor needs redis-server on PATH"
    is_marked = False
    for row in rows:
        for system in systems:
            figures = results.cells.get((system, row.name), {})
            is_marked = is_marked or figures.get("others", 0.0) > BUSY
            if "error" in figures:
                yield f"failed: {row.name} on {ADAPTERS[system].heading}: {figures['error']}"
    if is_marked:
        yield f"~ other processes used more than {BUSY:g} of a CPU meanwhile"


def picked(text: str, known: Sequence[str], kind: str) -> list[str]:
    """Returns the names chosen by a text such as 'a,b', in the order of the known ones; else all.

    Exits for an unknown name.
    """
    chosen = [name for name in text.split(",") if name]
    for name in chosen:
        if name not in known:
            sys.exit(f"there is no {kind} {name!r}. Known: {', '.join(known)}.")
    return [name for name in known if name in chosen or not chosen]
