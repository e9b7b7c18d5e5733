"""Replay: the simulator fed with what a run measured. What then differs from reality is the simulator's own error."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import median

from dagnb.planning.costs import Costs, Start
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.span import STARTING, Phase, Span
from dagnb.trace.trace import Trace

_ACTS = {Phase.FETCH: "fetch", Phase.LOAD: "load", Phase.DUMP: "dump", Phase.STORE: "store"}


def replay(plan: Plan, trace: Trace, pool: Pool) -> Trace:
    """The run of this plan again, in virtual time, every act as long as it was. Positions are those of the steps."""
    return simulate(plan, measured(trace, len(plan.steps)), pool)


def measured(trace: Trace, n_steps: int) -> Costs:
    """What each act of a run took, as a price list. Acts that left no span take the median of their kind."""
    last = _last_attempts(trace)
    runs = {task: acts[Phase.RUN].duration_s for task, acts in last.items() if Phase.RUN in acts}
    known = {
        (task, name): max(0.0, acts[phase].duration_s)
        for task, acts in last.items()
        for phase, name in _ACTS.items()
        if phase in acts
    }
    commit_s = quick_commit_s(trace)
    known |= {(task, "release"): max(0.0, seconds - commit_s) for task, seconds in commits(trace).items()}
    return Costs(
        run_s={task: max(0.0, seconds) for task, seconds in runs.items() if task < n_steps},
        output_bytes={task: acts[Phase.DUMP].n_bytes for task, acts in last.items() if Phase.DUMP in acts},
        argument_bytes={},
        known_s=known,
        default_run_s=median(runs.values()) if runs else 0.0,
        commit_s=commit_s,
        start_series=started(trace),
        failures=_failures(trace, last),
    )


def commits(trace: Trace) -> dict[int, float]:
    """step -> seconds of its hand-over and of letting go of what it held"""
    return {span.task: span.duration_s for span in trace.spans if span.phase is Phase.COMMIT}


def quick_commit_s(trace: Trace) -> float:
    """What the round trip itself takes: the commit that a fifth of all were quicker than."""
    ordered = sorted(commits(trace).values())
    return max(0.0, ordered[len(ordered) // 5]) if ordered else Costs.commit_s


def started(trace: Trace) -> tuple[Start, ...]:
    """The starts of the run's instances, in the order of demand. Those that were only woken are no starts."""
    by_worker: dict[str, list[Span]] = defaultdict(list)
    for span in trace.spans:
        if span.phase in STARTING or (span.phase is Phase.PROGRAM and span.task < 0):
            by_worker[span.worker].append(span)
    found: list[list[Span]] = []
    for spans in by_worker.values():
        for span in spans:
            if span.phase is Phase.INVOKE or not found or found[-1][0].worker != span.worker:
                found.append([])
            found[-1].append(span)
    begun = sorted(filter(_is_start, found), key=lambda spans: spans[0].begin_s)
    return tuple(map(_start, begun))


def _is_start(spans: list[Span]) -> bool:
    """Whoever was only woken left a warm INVOKE and nothing else."""
    return len(spans) > 1 or spans[0].detail == "cold"


def _start(spans: list[Span]) -> Start:
    """From the first act to the last; what lies between acts counts to the one before."""
    ends = [span.begin_s for span in spans[1:]] + [max(span.end_s for span in spans)]
    lengths: dict[Phase, float] = defaultdict(float)
    for span, end in zip(spans, ends, strict=True):
        lengths[span.phase] += max(0.0, end - span.begin_s)
    return Start(
        invoke_s=lengths[Phase.INVOKE],
        create_s=lengths[Phase.CREATE],
        boot_s=lengths[Phase.BOOT],
        import_s=lengths[Phase.IMPORT],
        register_s=lengths[Phase.REGISTER] + lengths[Phase.PROGRAM],
    )


def _last_attempts(trace: Trace) -> dict[int, dict[Phase, Span]]:
    """step -> phase -> its span, of the last attempt"""
    found: dict[int, dict[Phase, Span]] = {}
    attempts: dict[int, int] = {}
    for span in trace.spans:
        if span.task < 0 or span.phase in (Phase.COMMIT, Phase.QUEUE):
            continue
        if span.attempt > attempts.get(span.task, 0):
            attempts[span.task] = span.attempt
            found[span.task] = {}
        if span.attempt == attempts[span.task]:
            found[span.task][span.phase] = span
    return found


def _failures(trace: Trace, last: dict[int, dict[Phase, Span]]) -> dict[int, tuple[tuple[float, float], ...]]:
    """step -> (seconds run, pause until the next attempt) of each attempt before the last"""
    runs: dict[int, list[Span]] = defaultdict(list)
    for span in trace.spans:
        if span.phase is Phase.RUN:
            runs[span.task].append(span)
    found = {}
    for task, spans in runs.items():
        if len(spans) > 1 and task in last:
            ordered = sorted(spans, key=lambda span: span.attempt)
            found[task] = tuple(
                (one.duration_s, max(0.0, other.begin_s - one.end_s)) for one, other in pairwise(ordered)
            )
    return found
