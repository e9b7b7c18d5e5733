"""The workers of a run: where they ran, how they started, and which of them remain after it."""

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
from dagnb.trace.trace import Phase, Span, Trace
from dagnb.views.markup import plain
from dagnb.views.wording import counted, seconds_text
from dagnb.worker_label import worker_text

POLL_S = 0.2
LEAVE_S = 15.0
"""Seconds that workers may take to leave after the end of a run."""

MOST = 8
"""Lines at most about slots, and about starts."""


class WorkerWatcher(contextlib.AbstractContextManager["WorkerWatcher"]):
    """Notes, in a thread, which processes or containers serve a run.

    It has to poll while the run goes on: afterwards a slot may serve another run, or be gone.
    """

    def __init__(self, run: str, workers: Any) -> None:
        """Prepares the thread. workers: as chosen for the run."""
        self._run, self._workers = run, workers
        self._seen: dict[object, WorkerSlot] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="dagnb-worker-watcher", daemon=True
        )

    def __enter__(self) -> WorkerWatcher:
        """Starts to poll."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops to poll."""
        self._stop.set()
        self._thread.join()

    @property
    def slots(self) -> tuple[WorkerSlot, ...]:
        """The slots that served the run, each as it was last seen."""
        return tuple(self._seen.values())

    def remaining(self) -> tuple[WorkerSlot, ...]:
        """Waits until the run's workers have left, LEAVE_S at most. Returns all slots."""
        deadline = time.monotonic() + LEAVE_S
        while True:
            slots = client.workers(workers=self._workers)
            if not any(map(self._is_serving, slots)) or time.monotonic() >= deadline:
                return slots
            time.sleep(POLL_S)

    def remaining_text(self) -> str:
        """Returns a line about the slots after the run."""
        slots = self.remaining()
        kind = next((slot.what for slot in (*self.slots, *slots)), "process")
        n_serving = sum(map(self._is_serving, slots))
        n_idle = sum(slot.state == "idle" for slot in slots)
        text = f"After the run: {_amount(n_serving, kind)} still running"
        if n_idle:
            text += f", {n_idle} idle and ready for the next run"
        return f"{text}."

    def _watch(self) -> None:
        is_last = False
        while True:
            # A launcher that cannot answer now may answer at the next poll.
            with contextlib.suppress(DagnbError):
                self._note(client.workers(workers=self._workers))
            if is_last:
                return
            # One more poll after the end: workers stay a moment after their last task.
            is_last = self._stop.wait(POLL_S)

    def _note(self, slots: Iterable[WorkerSlot]) -> None:
        for slot in slots:
            # A short run may begin and end between two polls: its slots name it as their last run.
            if self._is_serving(slot) or slot.last_run == self._run:
                self._seen[slot.labels or slot.name] = slot  # a container's name may change

    def _is_serving(self, slot: WorkerSlot) -> bool:
        return slot.run == self._run and slot.state == "lent"


def slots_text(slots: Sequence[WorkerSlot]) -> list[str]:
    """Returns lines about the slots that served a run; none for slots without labels."""
    lines = []
    kind = ""
    for slot in slots:
        if slot.labels:
            labels = " ".join(f"{plain(name)}={plain(value)}" for name, value in slot.labels)
            lines.append(f"  {plain(slot.name)}  {labels}")
            kind = kind or slot.what
    if not lines:
        return []
    return [f"The run used {_amount(len(lines), kind)}:", *_first(lines)]


def starts_text(trace: Trace) -> list[str]:
    """Returns the number of cold and warm starts, and a line about each: its phases and seconds."""
    starts = _starts(trace)
    kinds = Counter(spans[0].detail or "warm" for spans in starts)
    amounts = ", ".join(f"{kinds[kind]} {kind}" for kind in dict.fromkeys(("cold", "warm", *kinds)))
    return [f"Starts: {amounts}.", *_first(list(map(_start_text, starts)))]


def _starts(trace: Trace) -> list[list[Span]]:
    """Returns the spans of each start, by begin; each has one INVOKE, its first."""
    # worker_starts of dagnb/trace/starts.py would not do: it adds gaps to the act before them, but
    # this list shows the seconds of each phase alone.
    starts: list[list[Span]] = []
    for spans in trace.by_worker.values():
        for span in spans:
            if span.phase is Phase.INVOKE:
                starts.append([span])
            elif span.is_start and starts and starts[-1][0].worker == span.worker:
                starts[-1].append(span)
    # By length first, so that worker 10 comes after worker 9.
    starts.sort(key=lambda spans: (spans[0].begin_s, len(spans[0].worker), spans[0].worker))
    return starts


def _start_text(spans: Sequence[Span]) -> str:
    first, last = spans[0], spans[-1]
    took = seconds_text(last.end_s - first.begin_s)
    text = f"  {plain(worker_text(first.worker))} {first.detail or 'warm'}, {took}"
    if len(spans) == 1:
        return text
    took_s: dict[str, float] = {}
    for span in spans:
        took_s[span.phase] = took_s.get(span.phase, 0.0) + span.duration_s
    phases = ", ".join(f"{phase} {seconds_text(seconds)}" for phase, seconds in took_s.items())
    return f"{text}: {phases}"


def _first(lines: list[str]) -> list[str]:
    if len(lines) <= MOST:
        return lines
    return [*lines[: MOST - 1], f"  and {len(lines) - MOST + 1:,} more"]


def _amount(n: int, kind: str) -> str:
    return f"{n} processes" if kind == "process" and n != 1 else counted(n, kind)
