"""The state that all instances of a simulated run share: clock, state machine, fleet, spans.

The costs of a plan are held by step, so that each act of a virtual worker looks up one list item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import starmap
from typing import Any

from dagnb.planning.plan import Plan
from dagnb.planning.planner import Costs, Pool
from dagnb.protocol.layout import Kinds, Layout, lay_out
from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import Offer, Record, RunState
from dagnb.simulation.environment import Environment
from dagnb.simulation.fleet import VirtualFleet
from dagnb.trace.trace import Phase, Span


class StepCosts:
    """Seconds and bytes of each step, lists by position. O(steps + edges), once a simulation.

    input_bytes, output_bytes: pickled. external_bytes: read from elsewhere, such as files.
    transfers: (bytes, upstream step) of the inputs that are too large to be sent with the task, the
      largest first.
    imports: step -> (function, seconds), where something is imported. Only the first call of the
      function in a worker imports; where the function is '', the step itself does.
    """

    __slots__ = (
        "dump_s",
        "external_bytes",
        "imports",
        "input_bytes",
        "load_s",
        "output_bytes",
        "release_s",
        "run_s",
        "store_s",
        "transfers",
    )

    def __init__(self, plan: Plan, costs: Costs) -> None:
        tasks = [step.task for step in plan.steps]
        self.output_bytes = list(map(costs.output, tasks))
        self.run_s = [costs.run(task, _resource_ratio(plan, i)) for i, task in enumerate(tasks)]
        self.dump_s = list(map(costs.dumping, tasks))
        self.store_s = list(map(costs.storing, tasks))
        self.external_bytes = [costs.external_bytes.get(task, 0) for task in tasks]

        self.input_bytes: list[int] = []
        self.transfers: list[Sequence[tuple[int, int]]] = []
        for task, step in zip(tasks, plan.steps, strict=True):
            sizes = self._upstream_bytes(costs, task, tasks, step.upstream)
            self.input_bytes.append(sum(sizes) + costs.argument_bytes.get(task, 0))
            transfers = [
                (size, upstream)
                for size, upstream in zip(sizes, step.upstream, strict=True)
                if size > costs.inline_bytes
            ]
            # Most steps have one transfer at most, and need no call.
            if len(transfers) > 1:
                transfers.sort(reverse=True)
            self.transfers.append(transfers)

        self.load_s = list(map(costs.loading, tasks, self.input_bytes))
        self.release_s = self._releases(costs, tasks)
        self.imports = self._imports(plan, costs)

    def _upstream_bytes(
        self, costs: Costs, task: int, tasks: Sequence[int], upstream: Sequence[int]
    ) -> list[int]:
        if costs.edge_bytes:
            return [costs.edge(tasks[step], task) for step in upstream]
        return [self.output_bytes[step] for step in upstream]

    def _imports(self, plan: Plan, costs: Costs) -> dict[int, tuple[str, float]]:
        imports: dict[int, tuple[str, float]] = {}
        for position, step in enumerate(plan.steps):
            if step.task in costs.import_s:
                function = plan.dag.calls[step.task].function
                imports[position] = function, costs.import_s[step.task]
            if (step.task, "import") in costs.known_s:
                imports[position] = "", costs.known_s[step.task, "import"]
        return imports

    def _releases(self, costs: Costs, tasks: Sequence[int]) -> Sequence[float]:
        if not costs.release.s_per_byte and not any(act == "release" for _, act in costs.known_s):
            return [0.0] * len(tasks)  # the usual case, without a call a step
        return list(map(costs.releasing, tasks, self.input_bytes))


def _resource_ratio(plan: Plan, position: int) -> tuple[float, float]:
    """Returns the CPUs and memory of a step's worker, relative to those its task asks for."""
    step = plan.steps[position]
    requested = plan.dag.calls[step.task].options.resources
    return (1.0, 1.0) if requested is None else step.resources.over(requested)


def layout_for(plan: Plan, pool: Pool) -> Layout:
    """Returns the queues and records of a plan on such a pool; the same for all costs."""
    # Processes are all alike; a container fits the tasks of its resources, or of one worker.
    kinds = Kinds.ONE if pool.eager else Kinds.RESOURCES
    if pool.single:
        kinds = Kinds.WORKER
    cap = pool.cap if pool.cap is not None else len(plan.steps)
    return lay_out(plan, cap=cap, kinds=kinds)


