"""The expected costs of a run, from history: sizes first, task by task down the DAG, then times.

    bytes read ---> output size ---> bytes that the next tasks read ---> ...
        |               |
        v               v
    run, unpickle     pickle

Sizes and times are medians of predictions, bytes and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dagnb.forecast.knowledge import Knowledge, Platform
from dagnb.graph.dag import Dag
from dagnb.graph.identity import identity
from dagnb.graph.lineage import lineage
from dagnb.graph.resources import Resources
from dagnb.planning.costs import Costs, LinearCost, StartCost, Uncertainty
from dagnb.prediction.estimate import Estimate
from dagnb.prediction.observation import Target
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.spread import TaskContribution

# A scenario of an unmeasured task stays within a few orders of magnitude.
MOST_UNCERTAINTY = 1.5
# Standard deviation of log start times: those of one platform are alike.
_START_SIGMA = 0.2


@dataclass(slots=True)
class _TaskCosts:
    """The costs of tasks, collected in the order of the DAG."""

    run: dict[int, Estimate] = field(default_factory=dict)
    run_s: dict[int, float] = field(default_factory=dict)
    output_bytes: dict[int, int] = field(default_factory=dict)
    argument_bytes: dict[int, int] = field(default_factory=dict)
    known_s: dict[tuple[int, str], float] = field(default_factory=dict)


def expected_costs(
    dag: Dag,
    knowledge: Knowledge,
    platform: str,
    codes: Sequence[str] = (),
    keys: Sequence[str] = (),
    argument_bytes: Mapping[int, int] = MappingProxyType({}),
) -> Costs:
    """Returns the expected cost of every act of a run of this DAG. O(tasks + edges) predictions.

    codes, keys, argument_bytes: by task, for a DAG without nodes: the lasting hash of its function
    (graph/identity.py), the hash of its call (graph/lineage.py), the bytes of its arguments that
    are no nodes.
    Raises HistoryError.
    """
    # If there are neither nodes nor codes, functions are recognised by their names alone.
    unknown = [""] * len(dag)
    codes, keys = codes or codes_of(dag) or unknown, keys or lineage(dag) or unknown
    predictor = knowledge.predictor([call.function for call in dag.calls])
    tasks = _TaskCosts(argument_bytes=dict(argument_bytes))
    for task, call in enumerate(dag.calls):
        if dag.nodes:
            tasks.argument_bytes[task] = dag.nodes[task].packed.n_bytes
        # Tasks come in topological order, so the sizes of all upstream values are predicted by now.
        input_bytes = sum(tasks.output_bytes[u] for u in call.upstream)
        input_bytes += tasks.argument_bytes.get(task, 0)
        _add_task(tasks, predictor, dag, task, codes[task], keys[task], input_bytes)

    acts = knowledge.platform(platform)
    own, shared = _uncertainty(tasks, predictor, dag, codes)
    return Costs(
        run_s=tasks.run_s,
        output_bytes=tasks.output_bytes,
        argument_bytes=tasks.argument_bytes,
        known_s=tasks.known_s,
        fetch=acts.fetch,
        store=acts.store,
        commit_s=acts.commit.base_s,
        release=LinearCost(0.0, acts.commit.s_per_byte),
        program_s=acts.program_s,
        submit_s=acts.submit_s,
        return_s=acts.return_s,
        **_starts(acts, {call.options.needs for call in dag.calls}),
        uncertainty=Uncertainty(
            run=own, batch=shared, transfer=acts.transfer_spread, start=_START_SIGMA
        ),
        basis={task: estimate.basis for task, estimate in tasks.run.items()},
    )


def codes_of(dag: Dag) -> tuple[str, ...]:
    """Returns the lasting hash of each task's function; nothing for a DAG without nodes."""
    # Hashing a function is slow, and a wide DAG calls few functions often.
    by_task: dict[int, str] = {}
    for node in dag.nodes:
        if id(node.task) not in by_task:
            by_task[id(node.task)] = identity(node.task.function)
    return tuple(by_task[id(node.task)] for node in dag.nodes)


def _add_task(
    tasks: _TaskCosts,
    predictor: Predictor,
    dag: Dag,
    task: int,
    code: str,
    key: str,
    input_bytes: int,
) -> None:
    """Predicts one task: its run time, output size, and times to unpickle and pickle."""
    call = dag.calls[task]
    options = call.options

    def predicted(target: Target, n_bytes: int) -> Estimate:
        needs = options.needs
        return predictor.predict(target, code, call.function, n_bytes, needs, options, key)

    run = predicted(Target.RUN, input_bytes)
    tasks.run[task], tasks.run_s[task] = run, run.p50
    output_bytes = round(predicted(Target.OUTPUT, input_bytes).p50)
    tasks.output_bytes[task] = output_bytes
    tasks.known_s[task, "load"] = predicted(Target.LOAD, input_bytes).p50
    tasks.known_s[task, "dump"] = predicted(Target.DUMP, output_bytes).p50


def _uncertainty(
    tasks: _TaskCosts,
    predictor: Predictor,
    dag: Dag,
    codes: Sequence[str],
) -> tuple[dict[int, float], float]:
    """Returns each task's own uncertainty, and the one that all tasks of a run share."""
    contributions = []
    own: dict[int, float] = {}
    # Equal functions share a sigma, which costs as much as a prediction.
    sigmas: dict[tuple[str, str, bool], float] = {}
    for task, call in enumerate(dag.calls):
        estimate = tasks.run[task]
        # Unmeasured functions have no shared error: there is no past run to learn it from.
        if not estimate.is_known:
            own[task] = min(MOST_UNCERTAINTY, estimate.spread)
            continue

        name, is_same_call = call.function, estimate.is_same_call
        kind = (codes[task], name, is_same_call)
        if kind not in sigmas:
            sigma = predictor.batch_sigma(codes[task], name, is_same_call=is_same_call)
            sigmas[kind] = sigma.own
        own[task] = min(MOST_UNCERTAINTY, math.hypot(sigmas[kind], estimate.unseen_sigma))
        contributions.append(TaskContribution(name, tasks.run_s[task], own[task], is_same_call))

    if not contributions:
        return own, 0.0
    return own, min(MOST_UNCERTAINTY, predictor.run_sigma(contributions))


def _starts(acts: Platform, needs: set[Resources]) -> dict[str, Any]:
    """Returns the fields of Costs about starts; those never measured keep their defaults."""
    starts: dict[tuple[Resources, bool], StartCost] = {}
    fields: dict[str, Any] = {"starts": starts}
    for is_warm, name in ((True, "warm"), (False, "cold")):
        if (not is_warm) not in acts.starts.models:
            continue
        for resources in needs:
            starts[resources, is_warm] = acts.start(resources, is_warm=is_warm)
        fields[name] = acts.start(Resources(), is_warm=is_warm)
    return fields
