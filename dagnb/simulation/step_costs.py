"""The costs of a plan by step, so that each act of a virtual worker looks up one list item."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan


class StepCosts:
    """Seconds and bytes of each step, lists by position. O(steps + edges), once a simulation.

    input_bytes, output_bytes: pickled. external_bytes: read from elsewhere, such as files.
    transfers: (bytes, upstream step) of the inputs that are too large to be sent with the task, the
      largest first.
    """

    __slots__ = (
        "dump_s",
        "external_bytes",
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

    def _upstream_bytes(
        self, costs: Costs, task: int, tasks: Sequence[int], upstream: Sequence[int]
    ) -> list[int]:
        if costs.edge_bytes:
            return [costs.edge(tasks[step], task) for step in upstream]
        return [self.output_bytes[step] for step in upstream]

    def _releases(self, costs: Costs, tasks: Sequence[int]) -> Sequence[float]:
        if not costs.release.s_per_byte and not any(act == "release" for _, act in costs.known_s):
            return [0.0] * len(tasks)  # the usual case, without a call a step
        return list(map(costs.releasing, tasks, self.input_bytes))


def _resource_ratio(plan: Plan, position: int) -> tuple[float, float]:
    """Returns the CPUs and memory of a step's worker, relative to those its task asks for."""
    step = plan.steps[position]
    requested = plan.dag.calls[step.task].options.resources
    return (1.0, 1.0) if requested is None else step.resources.over(requested)
