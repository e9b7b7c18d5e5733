"""Failed attempts that a run is expected to have: a law for scenarios, a number for a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dagnb.graph.dag import Call, Dag
from dagnb.graph.options import back_off_bound_s
from dagnb.planning.failure_law import Attempts, FailureLaw
from dagnb.prediction.failures import FailureModel

# Values that stand for a random back-off, and attempts that have back-offs of their own.
_VALUES, _ATTEMPTS = 8, 8


def failure_laws(
    dag: Dag, codes: Sequence[str], model_of: Callable[[str, str], FailureModel]
) -> dict[int, FailureLaw]:
    """Returns task -> law of its failures, without tasks that never fail. O(tasks).

    codes: by task, the lasting hash of its function. model_of: of a hash and a name. A DAG without
    nodes has no retry policy: its attempts fail, and wait, as they did.
    """
    laws: dict[int, FailureLaw] = {}
    made: dict[tuple[str, str, int], FailureLaw | None] = {}
    for task, call in enumerate(dag.calls):
        kind = codes[task], call.function, id(call.options)
        if kind not in made:
            model = model_of(codes[task], call.function)
            made[kind] = model.law(*_policy(call)) if dag.nodes else model.law()
        law = made[kind]
        if law is not None:
            laws[task] = law
    return laws


def _policy(call: Call) -> tuple[int, Sequence[Sequence[float]]]:
    """Returns the retries of a task, and the equally likely back-offs before each of them."""
    options, back_offs = call.options, []
    for attempt in range(1, 1 + min(_ATTEMPTS, max(1, options.retries))):
        bound_s = back_off_bound_s(options.backoff_s, attempt)
        back_offs.append([bound_s * (i + 0.5) / _VALUES for i in range(_VALUES)])
    return options.retries, back_offs


def usual_failures(
    laws: Mapping[int, FailureLaw], run_s: Mapping[int, float]
) -> dict[int, Attempts]:
    """Returns task -> its failed attempts in a plan at median costs.

    There are as many as expected of all tasks together, to the nearest whole number, evenly spread
    over the tasks in the order of the DAG: a median for each task would be none for all.
    Source: Cochran 1977, Sampling Techniques, chapter 8 (systematic sampling).
    """
    failures = {}
    expected, n_before = 0.5, 0
    for task, law in laws.items():
        expected += law.mean_failures
        n = min(law.most, int(expected) - n_before)
        if n:
            failures[task] = law.usual(n, run_s[task])
            n_before += n
    return failures
