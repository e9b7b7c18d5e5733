"""Measurements of finished tasks: seconds and bytes of each act. Predictions are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagnb.graph.resources import DEFAULT, Resources
from dagnb.trace.trace import Phase, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The last attempt of a task that succeeded.

    function: identity of its code, as graph.identity gives it. name: the function's own name.
    input_bytes: pickled arguments, including values of upstream tasks.
    output_bytes: the pickled result.
    load_s, run_s, dump_s: seconds of unpickling, of the user's function, of pickling.
        None means that the act left no span and its time is unknown, not 0.
    ended_at: epoch seconds.
    key: of the call, equal for equal calls on equal inputs (see graph.lineage); '' if unknown.
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
    """Returns the samples of a trace, in order of their ends. O(spans).

    functions, names, resources, keys: of each step, by position.
    """
    measured = []
    for task, acts in trace.last_attempts.items():
        load, run, dump = acts.get(Phase.LOAD), acts.get(Phase.RUN), acts.get(Phase.DUMP)
        if run is None or dump is None:
            continue  # the task failed, or its spans were lost
        measured.append(
            Sample(
                function=functions[task],
                name=names[task],
                resources=resources[task] if resources else DEFAULT,
                input_bytes=load.n_bytes if load is not None else 0,
                output_bytes=dump.n_bytes,
                load_s=max(0.0, load.duration_s) if load is not None else None,
                run_s=max(0.0, run.duration_s),
                dump_s=max(0.0, dump.duration_s),
                ended_at=dump.end_s,
                key=keys[task] if keys else "",
            )
        )
    return tuple(sorted(measured, key=lambda sample: sample.ended_at))
