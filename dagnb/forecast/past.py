"""A run of the past as a problem to plan again, at measured or at predicted costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from dagnb.errors import ConfigError
from dagnb.forecast.background import PREDICTED_STEPS
from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph.brief import brief
from dagnb.graph.dag import Call, Dag
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Basis, Costs, LinearCost, Pool, Problem, StartCost, Uncertainty
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.simulation.replay import measured
from dagnb.trace.trace import Phase, Trace

T = TypeVar("T")

MEASURED = Basis("measured in that run")


@dataclass(frozen=True, kw_only=True)
class Past:
    """A run that is over. state: how it ended. trace: by step of the plan it ran with."""

    run: str
    description: RunDescription
    state: RunState
    trace: Trace

    __repr__ = brief

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The first step of each task; copies that the plan made are not planned again."""
        copy_of = enumerate(self.description.copy_of)
        return tuple(step for step, first in copy_of if first is None)

    @cached_property
    def dag(self) -> Dag:
        """The DAG that was planned, as far as the description of the run has it."""
        dag = self.description.dag
        number = {step: task for task, step in enumerate(self.steps)}
        # A copy stands for the same value as the first step of its task.
        task_of = [
            number[step if first is None else first]
            for step, first in enumerate(self.description.copy_of)
        ]
        calls: list[Call] = []
        for step in self.steps:
            call = dag.calls[step]
            upstream = dict.fromkeys(task_of[u] for u in call.upstream)
            calls.append(replace(call, upstream=tuple(upstream)))
        return Dag(tuple(calls), tuple(task_of[sink] for sink in dag.sinks))

    def measured(self, knowledge: Knowledge) -> Problem:
        """Returns the problem at the costs that the run measured.

        Acts that did not happen in it cost what the platform usually takes.
        """
        seen = measured(self.trace, len(self.description.names))
        tasks = {step: task for task, step in enumerate(self.steps)}
        known_s = {}
        for (step, act), seconds in seen.known_s.items():
            if step in tasks:
                known_s[tasks[step], act] = seconds
        costs = self._expected(knowledge).with_(
            run_s=_renumbered(seen.run_s, tasks),
            output_bytes=_renumbered(seen.output_bytes, tasks),
            known_s=known_s,
            import_s={},
            default_run_s=seen.default_run_s,
            commit_s=seen.commit_s,
            start_series=seen.start_series,
            failures=_renumbered(seen.failures, tasks),
            uncertainty=Uncertainty(),
            basis=dict.fromkeys(range(len(tasks)), MEASURED),
        )
        return self._problem(costs)

    def predicted(self, knowledge: Knowledge) -> Problem:
        """Returns the problem at the costs that all past runs lead to expect."""
        return self._problem(self._expected(knowledge))

    def _problem(self, costs: Costs) -> Problem:
        return Problem(dag=self.dag, costs=costs, pool=self.description.pool or Pool())

    def _expected(self, knowledge: Knowledge) -> Costs:
        description = self.description
        # A description without codes or keys gives none: functions are known by their names then.
        codes, keys = self._by_task(description.codes), self._by_task(description.keys)
        arguments = self._argument_bytes()
        pool = description.pool or Pool()
        return expected_costs(
            self.dag,
            knowledge,
            description.platform,
            codes,
            keys,
            arguments,
            is_agent_gone=pool.is_agent_gone,
        )

    def _by_task(self, by_step: Sequence[str]) -> Sequence[str]:
        return [by_step[step] for step in self.steps] if by_step else ()

    def _argument_bytes(self) -> dict[int, int]:
        """Returns the bytes that each task unpickled beside the values of upstream tasks."""
        loaded: dict[int, int] = {}
        dumped: dict[int, int] = {}
        for span in self.trace.spans:
            if span.phase is Phase.LOAD:
                loaded[span.task] = span.n_bytes
            elif span.phase is Phase.DUMP:
                dumped[span.task] = span.n_bytes

        arguments = {}
        for task, step in enumerate(self.steps):
            if step in loaded:
                values = sum(dumped.get(u, 0) for u in self.description.upstream[step])
                # Below 0 where a task reads less than the whole of a value.
                arguments[task] = max(0, loaded[step] - values)
        return arguments


def expected_plan(description: RunDescription, knowledge: Knowledge) -> Plan | None:
    """Returns the plan of a run that goes on, with the costs that past runs lead to expect.

    A process that attaches has no other forecast: its run is planned elsewhere. Bytes of arguments
    count as 0. None for a large plan, and for one with copies of tasks, whose steps are no DAG of
    tasks. Raises HistoryError.
    """
    has_copies = description.copy_of.count(None) < len(description.copy_of)
    if has_copies or len(description.names) > PREDICTED_STEPS:
        return None
    nothing_yet = Trace((), description.names, 0.0, 0.0)
    run = Past(run="", description=description, state=RunState.RUNNING, trace=nothing_yet)
    return replace(description.plan, problem=run.predicted(knowledge))


def changed(
    problem: Problem,
    *,
    cap: int | None = None,
    cold_s: float | None = None,
    bytes_per_s: float | None = None,
) -> Problem:
    """Returns the problem under other conditions; None leaves one as it is.

    cap: workers at a time. cold_s: seconds of a cold start. bytes_per_s: speed of transfers.
    Raises ConfigError for impossible values.
    """
    _require("cap", cap, 1)
    _require("cold_s", cold_s, 0)
    _require("bytes_per_s", bytes_per_s, 1)

    costs, changes = problem.costs, dict[str, Any]()
    if cold_s is not None:
        # Starts that the run measured would win over the general one, so the cold ones go.
        warm = {key: start for key, start in costs.starts.items() if key[1]}
        changes |= {"cold": StartCost(invoke_s=cold_s), "starts": warm, "start_series": ()}
    if bytes_per_s is not None:
        others = dict(costs.known_s)
        for key in costs.known_s:
            if key[1] in {"fetch", "store"}:
                del others[key]
        fetch = LinearCost(costs.fetch.base_s, 1 / bytes_per_s)
        store = LinearCost(costs.store.base_s, 1 / bytes_per_s)
        changes |= {"known_s": others, "fetch": fetch, "store": store}
    if cap is not None:
        problem = replace(problem, pool=replace(problem.pool, cap=cap))
    return replace(problem, costs=costs.with_(**changes))


def _require(name: str, value: float | None, least: int) -> None:
    # "not >=" refuses NaN, too.
    if value is not None and not value >= least:
        raise ConfigError(
            f"{name}={value!r}: must be {least} or more; leave it out to keep what is known."
        )


def _renumbered(values: Mapping[int, T], tasks: Mapping[int, int]) -> dict[int, T]:
    """Returns values by task instead of by step, without those of copies."""
    return {tasks[step]: value for step, value in values.items() if step in tasks}
