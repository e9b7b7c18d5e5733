"""`dagnb workers`: where tasks run now, or could at once, as the rows of a table; notebooks show the same one."""
# ruff: noqa: T201  # a command line prints

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence

from dagnb import client, registry, session
from dagnb.errors import DagnbError
from dagnb.protocol.launcher import Seat
from dagnb.views.markup import plain
from dagnb.views.wording import seconds_text

HEADS = ("name", "platform", "state", "run", "worker", "CPUs", "memory", "image or program", "age", "lent")
EMPTY = "no worker is running or warm"

_RUN = 12
"""letters of a run's id: the moment it was made, to the millisecond, and a bit; commands take the beginning of an id"""


def workers(options: argparse.Namespace) -> int:
    """`dagnb workers [--workers NAME]`."""
    found = rows(client.workers(workers=options.workers) if options.workers else everywhere())
    print("\n".join(lines(HEADS, found)) if found else EMPTY)
    return 0


def everywhere() -> list[Seat]:
    """The seats of the session's own launcher, then those of every other that is installed and can tell."""
    seats = list(client.workers())
    for name in registry.names("launcher"):
        if name != session.settings().launcher().name:
            with contextlib.suppress(DagnbError, ImportError):
                seats += client.workers(workers=name)
    return seats


def rows(seats: Sequence[Seat]) -> list[list[str]]:
    """A row a seat, of text nobody vouches for; the cells of HEADS."""
    return [
        [
            seat.name,
            seat.platform,
            seat.state,
            seat.run[:_RUN],
            seat.worker,
            "" if seat.cpus is None else f"{seat.cpus:g}",
            "" if seat.memory_mb is None else f"{seat.memory_mb:,} MB",
            seat.made_of,
            "" if seat.age_s is None else seconds_text(max(0.0, seat.age_s)),
            f"{seat.n_lent:,} x" if seat.n_lent else "",
        ]
        for seat in seats
    ]


def lines(heads: Sequence[str], found: Sequence[Sequence[str]]) -> list[str]:
    """The rows below their heads, in columns, without what could steer a terminal."""
    cells = [[" ".join(plain(cell).split()) for cell in row] for row in (heads, *found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in cells]
