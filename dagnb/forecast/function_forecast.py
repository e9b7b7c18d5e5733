"""The forecast of a function: expected duration and output size, with the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from dagnb.errors import UnknownNameError
from dagnb.forecast.compare import aligned
from dagnb.graph.brief import brief
from dagnb.graph.client_hook import ShownOrText
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.prediction.estimate import Estimate, Sigma
from dagnb.prediction.experts import AFFINE
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.predictor import Predictor

if TYPE_CHECKING:
    from dagnb.forecast.knowledge import Knowledge

HEADS = (
    "resources",
    "samples",
    "input",
    "run P50",
    "run P90",
    "output P50",
    "output P90",
    "model",
    "machine noise",
    "own noise",
)
# Number of sizes at which the curve is computed: enough for a smooth line in a notebook cell.
CURVE = 25
# The curve begins at the smallest size seen divided by this, and ends at the largest times this, to
# show how the model extrapolates.
REACH = 4.0

# Expert -> the relation of bytes read and value that it assumes.
_RELATIONS = {
    "usual value": "constant",
    "last value": "constant",
    "last ratio": "linear",
    "nearest ratios": "linear between similar sizes",
    "nearest sizes": "median of similar sizes",
    "Bayes": "mixed, by evidence",
    **dict.fromkeys(AFFINE, "affine"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The forecast of a task with these resources that reads n_bytes.

    n: samples measured with these resources. run: seconds. output: bytes.
    """

    resources: Resources
    n: int
    n_bytes: int
    run: Estimate
    output: Estimate

    @property
    def relation(self) -> str:
        """The relation of its time to the bytes it reads, in words."""
        return relation(self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One sample: the bytes it read, the seconds it ran, the bytes of its result."""

    n_bytes: int
    run_s: float
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionForecast(ShownOrText):
    """The forecast of a function.

    lines: by resources, those with most samples first. sigma: the uncertainty of its time: the part
    that a whole run shares, and that of each task. codes: versions of its code that were seen.
    points: samples, oldest first. curve: (bytes, p10, p50, p90 seconds) for the resources of the
    first line.
    """

    name: str
    lines: tuple[Expected, ...]
    sigma: Sigma
    codes: int
    points: tuple[CurvePoint, ...]
    curve: tuple[tuple[int, float, float, float], ...]

    __repr__ = brief

    @property
    def basis(self) -> str:
        """The evidence for the predicted time, in words."""
        return self.lines[0].run.source

    def __str__(self) -> str:
        """Returns a line for each resources under HEADS, and the evidence."""
        title = f"{self.name}: {self.basis}"
        if self.codes > 1:
            title += f", {self.codes} versions of its code"
        rows = aligned([HEADS, *map(self._cells, self.lines)], str.ljust)
        return "\n".join([title, *rows])

    def _cells(self, line: Expected) -> tuple[str, ...]:
        # A question mark: the number is a default.
        mark = "" if line.run.is_known else "?"
        return (
            line.resources.label() or "default",
            str(line.n),
            f"{line.n_bytes:,} B",
            f"{line.run.p50:.3g} s{mark}",
            f"{line.run.p90:.3g} s{mark}",
            f"{line.output.p50:,.0f} B",
            f"{line.output.p90:,.0f} B",
            line.relation,
            f"{100 * self.sigma.shared:.0f} %",
            f"{100 * self.sigma.own:.0f} %",
        )


def function_forecast(
    name: str,
    knowledge: Knowledge,
    *,
    code: str = "",
    options: TaskOptions | None = None,
    n_bytes: int | None = None,
) -> FunctionForecast:
    """Returns what past runs lead to expect of the functions of this name. O(samples).

    code: lasting hash of the function; '' takes the newest that ran. n_bytes: bytes that the task
    reads; None takes the median. options: the hints of a task at hand; with them a function that
    never ran is no error. Raises UnknownNameError, HistoryError.
    """
    runs, _ = knowledge.history.samples([name])
    samples = [sample for run in runs for sample in run.samples]
    if not samples and options is None:
        functions = [known for known, _ in knowledge.history.functions()]
        raise UnknownNameError("function", name, functions)

    predictor = knowledge.predictor([name])
    code = code or max(samples, key=lambda sample: sample.ended_at).function
    points = []
    for sample in samples:
        if sample.run_s is not None:
            size, output_bytes = sample.input_bytes, sample.output_bytes
            point = CurvePoint(n_bytes=size, run_s=sample.run_s, output_bytes=output_bytes)
            points.append(point)

    function = _Function(predictor, name, code, options)
    lines = [
        function.line(resources, alike, n_bytes)
        for resources, alike in _by_resources(samples, options)
    ]
    sizes = [point.n_bytes for point in points] or [lines[0].n_bytes]
    return FunctionForecast(
        name=name,
        lines=tuple(lines),
        sigma=predictor.batch_sigma(code, name),
        codes=len({sample.function for sample in samples}),
        points=tuple(points),
        curve=function.curve(lines[0].resources, sizes),
    )


def relation(run: Estimate) -> str:
    """Returns the relation to the bytes read that a predicted time assumes, in words."""
    if not run.is_known:
        return "unknown"
    expert = run.basis.expert
    return _RELATIONS.get(expert, expert) or "hinted"


@dataclass(frozen=True, slots=True)
class _Function:
    """A function and its predictor."""

    predictor: Predictor
    name: str
    code: str
    options: TaskOptions | None

    def predicted(self, target: Target, n_bytes: int, resources: Resources) -> Estimate:
        return self.predictor.predict(
            target, self.code, self.name, n_bytes, resources, self.options
        )

    def line(
        self,
        resources: Resources,
        samples: Sequence[Sample],
        n_bytes: int | None,
    ) -> Expected:
        size = 0
        if n_bytes is not None:
            size = n_bytes
        elif samples:
            size = round(median([sample.input_bytes for sample in samples]))
        run = self.predicted(Target.RUN, size, resources)
        output = self.predicted(Target.OUTPUT, size, resources)
        n = len(samples)
        return Expected(resources=resources, n=n, n_bytes=size, run=run, output=output)

    def curve(
        self,
        resources: Resources,
        sizes: Sequence[int],
    ) -> tuple[tuple[int, float, float, float], ...]:
        """Returns quantiles at sizes that grow by equal ratios, from below those seen to above."""
        low, high = max(1.0, min(sizes) / REACH), max(1.0, *sizes) * REACH
        points: dict[int, tuple[int, float, float, float]] = {}
        for i in range(CURVE):
            # Small sizes round to equal numbers: those are computed once.
            n_bytes = round(low * (high / low) ** (i / (CURVE - 1)))
            if n_bytes not in points:
                run = self.predicted(Target.RUN, n_bytes, resources)
                points[n_bytes] = (n_bytes, run.quantile(0.1), run.p50, run.p90)
        return tuple(points.values())


def _by_resources(
    samples: Sequence[Sample],
    options: TaskOptions | None,
) -> list[tuple[Resources, list[Sample]]]:
    """Returns the samples of each resources, most samples first.

    The resources that a task at hand asks for are among them, measured or not.
    """
    groups: dict[Resources, list[Sample]] = {}
    if options is not None:
        groups[options.needs] = []
    for sample in samples:
        groups.setdefault(sample.resources, []).append(sample)
    if not groups:
        return [(DEFAULT, [])]
    return sorted(groups.items(), key=lambda group: (-len(group[1]), group[0].label()))
