"""Where tasks run now, or could at once, as the rows of a table: in a terminal and in a notebook the same."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.protocol.launcher import WorkerSlot
from dagnb.views.markup import plain
from dagnb.views.wording import seconds_text

HEADS = (
    "name",
    "platform",
    "state",
    "run",
    "worker",
    "CPUs",
    "memory",
    "image or program",
    "age",
    "lent",
)
EMPTY = "no worker is running or warm"

_RUN = 12
"""letters of a run's id: the moment it was made, to the millisecond, and a bit; commands take the beginning of an id"""


def rows(seats: Sequence[WorkerSlot]) -> list[list[str]]:
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
    return [
        "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
