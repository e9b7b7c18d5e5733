"""The time of the workers of a run, by its use: shares of worker-seconds that add up to 1.

A worker counts from its first act, which is the begin of its start, until the end of the run:

    w0   |- starting -|-- computing --|- moving -|---- computing ----|
    w1             |- starting -|- computing -|-------- idle --------|
         submission                                        end of the run

A worker that has left is idle until the end, because it could have been given work. Where acts of a
worker overlap, as when it fetches while it runs, the first use of `Use` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dagnb.graph.brief import brief
from dagnb.trace.lost_attempts import LostAttempts
from dagnb.trace.trace import Phase, Span, Trace


class Use(StrEnum):
    """The use of a worker's time.

    COMPUTING: a function ran. FAILED: a function ran in an attempt that came to nothing.
    STARTING: the worker started, read the run, or imported modules. MOVING: values were fetched,
    unpickled, pickled or stored, tasks marked done and the next taken. IDLE: nothing to do.
    """

    COMPUTING = "computing"
    FAILED = "failed attempts"
    STARTING = "starting"
    MOVING = "moving data"
    IDLE = "idle"


_USES = {
    Phase.RUN: Use.COMPUTING,
    Phase.IMPORT: Use.STARTING,
    Phase.FETCH: Use.MOVING,
    Phase.LOAD: Use.MOVING,
    Phase.DUMP: Use.MOVING,
    Phase.STORE: Use.MOVING,
    Phase.COMMIT: Use.MOVING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """Seconds of all workers together, by use, in the order of `Use`; all uses are there."""

    n_workers: int
    seconds: Mapping[Use, float]

    __repr__ = brief

    @property
    def total_s(self) -> float:
        """Worker-seconds: the time for which there were workers, summed over them."""
        return sum(self.seconds.values())

    def shares(self) -> dict[Use, float]:
        """Returns use -> share of the worker-seconds, of uses that occurred; they add up to 1."""
        total_s = self.total_s
        return {use: spent / total_s for use, spent in self.seconds.items() if spent > 0}


def utilisation(trace: Trace) -> Utilisation:
    """Returns the time of the workers by its use. O(spans log spans)."""
    seconds = dict.fromkeys(Use, 0.0)
    lost = LostAttempts.of(trace.spans)
    n_workers = 0
    for worker, spans in trace.by_worker.items():
        if not worker:
            continue  # the client
        n_workers += 1
        for use, spent in _of_worker(spans, lost, trace):
            seconds[use] += spent
    return Utilisation(n_workers=n_workers, seconds=seconds)


def _use(span: Span, lost: LostAttempts) -> Use | None:
    """Returns the use of a span; None for one that occupies no worker."""
    if span.is_start or span.phase is Phase.PROGRAM:
        return Use.STARTING
    use = _USES.get(span.phase)
    return Use.FAILED if use is Use.COMPUTING and lost.has(span) else use


def _of_worker(
    spans: Iterable[Span], lost: LostAttempts, trace: Trace
) -> Iterable[tuple[Use, float]]:
    """Yields stretches of one worker's time, without gaps, until the end of the run."""
    edges: list[tuple[float, int, Use]] = []
    for span in spans:
        use = _use(span, lost)
        # A worker's clock may differ from the store's, and a worker may go on after the end.
        begin_s = max(0.0, span.begin_s - trace.submitted_s)
        end_s = min(trace.makespan_s, span.end_s - trace.submitted_s)
        if use is not None and begin_s <= end_s:
            edges += [(begin_s, 1, use), (end_s, -1, use)]
    if not edges:
        return
    edges.sort()
    n_active = dict.fromkeys(Use, 0)
    n_active[Use.IDLE] = 1
    until_s = edges[0][0]
    for moment_s, change, use in edges:
        if moment_s > until_s:
            yield next(use for use, n in n_active.items() if n), moment_s - until_s
            until_s = moment_s
        n_active[use] += change
    if until_s < trace.makespan_s:
        yield Use.IDLE, trace.makespan_s - until_s
