"""The three makespans of a run, and the causes of their differences.

    plan      forecast before the run
    replay    simulated again, with the times that the run measured
    real      measured

real - replay is the error of the simulator, replay - plan that of the predictions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.brief import brief
from dagnb.graph.client_hook import ShownOrText
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Pool
from dagnb.protocol.run_description import RunDescription
from dagnb.simulation.replay import replay
from dagnb.trace.critical import critical_steps
from dagnb.trace.trace import Phase, Trace

# Causes that are listed: the rest is small beside them.
CAUSES = 5
# Differences below a microsecond are rounding.
_LEAST_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayCause:
    """A phase of a task that took longer (or, below 0, shorter) than predicted, seconds.

    task: its name, '' for the starts of workers.
    """

    task: str
    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Makespans(ShownOrText):
    """Seconds from submission to the last sink in the store.

    plan_s, forecast: None without prediction. real, replayed, planned: traces by step, and
    upstream, sinks, functions: of the steps; all for pictures.
    """

    real_s: float
    replay_s: float
    plan_s: float | None = None
    forecast: Forecast | None = None
    causes: tuple[DelayCause, ...] = ()
    real: Trace | None = field(default=None, compare=False, repr=False)
    replayed: Trace | None = field(default=None, compare=False, repr=False)
    planned: Trace | None = field(default=None, compare=False, repr=False)
    upstream: tuple[tuple[int, ...], ...] = field(default=(), compare=False, repr=False)
    sinks: tuple[int, ...] = field(default=(), compare=False, repr=False)
    functions: tuple[str, ...] = field(default=(), compare=False, repr=False)

    __repr__ = brief

    @property
    def model_s(self) -> float:
        """The error of the simulator: real - replay."""
        return self.real_s - self.replay_s

    @property
    def prediction_s(self) -> float | None:
        """The error of the predictions: replay - plan."""
        if self.plan_s is None:
            return None
        return self.replay_s - self.plan_s

    @property
    def in_band(self) -> bool | None:
        """True if the real makespan lies inside the forecast of 8 in 10 runs."""
        if self.forecast is None:
            return None
        return self.forecast.covers(self.real_s)

    def __str__(self) -> str:
        """Returns three makespans and the causes of their differences, in lines."""
        lines = []
        replayed = f"replay {self.replay_s:9.3f} s"
        if self.plan_s is not None and self.prediction_s is not None:
            plan = f"plan   {self.plan_s:9.3f} s"
            if self.forecast:
                low, high = self.forecast.p10_s, self.forecast.p90_s
                plan += f", {low:.3g} to {high:.3g} s in 8 of 10"
            lines.append(plan)
            replayed += f"   predictions: {self.prediction_s:+.3f} s"
        lines.append(replayed)
        lines.append(f"real   {self.real_s:9.3f} s   model: {self.model_s:+.3f} s")
        for cause in self.causes:
            where = cause.task or "of workers"
            lines.append(f"  {cause.seconds:+8.3f} s  {cause.phase.value:8} {where}")
        return "\n".join(lines)


def causes(
    planned: Trace,
    real: Trace,
    upstream: list[tuple[int, ...]],
    sinks: tuple[int, ...],
) -> tuple[DelayCause, ...]:
    """Returns the largest delays on the critical path of plan or run, by size. O(spans)."""
    # A delay that is on neither path changes nothing: the run waited for another branch.
    steps = {*critical_steps(upstream, sinks, planned)}
    steps |= {*critical_steps(upstream, sinks, real)}
    predicted, measured = _lengths(planned, steps), _lengths(real, steps)

    differences = []
    for step, phase in {**predicted, **measured}:
        seconds = measured[step, phase] - predicted[step, phase]
        if abs(seconds) > _LEAST_S:
            task = real.names[step] if step >= 0 else ""
            differences.append(DelayCause(task=task, phase=phase, seconds=seconds))
    differences.sort(key=lambda cause: (-abs(cause.seconds), cause.task, cause.phase.value))
    return tuple(differences[:CAUSES])


def _lengths(trace: Trace, steps: Iterable[int]) -> dict[tuple[int, Phase], float]:
    """Returns (step, phase) -> seconds in all; starts of workers as (-1, INVOKE), their mean."""
    lengths: dict[tuple[int, Phase], float] = defaultdict(float)
    wanted, workers = set(steps), set()
    for span in trace.spans:
        # Time in a queue is the effect of other delays, not a cause.
        if span.task in wanted and span.phase is not Phase.QUEUE:
            lengths[span.task, span.phase] += span.duration_s
        elif span.is_start:
            lengths[-1, Phase.INVOKE] += span.duration_s
            workers.add(span.worker)
    if workers:
        lengths[-1, Phase.INVOKE] /= len(workers)
    return lengths


def makespans(description: RunDescription, trace: Trace, plan: Plan | None = None) -> Makespans:
    """Returns the makespans of a run that ended well.

    plan: the plan as it was made, if this process has it. Without it there are no delay causes.
    """
    replayed = replay(description.plan, trace, description.pool or Pool())
    expected = forecast_of(plan) if plan is not None else None
    if expected is not None and not expected.is_known:
        expected = None  # a guess is no plan that a run could be measured by
    forecast, planned = description.forecast, None
    delays: tuple[DelayCause, ...] = ()
    if expected is not None:
        # The forecast that was stored with the run counts: it is the one that was shown.
        forecast = forecast or expected.forecast
        planned = expected.trace
        delays = causes(planned, trace, list(description.upstream), description.sinks)
    plan_s = forecast.p50_s if forecast is not None else None
    return Makespans(
        real_s=trace.makespan_s,
        replay_s=replayed.makespan_s,
        plan_s=plan_s,
        forecast=forecast,
        causes=delays,
        real=trace,
        replayed=replayed,
        planned=planned,
        upstream=description.upstream,
        sinks=description.sinks,
        functions=description.functions,
    )
