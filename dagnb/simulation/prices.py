"""The price list laid out step by step, so that an act of a virtual worker is a look into a list."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.planning.costs import Costs
from dagnb.planning.plan import Plan


class StepPrices:
    """Of each step: seconds of its acts, bytes it reads and gives. O(steps + edges), once a simulation.

    far: inputs that cost a transfer unless they are at hand, (bytes, upstream step), the largest first.
    """

    __slots__ = (
        "dump_s",
        "far",
        "gives",
        "load_s",
        "outside",
        "reads",
        "release_s",
        "run_s",
        "store_s",
    )

    def __init__(self, plan: Plan, costs: Costs) -> None:
        tasks = [step.task for step in plan.steps]
        self.gives = [costs.output(task) for task in tasks]
        self.run_s = [costs.run(task, _ratio(plan, step)) for step, task in enumerate(tasks)]
        self.dump_s = [costs.dumping(task) for task in tasks]
        self.store_s = [costs.storing(task) for task in tasks]
        self.outside = [costs.external_bytes.get(task, 0) for task in tasks]
        self.reads: list[int] = []
        self.far: list[Sequence[tuple[int, int]]] = []
        for task, step in zip(tasks, plan.steps, strict=True):
            sizes = self._sizes(costs, task, tasks, step.upstream)
            self.reads.append(sum(sizes) + costs.argument_bytes.get(task, 0))
            far = [
                (n, u) for n, u in zip(sizes, step.upstream, strict=True) if n > costs.inline_bytes
            ]
            if len(far) > 1:
                far.sort(reverse=True)
            self.far.append(far)
        self.load_s = [costs.loading(task, n) for task, n in zip(tasks, self.reads, strict=True)]
        self.release_s = self._releases(costs, tasks)

    def _sizes(
        self, costs: Costs, task: int, tasks: Sequence[int], upstream: Sequence[int]
    ) -> list[int]:
        """Bytes read of each upstream step."""
        if costs.edge_bytes:
            return [costs.edge(tasks[u], task) for u in upstream]
        return [self.gives[u] for u in upstream]

    def _releases(self, costs: Costs, tasks: Sequence[int]) -> Sequence[float]:
        if not costs.release.s_per_byte and not any(act == "release" for _, act in costs.known_s):
            return [0.0] * len(tasks)
        return [costs.releasing(task, n) for task, n in zip(tasks, self.reads, strict=True)]


def _ratio(plan: Plan, position: int) -> tuple[float, float]:
    """What a step's worker has over what its task asks for."""
    step = plan.steps[position]
    asked = plan.dag.calls[step.task].options.resources
    return (1.0, 1.0) if asked is None else step.resources.over(asked)
