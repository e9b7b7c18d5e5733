"""What one finished task teaches: how long each act took on how many bytes. The food of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.graph.resources import DEFAULT, Resources
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The last attempt of a task that was done. None: this act left no span, so its time is unknown, not 0.

    function: identity of its code, as graph.identity gives it. name: the function's own name.
    input_bytes: pickled arguments, values of upstream tasks among them. output_bytes: the pickled result.
    *_s: seconds of unpickling, of the user's function, of pickling. ended_at: epoch seconds.
    key: of the call, equal for equal calls on equal inputs (see graph.lineage), '' where nobody knows.
    """

    function: str
    name: str
    resources: Resources = DEFAULT
    input_bytes: int
    output_bytes: int
    load_s: float | None = None
    run_s: float | None = None
    dump_s: float | None = None
    ended_at: float = 0.0
    key: str = ""


def samples(
    trace: Trace,
    functions: Sequence[str],
    names: Sequence[str],
    resources: Sequence[Resources] = (),
    keys: Sequence[str] = (),
) -> tuple[Sample, ...]:
    """The samples of a trace, by end of run. functions, names, resources, keys: of each step, by position. O(spans)."""
    acts: dict[int, dict[Phase, tuple[float, int, float]]] = {}
    attempts: dict[int, int] = {}
    for span in trace.spans:
        if span.task < 0 or span.attempt < attempts.get(span.task, 1):
            continue
        if span.attempt > attempts.get(span.task, 1):
            acts.pop(span.task, None)
        attempts[span.task] = span.attempt
        acts.setdefault(span.task, {})[span.phase] = (max(0.0, span.duration_s), span.n_bytes, span.end_s)
    found = []
    for task, done in acts.items():
        if Phase.RUN not in done or Phase.DUMP not in done:
            continue  # it failed, or its spans were lost
        found.append(
            Sample(
                function=functions[task],
                name=names[task],
                resources=resources[task] if resources else DEFAULT,
                input_bytes=done[Phase.LOAD][1] if Phase.LOAD in done else 0,
                output_bytes=done[Phase.DUMP][1],
                load_s=done[Phase.LOAD][0] if Phase.LOAD in done else None,
                run_s=done[Phase.RUN][0],
                dump_s=done[Phase.DUMP][0],
                ended_at=done[Phase.DUMP][2],
                key=keys[task] if keys else "",
            )
        )
    return tuple(sorted(found, key=lambda sample: sample.ended_at))
