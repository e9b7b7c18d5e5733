"""What is known of a function: how long it runs, how much it gives, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from dagnb.errors import UnknownNameError
from dagnb.graph.brief import brief
from dagnb.graph.client_hook import ShownOrText
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.prediction.estimate import Estimate
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.spread import Sigma
from dagnb.prediction.target import Target
from dagnb.trace.sample import Sample

if TYPE_CHECKING:
    from dagnb.forecast.knowledge import Knowledge

HEADS = (
    "resources",
    "samples",
    "reads",
    "run P50",
    "run P90",
    "gives P50",
    "gives P90",
    "relation",
    "shared",
    "own",
)
CURVE = 25
"""sizes at which the curve is told"""
REACH = 4.0
"""the curve goes so many times beyond the sizes seen"""

_RELATIONS = {
    "usual value": "constant",
    "last value": "constant",
    "last ratio": "linear",
    "nearest ratios": "linear near by",
    "nearest sizes": "as near by",
    "Bayes": "mixed, by evidence",
}
"""way to predict -> what it takes the relation of bytes and value for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a task of these resources is expected to do with so many bytes. n: samples with these resources."""

    resources: Resources
    n: int
    n_bytes: int
    run: Estimate
    output: Estimate

    @property
    def relation(self) -> str:
        """Between the bytes it reads and its time, in words."""
        return relation(self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One sample: what was read, how long it ran, what it gave."""

    n_bytes: int
    run_s: float
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionForecast(ShownOrText):
    """A function by resources, those with most samples first. codes: how many versions of it were seen.

    sigma: how much of the doubt of its time a whole run shares, and how much is each task's own. points: samples, in
    the order of time. curve: (bytes, p10, p50, p90 seconds) for the resources that stand first.
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
        """What the predicted time rests on, in words."""
        return self.lines[0].run.source

    def __str__(self) -> str:
        """A line for each resources, and what they rest on."""
        cells = [HEADS, *(self._cells(line) for line in self.lines)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rows = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        versions = f", {self.codes} versions of its code" if self.codes > 1 else ""
        return "\n".join([f"{self.name}: {self.basis}{versions}", *rows])

    def _cells(self, line: Expected) -> tuple[str, ...]:
        known = "" if line.run.is_known else "?"
        return (
            line.resources.label() or "default",
            str(line.n),
            f"{line.n_bytes:,} B",
            f"{line.run.p50:.3g} s{known}",
            f"{line.run.p90:.3g} s{known}",
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
    """What past runs taught of the functions of this name. O(samples).

    code: lasting hash of the function; '' takes the newest that ran. options: its hints, for a task at hand; then a
    function that never ran is no error. n_bytes: what the task reads; None takes what is usual.
    Raises UnknownNameError, HistoryError.
    """
    runs, _ = knowledge.history.samples([name])
    samples = [sample for run in runs for sample in run]
    if not samples and options is None:
        raise UnknownNameError(
            "function", name, [known for known, _ in knowledge.history.functions()]
        )
    predictor = knowledge.predictor([name])
    code = code or max(samples, key=lambda sample: sample.ended_at).function
    points = tuple(
        CurvePoint(n_bytes=sample.input_bytes, run_s=sample.run_s, output_bytes=sample.output_bytes)
        for sample in samples
        if sample.run_s is not None
    )
    ask = _Asking(predictor, name, code, options)
    lines = tuple(
        ask.line(resources, of, n_bytes) for resources, of in _by_resources(samples, options)
    )
    return FunctionForecast(
        name=name,
        lines=lines,
        sigma=predictor.batch_sigma(code, name),
        codes=len({sample.function for sample in samples}),
        points=points,
        curve=ask.curve(
            lines[0].resources, [point.n_bytes for point in points] or [lines[0].n_bytes]
        ),
    )


def relation(run: Estimate) -> str:
    """What the way that foretold this takes for the relation to the bytes read, in words."""
    if not run.is_known or "," not in run.source:
        return "hinted" if run.is_known else "unknown"
    way = run.source.split(", ")[1]
    return "affine" if way.startswith("affine") else _RELATIONS.get(way, way)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A predictor and the function it is asked about."""

    predictor: Predictor
    name: str
    code: str
    options: TaskOptions | None

    def told(self, target: Target, n_bytes: int, resources: Resources) -> Estimate:
        return self.predictor.predict(
            target, self.code, self.name, n_bytes, resources, self.options
        )

    def line(self, resources: Resources, of: Sequence[Sample], n_bytes: int | None) -> Expected:
        usual = round(median([sample.input_bytes for sample in of])) if of else 0
        size = usual if n_bytes is None else n_bytes
        run, output = (self.told(target, size, resources) for target in (Target.RUN, Target.OUTPUT))
        return Expected(resources=resources, n=len(of), n_bytes=size, run=run, output=output)

    def curve(
        self, resources: Resources, sizes: Sequence[int]
    ) -> tuple[tuple[int, float, float, float], ...]:
        """At sizes that grow by equal ratios, from somewhat below those seen to somewhat above."""
        low, high = max(1.0, min(sizes) / REACH), max(1.0, *sizes) * REACH
        ladder = (round(low * (high / low) ** (i / (CURVE - 1))) for i in range(CURVE))
        found = []
        for n_bytes in dict.fromkeys(ladder):
            run = self.told(Target.RUN, n_bytes, resources)
            found.append((n_bytes, run.quantile(0.1), run.p50, run.p90))
        return tuple(found)


def _by_resources(
    samples: Sequence[Sample], options: TaskOptions | None
) -> list[tuple[Resources, list[Sample]]]:
    """The samples of each resources, most samples first; those a task at hand asks for are among them."""
    found: dict[Resources, list[Sample]] = {}
    if options is not None:
        found[options.needs] = []
    for sample in samples:
        found.setdefault(sample.resources, []).append(sample)
    return sorted(
        found.items() or {DEFAULT: []}.items(), key=lambda pair: (-len(pair[1]), pair[0].label())
    )
