"""From history to a price list: sizes first, task by task down the DAG, then times."""

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
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.target import Target
from dagnb.prediction.totals import TaskContribution

MOST_UNCERTAINTY = 1.5
"""a scenario of a task that nobody measured stays within a few orders of magnitude"""


@dataclass(slots=True)
class _Prices:
    """Collected task by task."""

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
    """What every act of a run of this DAG will cost there. O(tasks + edges) predictions. Raises HistoryError.

    codes: lasting hash of each task's function; keys: of its call; argument_bytes: of its arguments that are no nodes;
    for a DAG without nodes.
    """
    codes, keys = codes or codes_of(dag), keys or lineage(dag)
    names = [call.function for call in dag.calls]
    predictor = knowledge.predictor(names)
    prices = _Prices(argument_bytes=dict(argument_bytes))
    for task, call in enumerate(dag.calls):
        if dag.nodes:
            prices.argument_bytes[task] = dag.nodes[task].packed.n_bytes
        given = sum(prices.output_bytes[u] for u in call.upstream) + prices.argument_bytes.get(
            task, 0
        )
        _price(
            prices,
            predictor,
            dag,
            task,
            codes[task] if codes else "",
            keys[task] if keys else "",
            given,
        )
    here = knowledge.platform(platform)
    own, batch = _doubts(prices, predictor, dag, codes)
    return Costs(
        run_s=prices.run_s,
        output_bytes=prices.output_bytes,
        argument_bytes=prices.argument_bytes,
        known_s=prices.known_s,
        fetch=here.fetch,
        store=here.store,
        commit_s=here.commit.base_s,
        release=LinearCost(0.0, here.commit.s_per_byte),
        program_s=here.program_s,
        submit_s=here.submit_s,
        return_s=here.return_s,
        **_starts(here, {call.options.needs for call in dag.calls}),
        uncertainty=Uncertainty(run=own, batch=batch, transfer=here.transfer_spread, start=0.2),
        basis={task: estimate.source for task, estimate in prices.run.items()},
    )


def codes_of(dag: Dag) -> tuple[str, ...]:
    """The lasting hash of each task's function; nothing for a DAG without nodes."""
    found: dict[int, str] = {}
    for node in dag.nodes:
        if id(node.task) not in found:
            found[id(node.task)] = identity(node.task.function)
    return tuple(found[id(node.task)] for node in dag.nodes)


def _price(
    prices: _Prices, predictor: Predictor, dag: Dag, task: int, code: str, key: str, given: int
) -> None:
    """What one task reads, gives and takes."""
    call = dag.calls[task]
    needs, options = call.options.needs, call.options

    def told(target: Target, n_bytes: int) -> Estimate:
        return predictor.predict(target, code, call.function, n_bytes, needs, options, key)

    run, output = told(Target.RUN, given), told(Target.OUTPUT, given)
    prices.run[task], prices.run_s[task] = run, run.p50
    prices.output_bytes[task] = round(output.p50)
    prices.known_s[task, "load"] = told(Target.LOAD, given).p50
    prices.known_s[task, "dump"] = told(Target.DUMP, prices.output_bytes[task]).p50


def _doubts(
    prices: _Prices, predictor: Predictor, dag: Dag, codes: Sequence[str]
) -> tuple[dict[int, float], float]:
    """What is each task's own doubt, and what all share. What nobody measured shares nothing that is known."""
    shares = []
    own: dict[int, float] = {}
    found: dict[tuple[str, str, bool], float] = {}
    for task, call in enumerate(dag.calls):
        estimate, code = prices.run[task], codes[task] if codes else ""
        if not estimate.is_known:
            own[task] = min(MOST_UNCERTAINTY, estimate.spread)
            continue
        kind = (code, call.function, estimate.is_same_call)
        if kind not in found:
            found[kind] = predictor.batch_sigma(*kind[:2], is_same_call=kind[2]).own
        own[task] = min(MOST_UNCERTAINTY, math.hypot(found[kind], estimate.strange))
        shares.append(
            TaskContribution(call.function, prices.run_s[task], own[task], estimate.is_same_call)
        )
    return own, min(MOST_UNCERTAINTY, predictor.run_sigma(shares)) if shares else 0.0


def _starts(here: Platform, needs: set[Resources]) -> dict[str, Any]:
    """Starts by resources, and of others."""

    def told(resources: Resources, *, is_warm: bool) -> StartCost:
        return here.start(resources, is_warm=is_warm)

    known = [is_warm for is_warm in (True, False) if (not is_warm) in here.starts.pools]
    found: dict[str, Any] = {
        "starts": {
            (resources, is_warm): told(resources, is_warm=is_warm)
            for resources in needs
            for is_warm in known
        }
    }
    for is_warm in known:
        found["warm" if is_warm else "cold"] = told(Resources(), is_warm=is_warm)
    return found
