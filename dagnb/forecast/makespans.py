"""The three makespans of a run, and where the difference lies.

plan: foretold. replay: simulated with what the run measured. real: what it was. real - replay is the simulator's error,
replay - plan that of the predictions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.brief import brief
from dagnb.graph.node import verbs
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Pool
from dagnb.protocol.run_description import RunDescription
from dagnb.simulation.replay import replay
from dagnb.trace.critical import critical_steps
from dagnb.trace.span import STARTING, Phase
from dagnb.trace.trace import Trace

CAUSES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayCause:
    """A phase of a task that took longer (or, below 0, shorter) than foretold, seconds; task '' for workers' starts."""

    task: str
    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Makespans:
    """Seconds from submission to the last sink in the store. plan_s, forecast: None when nothing was foretold.

    real, replayed, planned, upstream, sinks, functions: to be drawn; the traces by step.
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
        """What the simulator does not know: real - replay."""
        return self.real_s - self.replay_s

    @property
    def prediction_s(self) -> float | None:
        """What was predicted wrongly: replay - plan."""
        return self.replay_s - self.plan_s if self.plan_s is not None else None

    @property
    def in_band(self) -> bool | None:
        """Whether the real one lies inside the 80 % band that was foretold."""
        return self.forecast.covers(self.real_s) if self.forecast is not None else None

    def __str__(self) -> str:
        """Three makespans and the parts of the difference, in lines."""
        lines = []
        if self.plan_s is not None and self.prediction_s is not None:
            band = (
                f", {self.forecast.p10_s:.3g} to {self.forecast.p90_s:.3g} s in 8 of 10"
                if self.forecast
                else ""
            )
            lines.append(f"plan   {self.plan_s:9.3f} s{band}")
            lines.append(f"replay {self.replay_s:9.3f} s   predictions: {self.prediction_s:+.3f} s")
        else:
            lines.append(f"replay {self.replay_s:9.3f} s")
        lines.append(f"real   {self.real_s:9.3f} s   model: {self.model_s:+.3f} s")
        lines += [
            f"  {c.seconds:+8.3f} s  {c.phase.value:8} {c.task or 'of workers'}"
            for c in self.causes
        ]
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The run beside its plan, where pictures can be shown."""
        return dict(verbs["show"](self)) if "show" in verbs else {"text/plain": str(self)}


def causes(
    planned: Trace, real: Trace, upstream: list[tuple[int, ...]], sinks: tuple[int, ...]
) -> tuple[DelayCause, ...]:
    """The largest differences on the critical paths of either, by size. O(spans)."""
    where = {*critical_steps(upstream, sinks, planned), *critical_steps(upstream, sinks, real)}
    predicted, came = _lengths(planned, where), _lengths(real, where)
    found = [
        DelayCause(
            task=real.names[task] if task >= 0 else "",
            phase=phase,
            seconds=came[task, phase] - predicted[task, phase],
        )
        for task, phase in {**predicted, **came}
    ]
    found = [cause for cause in found if abs(cause.seconds) > 1e-6]
    return tuple(sorted(found, key=lambda c: (-abs(c.seconds), c.task, c.phase.value))[:CAUSES])


def _lengths(trace: Trace, where: Iterable[int]) -> dict[tuple[int, Phase], float]:
    """(step, phase) -> seconds in all; starts of workers together as (-1, INVOKE), the mean of them."""
    found: dict[tuple[int, Phase], float] = defaultdict(float)
    steps, workers = set(where), set()
    for span in trace.spans:
        if span.task in steps and span.phase is not Phase.QUEUE:
            found[span.task, span.phase] += span.duration_s
        elif span.phase in STARTING:
            found[-1, Phase.INVOKE] += span.duration_s
            workers.add(span.worker)
    if workers:
        found[-1, Phase.INVOKE] /= len(workers)
    return found


def makespans(description: RunDescription, trace: Trace, plan: Plan | None = None) -> Makespans:
    """Of a run that ended well. plan: as it was made, where this process has it; else as described."""
    pool = description.pool or Pool()
    replayed = replay(description.plan, trace, pool)
    outlook = forecast_of(plan) if plan is not None else None
    forecast = description.forecast or (outlook.forecast if outlook is not None else None)
    found: tuple[DelayCause, ...] = ()
    if outlook is not None:
        found = causes(outlook.trace, trace, list(description.upstream), description.sinks)
    return Makespans(
        real_s=trace.makespan_s,
        replay_s=replayed.makespan_s,
        plan_s=forecast.p50_s if forecast is not None else None,
        forecast=forecast,
        causes=found,
        real=trace,
        replayed=replayed,
        planned=outlook.trace if outlook is not None else None,
        upstream=description.upstream,
        sinks=description.sinks,
        functions=description.functions,
    )
