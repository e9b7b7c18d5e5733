"""The attempts of tasks that were followed by another one, and the round trips that end attempts.

    attempt 1   load--import--run--commit, 'failed'
                                 |.................| the report, and the back-off
    attempt 2                                      ready--queue--load--run--dump--commit

Before another attempt a task waits for its back-off.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from dagnb.planning.planner import Costs
from dagnb.trace.trace import Phase, Span, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierAttempt:
    """An attempt that called its function and was not the last one of its task.

    load_s, import_s, run_s: seconds of its acts. wait_s: from the end of its function until the
    next attempt was ready, without the round trip of a report; 0 for no back-off.
    is_failure: its worker reported that it failed. An attempt whose worker died is none, and
    neither is one whose result was lost.
    """

    load_s: float
    import_s: float
    run_s: float
    wait_s: float
    is_failure: bool


def earlier_attempts(trace: Trace) -> dict[int, tuple[EarlierAttempt, ...]]:
    """Returns step -> its attempts before the last one, in order; only of steps that had any."""
    acts: dict[tuple[int, int], dict[Phase, float]] = defaultdict(lambda: defaultdict(float))
    runs: dict[int, dict[int, Span]] = defaultdict(dict)
    ready_at: dict[tuple[int, int], float] = {}
    failures: set[tuple[int, int]] = set()
    # Most runs have none, and a run of thousands of tasks is read at once.
    repeated = {span.task for span in trace.spans if span.attempt > 1}
    for span in trace.spans:
        attempt = span.task, span.attempt
        if span.task not in repeated:
            continue
        if span.phase is Phase.COMMIT:
            if span.detail == FAILED:
                failures.add(attempt)
            continue
        acts[attempt][span.phase] += max(0.0, span.duration_s)
        # The first span of an attempt begins when the attempt is ready.
        ready_at.setdefault(attempt, span.begin_s)
        if span.phase is Phase.RUN:
            runs[span.task][span.attempt] = span

    report_s = quick_commit_s(trace)
    earlier = {}
    for step, attempts in runs.items():
        ended = []
        for number, following in pairwise(sorted(attempts)):
            attempt = step, number
            wait_s = ready_at[step, following] - attempts[number].end_s - report_s
            ended.append(
                EarlierAttempt(
                    load_s=acts[attempt][Phase.LOAD],
                    import_s=acts[attempt][Phase.IMPORT],
                    run_s=acts[attempt][Phase.RUN],
                    # A rounding error is no back-off: with one, the worker would not go on.
                    wait_s=wait_s if wait_s > _ROUNDING_S else 0.0,
                    is_failure=attempt in failures,
                )
            )
        if ended:
            earlier[step] = tuple(ended)
    return earlier


FAILED = "failed"
"""The detail of a COMMIT that reports a failed attempt."""

_ROUNDING_S = 1e-9


def commits(trace: Trace) -> dict[int, float]:
    """Returns step -> seconds of its last commit, which includes freeing what the task held."""
    return {span.task: span.duration_s for span in trace.spans if span.phase is Phase.COMMIT}


def quick_commit_s(trace: Trace) -> float:
    """Returns the seconds of a round trip: the first quintile of all commits."""
    ordered = sorted(commits(trace).values())
    if not ordered:
        return Costs.commit_s
    # Not the minimum, which clock jitter distorts; not the median, in which releases count.
    return max(0.0, ordered[len(ordered) // 5])
