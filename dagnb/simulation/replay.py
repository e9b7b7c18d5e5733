"""Replay: the simulator fed with what a run measured. What then differs from reality is the simulator's own error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.costs import Costs, StartCost
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.span import Phase, Span
from dagnb.trace.starts import WorkerStart, comings, starts
from dagnb.trace.trace import Trace

ALIKE = 1e-6
"""starts that differ by less of their length are as long"""
_ACTS = {Phase.FETCH: "fetch", Phase.LOAD: "load", Phase.DUMP: "dump", Phase.STORE: "store"}


def replay(plan: Plan, trace: Trace, pool: Pool) -> Trace:
    """The run of this plan again, in virtual time, every act as long as it was. Positions are those of the steps."""
    costs = measured(trace, len(plan.steps))
    needs = None if pool.eager else {step: found.resources for step, found in enumerate(plan.steps)}
    return simulate(plan, costs.with_(**_starts(trace, needs)), pool)


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
    known |= {
        (task, "release"): max(0.0, seconds - commit_s) for task, seconds in commits(trace).items()
    }
    return Costs(
        run_s={task: max(0.0, seconds) for task, seconds in runs.items() if task < n_steps},
        output_bytes={
            task: acts[Phase.DUMP].n_bytes for task, acts in last.items() if Phase.DUMP in acts
        },
        argument_bytes={},
        known_s=known,
        default_run_s=median(runs.values()) if runs else 0.0,
        commit_s=commit_s,
        wake_s=_wake_s(trace),
        start_series=started(trace),
        failures=_failures(trace, last, commit_s),
    )


def commits(trace: Trace) -> dict[int, float]:
    """step -> seconds of its hand-over and of letting go of what it held"""
    return {span.task: span.duration_s for span in trace.spans if span.phase is Phase.COMMIT}


def quick_commit_s(trace: Trace) -> float:
    """What the round trip itself takes: the commit that a fifth of all were quicker than."""
    ordered = sorted(commits(trace).values())
    return max(0.0, ordered[len(ordered) // 5]) if ordered else Costs.commit_s


def started(trace: Trace) -> tuple[StartCost, ...]:
    """The starts of the run's instances, in the order of demand."""
    return tuple(map(_start, starts(trace)))


def _start(coming: WorkerStart) -> StartCost:
    """Reading the program counts to registering."""
    seconds = coming.acts.get
    return StartCost(
        invoke_s=seconds(Phase.INVOKE, 0.0),
        create_s=seconds(Phase.CREATE, 0.0),
        boot_s=seconds(Phase.BOOT, 0.0),
        import_s=seconds(Phase.IMPORT, 0.0),
        register_s=seconds(Phase.REGISTER, 0.0) + seconds(Phase.PROGRAM, 0.0),
    )


def _wake_s(trace: Trace) -> float:
    """From a hint until an instance that waited has the task."""
    woken = [coming.total_s for coming in comings(trace) if not coming.is_start]
    return max(0.0, median(woken)) if woken else Costs.wake_s


def _starts(trace: Trace, needs: Mapping[int, Resources] | None) -> dict[str, Any]:
    """Prices of starts by resources, where starts of one kind are alike; else nothing, and their series holds.

    A series goes wrong after an instance that came too late to do anything, because nothing tells of it. So does a
    usual price where all of a kind came too late: then a start took until the end. needs: of each step; None where all
    instances start at submission and are alike.
    """
    where = {span.worker: needs[span.task] for span in trace.spans if needs and span.task in needs}
    found: dict[tuple[Resources, bool], list[StartCost]] = defaultdict(list)
    for coming in starts(trace):
        found[where.get(coming.worker, DEFAULT), coming.detail == "warm"].append(_start(coming))
    if not found or not all(map(_are_alike, found.values())):
        return {}
    never = StartCost(invoke_s=trace.makespan_s)
    kinds = {kind: alike[0] for kind, alike in found.items()}
    if needs is None:
        return {"cold": kinds.get((DEFAULT, False), never), "start_series": ()}
    return {"starts": kinds, "cold": never, "warm": never, "start_series": ()}


def _are_alike(starts: Sequence[StartCost]) -> bool:
    totals = [start.total_s for start in starts]
    return max(totals) - min(totals) <= ALIKE * max(totals) + 1e-6


def _last_attempts(trace: Trace) -> dict[int, dict[Phase, Span]]:
    """step -> phase -> its span, of the last attempt; what it need not fetch again, of an earlier one"""
    found: dict[int, dict[Phase, Span]] = {}
    attempts: dict[int, int] = {}
    for span in trace.spans:
        if span.task < 0 or span.phase in (Phase.COMMIT, Phase.QUEUE):
            continue
        if span.attempt > attempts.get(span.task, 0):
            attempts[span.task] = span.attempt
            found[span.task] = {
                p: s for p, s in found.get(span.task, {}).items() if p is Phase.FETCH
            }
        if span.attempt == attempts[span.task]:
            found[span.task][span.phase] = span
    return found


def _failures(
    trace: Trace, last: dict[int, dict[Phase, Span]], commit_s: float
) -> dict[int, tuple[tuple[float, float], ...]]:
    """step -> (seconds run, back-off until the next is ready) of each attempt before the last"""
    runs: dict[int, dict[int, Span]] = defaultdict(dict)
    ready: dict[tuple[int, int], float] = {}
    for span in trace.spans:
        if span.task not in last:
            continue
        if span.phase is Phase.RUN:
            runs[span.task][span.attempt] = span
        if span.phase is not Phase.COMMIT:
            ready.setdefault((span.task, span.attempt), span.begin_s)
    found = {}
    for task, attempts in runs.items():
        ordered = [attempts[number] for number in sorted(attempts)]
        found[task] = tuple(
            (max(0.0, one.duration_s), _pause_s(ready[task, other.attempt] - one.end_s - commit_s))
            for one, other in pairwise(ordered)
        )
    return {task: failed for task, failed in found.items() if failed}


def _pause_s(seconds: float) -> float:
    """A back-off, none where there is but a rounding: an instance goes on at once then, and does not leave."""
    return seconds if seconds > 1e-9 else 0.0
