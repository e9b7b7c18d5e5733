"""Replay: a simulation in which every act takes as long as it did in a real run.

The replayed makespan differs from the real one only by what the simulator does not model. So the
error of a forecast has two parts:

    real - plan  =  (real - replay)       error of the model
                  + (replay - plan)       error of the predicted durations
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool, StartCost
from dagnb.simulation.simulate import simulate
from dagnb.trace.attempts import commits, earlier_attempts, quick_commit_s
from dagnb.trace.starts import WorkerStart, worker_starts
from dagnb.trace.trace import Phase, Span, Trace

ALIKE = 1e-6
"""Starts whose lengths differ by less than this share are taken as equally long."""
_ACTS = {
    Phase.FETCH: "fetch",
    Phase.LOAD: "load",
    Phase.IMPORT: "import",
    Phase.DUMP: "dump",
    Phase.STORE: "store",
}


def replay(plan: Plan, trace: Trace, pool: Pool) -> Trace:
    """Simulates the plan with the durations of its trace; positions are those of the steps."""
    costs = measured(trace, len(plan.steps))
    resources = None if pool.eager else [step.resources for step in plan.steps]
    return simulate(plan, costs.with_(**_start_costs(trace, resources)), pool)


def measured(trace: Trace, n_steps: int) -> Costs:
    """Returns the durations of a run as costs, by step.

    A function that left no span takes the median of the others.
    """
    last = _last_attempts(trace)
    run_s: dict[int, float] = {}
    output_bytes: dict[int, int] = {}
    known_s: dict[tuple[int, str], float] = {}
    for task, acts in last.items():
        if Phase.RUN in acts:
            run_s[task] = acts[Phase.RUN].duration_s
        if Phase.DUMP in acts:
            output_bytes[task] = acts[Phase.DUMP].n_bytes
        for phase, name in _ACTS.items():
            if phase in acts:
                # Clocks jitter: a very short act may end before it begins.
                known_s[task, name] = max(0.0, acts[phase].duration_s)

    # A commit also frees what the task held, which takes long for large values: that part is the
    # task's own, the round trip is the same for all.
    commit_s = quick_commit_s(trace)
    for task, seconds in commits(trace).items():
        known_s[task, "release"] = max(0.0, seconds - commit_s)
    return Costs(
        run_s={task: max(0.0, seconds) for task, seconds in run_s.items() if task < n_steps},
        output_bytes=output_bytes,
        argument_bytes={},
        known_s=known_s,
        default_run_s=median(run_s.values()) if run_s else 0.0,
        commit_s=commit_s,
        wake_s=_wake_s(trace),
        start_series=started(trace),
        failures=_failures(trace, known_s),
    )


def started(trace: Trace) -> tuple[StartCost, ...]:
    """Returns the starts of the run's instances, in the order of demand."""
    return tuple(map(_start_cost, worker_starts(trace)))


def _start_cost(start: WorkerStart) -> StartCost:
    """Returns the acts of a start; reading the program is counted as registering."""
    seconds = start.acts.get
    return StartCost(
        invoke_s=seconds(Phase.INVOKE, 0.0),
        create_s=seconds(Phase.CREATE, 0.0),
        boot_s=seconds(Phase.BOOT, 0.0),
        import_s=seconds(Phase.IMPORT, 0.0),
        register_s=seconds(Phase.REGISTER, 0.0) + seconds(Phase.PROGRAM, 0.0),
    )


def _wake_s(trace: Trace) -> float:
    """Returns the median time from a hint until a waiting instance has its task."""
    starts = worker_starts(trace, include_woken=True)
    woken = [start.total_s for start in starts if start.was_woken]
    return max(0.0, median(woken)) if woken else Costs.wake_s


def _start_costs(trace: Trace, resources: Sequence[Resources] | None) -> dict[str, Any]:
    """Returns changes of costs: one cost a kind of start, if all starts of a kind are alike.

    resources: of each step; None if all instances are alike and start at the submission. Empty if
    starts of a kind differ: then the series of starts from `measured` is used. A series is assigned
    in order of demand, and is wrong after an instance that registered too late to do anything,
    because such a start left no span. One cost for all starts of a kind avoids that.
    """
    resources_of: dict[str, Resources] = {}
    if resources is not None:
        for span in trace.spans:
            if 0 <= span.task < len(resources):
                resources_of[span.worker] = resources[span.task]

    by_kind: dict[tuple[Resources, bool], list[StartCost]] = defaultdict(list)
    for start in worker_starts(trace):
        is_warm = start.detail == "warm"
        by_kind[resources_of.get(start.worker, DEFAULT), is_warm].append(_start_cost(start))
    if not by_kind or not all(map(_are_alike, by_kind.values())):
        return {}

    # No instance of a kind without spans was ready before the end of the run.
    too_late = StartCost(invoke_s=trace.makespan_s)
    cost = {kind: alike[0] for kind, alike in by_kind.items()}
    if resources is None:
        return {"cold": cost.get((DEFAULT, False), too_late), "start_series": ()}
    return {"starts": cost, "cold": too_late, "warm": too_late, "start_series": ()}


def _are_alike(starts: Sequence[StartCost]) -> bool:
    totals = [start.total_s for start in starts]
    return max(totals) - min(totals) <= ALIKE * max(totals) + 1e-6


def _last_attempts(trace: Trace) -> dict[int, dict[Phase, Span]]:
    """Returns step -> phase -> its span, of the last attempt.

    FETCH may be of an earlier attempt: a retry on the same worker has its inputs already.
    """
    last: dict[int, dict[Phase, Span]] = {}
    attempts: dict[int, int] = {}
    for span in trace.spans:
        if span.task < 0 or span.phase in (Phase.COMMIT, Phase.QUEUE):
            continue
        acts = last.setdefault(span.task, {})
        if span.attempt > attempts.get(span.task, 0):
            attempts[span.task] = span.attempt
            for phase in acts.keys() - {Phase.FETCH}:
                del acts[phase]
        if span.attempt == attempts[span.task]:
            acts[span.phase] = span
    return last


def _failures(
    trace: Trace, known_s: Mapping[tuple[int, str], float]
) -> dict[int, tuple[tuple[float, float], ...]]:
    """Returns step -> (seconds run, back-off until the next) of each attempt before the last.

    The simulator gives each attempt of a step the LOAD of the last one, and lets no failed attempt
    import. So the seconds run include imports, and what its LOAD took beyond the last one.
    """
    failures: dict[int, tuple[tuple[float, float], ...]] = {}
    for step, attempts in earlier_attempts(trace).items():
        load_s = known_s.get((step, "load"), 0.0)
        failed = []
        for attempt in attempts:
            busy_s = attempt.load_s + attempt.import_s + attempt.run_s
            failed.append((max(0.0, busy_s - load_s), attempt.wait_s))
        failures[step] = tuple(failed)
    return failures
