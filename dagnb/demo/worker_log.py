"""Where the workers of a run were, and how they started: told alike of every platform, by launcher and trace."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dagnb import client
from dagnb.errors import DagnbError
from dagnb.protocol.launcher import WorkerSlot
from dagnb.trace.span import STARTING, Phase, Span
from dagnb.trace.trace import Trace
from dagnb.views.markup import plain
from dagnb.views.wording import counted, seconds_text

LOOK_S = 0.2
LEAVE_S = 15.0
"""so long workers may take to leave after the end of a run"""

MOST = 8
"""so many seats, and so many starts, have a line"""


class WorkerWatcher(contextlib.AbstractContextManager["WorkerWatcher"]):
    """Looks, in a thread, at which seats are lent to a run; a seat that serves it now may serve another one soon."""

    def __init__(self, run: str, workers: Any) -> None:
        """workers: as they were chosen for the run."""
        self._run, self._workers = run, workers
        self._seen: dict[object, WorkerSlot] = {}
        self._enough = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="dagnb-worker-watcher", daemon=True
        )

    def __enter__(self) -> WorkerWatcher:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no longer."""
        self._enough.set()
        self._thread.join()

    @property
    def seats(self) -> tuple[WorkerSlot, ...]:
        """Those that were lent to the run, each as it was last seen."""
        return tuple(self._seen.values())

    def left(self) -> tuple[WorkerSlot, ...]:
        """The seats there are once the run's workers have left, or have not although they should."""
        deadline = time.monotonic() + LEAVE_S
        while (
            any(map(self._is_lent, seats := client.workers(workers=self._workers)))
            and time.monotonic() < deadline
        ):
            time.sleep(LOOK_S)
        return seats

    def left_text(self) -> str:
        """What is left after the run, in a line."""
        seats = self.left()
        what = next((seat.what for seat in (*self.seats, *seats)), "process")
        n_idle = sum(seat.state == "idle" for seat in seats)
        text = f"After the run: {_amount(sum(map(self._is_lent, seats)), what)} still lent to it"
        return f"{text}, {n_idle} idle and warm for the next." if n_idle else f"{text}."

    def _watch(self) -> None:
        is_last = False
        while True:
            with contextlib.suppress(DagnbError):  # whoever cannot answer now is asked again
                self._note(client.workers(workers=self._workers))
            if is_last:
                return
            is_last = self._enough.wait(
                LOOK_S
            )  # one look more: workers stay a moment after their last task

    def _note(self, seats: Iterable[WorkerSlot]) -> None:
        for seat in seats:
            # A short run may come and go between two looks: the seats that served it last are counted, too.
            if self._is_lent(seat) or seat.last_run == self._run:
                self._seen[seat.labels or seat.name] = seat  # what is labelled may change its name

    def _is_lent(self, seat: WorkerSlot) -> bool:
        return seat.run == self._run and seat.state == "lent"


def slots_text(seats: Sequence[WorkerSlot]) -> list[str]:
    """Which seats were lent to the run, by name and labels; nothing where their platform lists them without."""
    listed = [seat for seat in seats if seat.labels]
    if not listed:
        return []
    lines = [
        f"  {plain(seat.name)}  {' '.join(f'{plain(name)}={plain(value)}' for name, value in seat.labels)}"
        for seat in listed
    ]
    verb = "was" if len(listed) == 1 else "were"
    return [f"{_amount(len(listed), listed[0].what)} {verb} lent to it:", *_few(lines)]


def starts_text(trace: Trace) -> list[str]:
    """How many starts were cold, how many warm, and what each took: from being asked for to being registered."""
    starts = _starts(trace)
    kinds = Counter(spans[0].detail or "warm" for spans in starts)
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in dict.fromkeys(("cold", "warm", *kinds)))
    return [f"Starts: {told}.", *_few([_start_text(spans) for spans in starts])]


def _starts(trace: Trace) -> list[list[Span]]:
    """The spans of each start, by begin; each has one INVOKE, its first."""
    found: list[list[Span]] = []
    for spans in trace.by_worker.values():
        for span in spans:
            if span.phase is Phase.INVOKE:
                found.append([span])
            elif span.phase in STARTING and found and found[-1][0].worker == span.worker:
                found[-1].append(span)
    return sorted(
        found, key=lambda spans: (spans[0].begin_s, len(spans[0].worker), spans[0].worker)
    )


def _start_text(spans: Sequence[Span]) -> str:
    first, last = spans[0], spans[-1]
    took_s: dict[str, float] = {}
    for span in spans:
        took_s[span.phase] = took_s.get(span.phase, 0.0) + span.duration_s
    parts = ", ".join(f"{phase} {seconds_text(duration_s)}" for phase, duration_s in took_s.items())
    took = seconds_text(last.end_s - first.begin_s)
    return f"  {plain(first.worker)} {first.detail or 'warm'}, {took}" + (
        f": {parts}" if len(spans) > 1 else ""
    )


def _few(lines: list[str]) -> list[str]:
    return (
        lines
        if len(lines) <= MOST
        else [*lines[: MOST - 1], f"  and {len(lines) - MOST + 1:,} more"]
    )


def _amount(n: int, what: str) -> str:
    return f"{n} processes" if what == "process" and n != 1 else counted(n, what)
