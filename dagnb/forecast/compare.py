"""Compare planners on one problem without running it, at the same costs and scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dagnb.errors import DagnbError
from dagnb.failure import reason_of
from dagnb.forecast.plan_forecast import PlanForecast, forecast_of
from dagnb.graph.brief import brief, cut, number
from dagnb.graph.client_hook import ShownOrText
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Planner, Problem
from dagnb.simulation.simulate import Outcome

HEADS = ("planner", "P50 s", "P90 s", "GB s", "cold starts", "moved MB", "gap %", "planning ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerResult:
    """The plan of one planner, and what is expected of it. moved_bytes: see Trace.moved_bytes. gap:

    see PlanForecast.gap. planning_s: real seconds that planning took. problem: the reason, in
    words, if there is no plan; then plan, forecasts and outcome are None.
    """

    planner: str
    plan: Plan | None = None
    plan_forecast: PlanForecast | None = None
    forecast: Forecast | None = None
    outcome: Outcome | None = None
    moved_bytes: int = 0
    gap: float = 0.0
    planning_s: float = 0.0
    problem: str = ""

    __repr__ = brief

    @property
    def is_known(self) -> bool:
        """True if there is a plan, and its forecast is more than a guess."""
        return self.plan_forecast is not None and self.plan_forecast.is_known

    @property
    def cells(self) -> tuple[str, ...]:
        """The line under HEADS; a dash stands for what is not known."""
        planned = f"{1e3 * self.planning_s:.1f}"
        if self.forecast is None or self.outcome is None or not self.is_known:
            return (self.planner, *["-"] * (len(HEADS) - 2), planned)
        return (
            self.planner,
            f"{self.forecast.p50_s:.3f}",
            f"{self.forecast.p90_s:.3f}",
            f"{self.outcome.gb_s:.2f}",
            f"{self.outcome.n_cold}",
            f"{self.moved_bytes / 1e6:.3f}",
            f"{100 * self.gap:.1f}",
            planned,
        )


@dataclass(frozen=True, slots=True)
class Comparison(ShownOrText):
    """The results of several planners, best first; those without a plan come last.

    name: of the work that was planned.
    """

    name: str
    lines: tuple[PlannerResult, ...]

    @property
    def best(self) -> PlannerResult | None:
        """The shortest plan by its median; None when no planner found one.

        Where durations are guesses, it is the shortest if these hold.
        """
        return self.lines[0] if self.lines and self.lines[0].plan is not None else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The functions that never ran, if there is no forecast yet because of them."""
        best = self.best
        if best is None or best.plan_forecast is None or best.is_known:
            return ()
        return best.plan_forecast.unknown

    def __repr__(self) -> str:
        best = self.best
        result = "none found a plan"
        if self.unknown:
            result = "no forecast yet"
        elif best is not None and best.forecast is not None:
            makespan_s = best.forecast.p50_s
            result = f"best {cut(best.planner, 40)}, predicted makespan {makespan_s:.4g} s"
        planners = number(len(self.lines), "planner")
        return f"<comparison of {planners} on {cut(self.name, 40)}: {result}>"

    def __str__(self) -> str:
        """Returns a table, and why some planners found no plan."""
        rows = aligned([HEADS, *[line.cells for line in self.lines]], str.rjust)
        problems = [f"{line.planner}: {line.problem}" for line in self.lines if line.problem]
        text = [self.name, *rows, *problems]
        if self.unknown:
            text.insert(1, f"No forecast yet: {', '.join(self.unknown)} never ran")
        return "\n".join(text)


def aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """Returns the lines of a table. justify: for all columns but the first, which is left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        line = "  ".join([first.ljust(widths[0]), *map(justify, others, widths[1:])])
        lines.append(line.rstrip())
    return lines


def compare_plans(
    problem: Problem,
    planners: Mapping[str, Planner],
    name: str,
    clock: Callable[[], float] = lambda: 0.0,
) -> Comparison:
    """Returns the results of all planners, each labelled by its key in `planners`.

    clock: gives real seconds, to measure planning. The result of a planner that raises a DagnbError
    has the message as its problem. O(planners x (planning + 17 simulations)).
    """
    lines = [_result(problem, planner, label, clock) for label, planner in planners.items()]
    return Comparison(name, tuple(sorted(lines, key=_rank)))


def _result(
    problem: Problem,
    planner: Planner,
    label: str,
    clock: Callable[[], float],
) -> PlannerResult:
    begin = clock()
    try:
        plan = planner.plan(problem)
        planning_s = clock() - begin
        # Planners may be a user's own: a plan that does not fit the DAG would fail in the
        # simulator, far from its cause.
        plan.check(problem.dag)
    except DagnbError as error:
        reason = str(error) or reason_of(error)
        return PlannerResult(planner=label, planning_s=clock() - begin, problem=reason)

    plan = replace(plan, problem=problem)
    expected = forecast_of(plan)
    assert expected is not None  # the plan has a problem
    return PlannerResult(
        planner=label,
        plan=plan,
        plan_forecast=expected,
        forecast=expected.forecast,
        outcome=expected.outcome,
        moved_bytes=expected.trace.moved_bytes(),
        gap=expected.gap,
        planning_s=planning_s,
    )


def _rank(line: PlannerResult) -> tuple[object, ...]:
    """Returns the sort key: plans by median, then by cost and bytes, at last by name."""
    if line.forecast is None or line.outcome is None:
        return (1, line.planner)
    times = (line.forecast.p50_s, line.forecast.p90_s)
    return (0, *times, line.outcome.gb_s, line.moved_bytes, line.planner)