class _Machine(Machine):
    """The state machine, with offers that carry no addresses: virtual values are not read."""

    def _offer(self, task: int) -> Offer:
        return Offer(
            task=task,
            attempt=self.attempt(task),
            record=None,
            inputs=(),
            # Virtual time begins at 0, so that cannot mean a task that was never in a queue.
            ready_at=self.ready_at.get(task, math.inf),
        )


class _SilentMachine(_Machine):
    """The same without a list of events, for simulations that need the outcome alone."""

    def _event(self, now: float, kind: str, task: int, worker: str) -> None:
        return


class SimulatedRun:
    """One run that is submitted at virtual time 0.

    tasks: DAG position of each step. rows: fields of the spans so far, in the order of Span.
    """

    def __init__(
        self, plan: Plan, costs: Costs, pool: Pool, layout: Layout, *, is_traced: bool = True
    ) -> None:
        """Submits the run and orders the first instances. is_traced: keep spans."""
        self.plan, self.costs, self.layout, self.is_traced = plan, costs, layout, is_traced
        self.environment = Environment()
        self.tasks = [step.task for step in plan.steps]
        self.step_costs = StepCosts(plan, costs)
        # Tuples, and spans only at the end: planners that search simulate thousands of runs.
        self.rows: list[tuple[Any, ...]] = []
        # Steps whose results an instance keeps; all other results are in the store.
        self.kept: set[int] = set()
        machine_class = _Machine if is_traced else _SilentMachine
        self.machine: Machine = machine_class(
            layout.bare("simulation"),
            0.0,
            "sim",
            lambda task, address: task not in self.kept,
            records=self._records(),
        )
        self.fleet = VirtualFleet(self, pool)
        self.fleet.open()

    def _records(self) -> Sequence[Record]:
        """Returns the records of the tasks, with retries enough for the failures in the costs."""
        failures = self.costs.failures
        if not failures:
            return self.layout.records
        # A replay repeats crashes as failures, which a real run does not count as retries.
        records = list(self.layout.records)
        for step, task in enumerate(self.tasks):
            n_failures = len(failures.get(task, ()))
            if n_failures > records[step].retries:
                records[step] = replace(records[step], retries=n_failures)
        return tuple(records)

    @property
    def spans(self) -> list[Span]:
        """The spans so far, in the order of `rows`."""
        return list(starmap(Span, self.rows))

    def record(
        self,
        task: int,
        worker: str,
        phase: Phase,
        begin_s: float,
        end_s: float,
        n_bytes: int,
        attempt: int,
        detail: str = "",
    ) -> None:
        """Keeps a span."""
        if self.is_traced:
            self.rows.append((task, worker, phase, begin_s, end_s, n_bytes, attempt, detail))

    def deliver_hints(self) -> float:
        """Wakes or starts the instances that the last step of the state machine asked for.

        Returns the seconds for which the caller is busy with that.
        """
        machine = self.machine
        if machine.state is not RunState.RUNNING:
            machine.take_hints()
            self.fleet.close()
        elif machine.hints or machine.kind_hints:
            return self.fleet.hint(machine.take_hints())
        return 0.0

    def give_back(self, instance: str, task: int, attempt: int) -> None:
        """Takes the step of a supervisor whose worker has a task that takes long."""
        self.machine.give_back(instance, task, attempt, now=self.environment.now, fresh="sim")
        self.deliver_hints()

    def wake_when_due(self) -> None:
        """Schedules the end of the next back-off, at which no instance takes a step."""
        due = self.machine.next_due()
        if due is not None:
            wait_s = max(0.0, due - self.environment.now)
            self.environment.later(wait_s, lambda: self._end_back_off(due))

    def _end_back_off(self, due: float) -> None:
        # `now` is the sum of a moment and a wait, and may be rounded to just below `due`: the task
        # would not be ready yet, and this would be repeated for ever.
        self.machine.reap(now=max(self.environment.now, due), fresh="sim")
        self.deliver_hints()
        self.wake_when_due()
