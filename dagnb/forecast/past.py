"""A run of the past as a problem to plan again: its DAG, what it measured or what is expected of it now, its pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from dagnb.errors import ConfigError
from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph.brief import brief
from dagnb.graph.dag import Call, Dag
from dagnb.planning.costs import Costs, LinearCost, StartCost, Uncertainty
from dagnb.planning.planner import Pool, Problem
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.simulation.replay import measured
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace

T = TypeVar("T")

MEASURED = "measured in that run"


@dataclass(frozen=True, kw_only=True)
class Past:
    """A run that is over. state: how it ended."""

    run: str
    description: RunDescription
    state: RunState
    trace: Trace

    __repr__ = brief

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Of each task its first step: copies that a plan made are not planned again."""
        copy_of = self.description.copy_of
        return tuple(step for step, first in enumerate(copy_of) if first is None)

    @cached_property
    def dag(self) -> Dag:
        """The DAG that was planned, as far as the description says."""
        dag = self.description.dag
        place = {step: task for task, step in enumerate(self.steps)}
        task_of = [
            place[step if first is None else first]
            for step, first in enumerate(self.description.copy_of)
        ]
        calls: list[Call] = [
            replace(
                dag.calls[step],
                upstream=tuple(dict.fromkeys(task_of[u] for u in dag.calls[step].upstream)),
            )
            for step in self.steps
        ]
        return Dag(tuple(calls), tuple(task_of[sink] for sink in dag.sinks))

    def measured(self, knowledge: Knowledge) -> Problem:
        """At the prices that the run paid; what it did not do costs what the platform usually takes."""
        found = measured(self.trace, len(self.description.names))
        tasks = {step: task for task, step in enumerate(self.steps)}
        costs = self._expected(knowledge).with_(
            run_s=_renumbered(found.run_s, tasks),
            output_bytes=_renumbered(found.output_bytes, tasks),
            known_s={
                (tasks[step], act): s for (step, act), s in found.known_s.items() if step in tasks
            },
            default_run_s=found.default_run_s,
            commit_s=found.commit_s,
            start_series=found.start_series,
            failures=_renumbered(found.failures, tasks),
            doubt=Uncertainty(),
            basis=dict.fromkeys(range(len(tasks)), MEASURED),
        )
        return self._problem(costs)

    def predicted(self, knowledge: Knowledge) -> Problem:
        """At the prices that all past runs lead to expect."""
        return self._problem(self._expected(knowledge))

    def _problem(self, costs: Costs) -> Problem:
        return Problem(dag=self.dag, costs=costs, pool=self.description.pool or Pool())

    def _expected(self, knowledge: Knowledge) -> Costs:
        description = self.description
        codes = [description.codes[step] for step in self.steps] if description.codes else ()
        keys = [description.keys[step] for step in self.steps] if description.keys else ()
        return expected_costs(
            self.dag, knowledge, description.platform, codes, keys, self._argument_bytes()
        )

    def _argument_bytes(self) -> dict[int, int]:
        """What each task unpickled beside the values of others."""
        loaded = {span.task: span.n_bytes for span in self.trace.spans if span.phase is Phase.LOAD}
        given = {span.task: span.n_bytes for span in self.trace.spans if span.phase is Phase.DUMP}
        return {
            task: max(
                0, loaded[step] - sum(given.get(u, 0) for u in self.description.upstream[step])
            )
            for task, step in enumerate(self.steps)
            if step in loaded
        }


def changed(
    problem: Problem,
    *,
    cap: int | None = None,
    cold_s: float | None = None,
    bytes_per_s: float | None = None,
) -> Problem:
    """What if: so many workers at a time, cold starts of so many seconds, transfers so fast. None leaves it as it is.

    Raises ConfigError for what cannot be.
    """
    for name, value, least in (
        ("cap", cap, 1),
        ("cold_s", cold_s, 0),
        ("bytes_per_s", bytes_per_s, 1),
    ):
        if value is not None and not value >= least:
            raise ConfigError(
                f"{name}={value!r}: must be {least} or more; leave it out to keep what is known."
            )
    costs, changes = problem.costs, dict[str, Any]()
    if cold_s is not None:
        warm = {key: start for key, start in costs.starts.items() if key[1]}
        changes |= {"cold": StartCost(invoke_s=cold_s), "starts": warm, "start_series": ()}
    if bytes_per_s is not None:
        others = {key: s for key, s in costs.known_s.items() if key[1] not in {"fetch", "store"}}
        fetch, store = (
            LinearCost(law.base_s, 1 / bytes_per_s) for law in (costs.fetch, costs.store)
        )
        changes |= {"known_s": others, "fetch": fetch, "store": store}
    pool = problem.pool if cap is None else replace(problem.pool, cap=cap)
    return replace(problem, costs=costs.with_(**changes), pool=pool)


def _renumbered(values: Mapping[int, T], tasks: Mapping[int, int]) -> dict[int, T]:
    return {tasks[step]: value for step, value in values.items() if step in tasks}
