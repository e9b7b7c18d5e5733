"""The worker slots as a table: the same in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.forecast.compare import aligned
from dagnb.protocol.launcher import WorkerSlot
from dagnb.views.markup import plain
from dagnb.views.wording import seconds_text
from dagnb.worker_label import worker_text

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
    "runs served",
)
EMPTY = "no worker is running or warm"

_STATES = {"lent": "busy", "elsewhere": "used by another session"}
"""state of a slot -> its words, where the state itself does not say it"""

_RUN = 12
"""letters of a run's id that are shown; commands accept the beginning of an id"""


def rows(slots: Sequence[WorkerSlot]) -> list[list[str]]:
    """The cells of HEADS for each slot; the text is not escaped yet."""
    return [
        [
            slot.name,
            slot.platform,
            _STATES.get(slot.state, slot.state),
            slot.run[:_RUN],
            worker_text(slot.worker),
            "" if slot.cpus is None else f"{slot.cpus:g}",
            "" if slot.memory_mb is None else f"{slot.memory_mb:,} MB",
            slot.made_of,
            # A platform's clock may be ahead of ours by more than a young slot's age.
            "" if slot.age_s is None else seconds_text(max(0.0, slot.age_s)),
            f"{slot.n_lent:,}" if slot.n_lent else "",
        ]
        for slot in slots
    ]


def lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Any table as text: rows below their heads, in columns.

    Cells lose their line breaks, and all that could steer a terminal.
    """
    # Before the widths: what is dropped must not count.
    cells = [[" ".join(plain(cell).split()) for cell in row] for row in (heads, *rows)]
    return aligned(cells, str.ljust)
