"""No system at all: a plain loop in this process; and joblib's map over items, for graphs that are pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.system import Graph, filled, plain


class Loop:
    """Calls one after the other, here."""

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call."""
        values: list[Any] = []
        for function, arguments in graph.calls:
            values.append(function(*filled(arguments, values, plain)))
        return values[-1]

    def tidy(self) -> None:
        """Do nothing: nothing is left."""

    def roots(self) -> dict[str, int]:
        """Returns none: this process is all."""
        return {}

    def close(self) -> None:
        """Do nothing: nothing was started."""


class Joblib(Loop):
    """Parallel(n_jobs=2) with its own processes; a task is all steps of an item."""

    def __init__(self) -> None:
        from joblib import Parallel  # noqa: PLC0415  # the loop needs none of it

        self._parallel = Parallel(n_jobs=2)

    def run(self, graph: Graph) -> Any:
        """Returns the value of the last call. A graph of another form is run here."""
        from joblib import delayed  # noqa: PLC0415  # as above

        pipelines = graph.pipelines
        if pipelines is None:
            return super().run(graph)
        each = [delayed(_through)(pipelines.steps, item) for item in pipelines.items]
        return pipelines.merge(*self._parallel(each))


def _through(steps: tuple[Callable[..., Any], ...], item: Any) -> Any:
    for step in steps:
        item = step(item)
    return item
