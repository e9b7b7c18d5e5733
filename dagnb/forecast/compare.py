"""What several planners make of one problem, side by side: every plan meets the same prices and the same scenarios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dagnb.errors import DagnbError
from dagnb.failure import reason_of
from dagnb.forecast.plan_forecast import PlanForecast, forecast_of
from dagnb.graph.brief import brief, cut, number
from dagnb.graph.client_hook import ShownOrText
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.planning.planner import Planner, Problem
from dagnb.simulation.simulate import Outcome

HEADS = ("planner", "P50 s", "P90 s", "GB s", "cold starts", "moved MB", "gap %", "planning ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerResult:
    """What one planner made. moved_bytes: as of Trace. gap: as of Outlook.

    planning_s: it took, real time. problem: why there is no plan, in words; then what follows from a plan is None.
    """

    planner: str
    plan: Plan | None = None
    outlook: PlanForecast | None = None
    forecast: Forecast | None = None
    outcome: Outcome | None = None
    moved_bytes: int = 0
    gap: float = 0.0
    planning_s: float = 0.0
    problem: str = ""

    __repr__ = brief

    @property
    def cells(self) -> tuple[str, ...]:
        """The line under HEADS; what is not known is a dash."""
        if self.forecast is None or self.outcome is None:
            return (self.planner, *["-"] * (len(HEADS) - 2), f"{1e3 * self.planning_s:.1f}")
        return (
            self.planner,
            f"{self.forecast.p50_s:.3f}",
            f"{self.forecast.p90_s:.3f}",
            f"{self.outcome.gb_s:.2f}",
            f"{self.outcome.n_cold}",
            f"{self.moved_bytes / 1e6:.3f}",
            f"{100 * self.gap:.1f}",
            f"{1e3 * self.planning_s:.1f}",
        )


@dataclass(frozen=True, slots=True)
class Comparison(ShownOrText):
    """Lines, best first; planners that found no plan come last. name: of what was planned."""

    name: str
    lines: tuple[PlannerResult, ...]

    @property
    def best(self) -> PlannerResult | None:
        """The shortest plan by its median; None when nobody found one."""
        return self.lines[0] if self.lines and self.lines[0].plan is not None else None

    def __repr__(self) -> str:
        best = self.best
        told = "none found a plan"
        if best is not None and best.forecast is not None:
            told = f"best {cut(best.planner, 40)}, predicted makespan {best.forecast.p50_s:.4g} s"
        return (
            f"<comparison of {number(len(self.lines), 'planner')} on {cut(self.name, 40)}: {told}>"
        )

    def __str__(self) -> str:
        """A table, and why some planners found no plan."""
        cells = [HEADS, *(line.cells for line in self.lines)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rows = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in cells
        ]
        told = [f"{line.planner}: {line.problem}" for line in self.lines if line.problem]
        return "\n".join([self.name, *rows, *told])


def compare_plans(
    problem: Problem,
    planners: Mapping[str, Planner],
    name: str,
    clock: Callable[[], float] = lambda: 0.0,
) -> Comparison:
    """A line for each planner, by the name it has here; clock: tells how long each takes, seconds.

    A planner that raises a DagnbError gets a line that says so. O(planners x (planning + 17 simulations)).
    """
    lines = [_line(problem, planner, label, clock) for label, planner in planners.items()]
    return Comparison(name, tuple(sorted(lines, key=_rank)))


def _line(
    problem: Problem, planner: Planner, label: str, clock: Callable[[], float]
) -> PlannerResult:
    begin = clock()
    try:
        made = planner.plan(problem)
        planning_s = clock() - begin
        made.check(problem.dag)
    except DagnbError as error:
        return PlannerResult(
            planner=label, planning_s=clock() - begin, problem=str(error) or reason_of(error)
        )
    plan = replace(made, problem=problem)
    outlook = forecast_of(plan)
    assert outlook is not None
    return PlannerResult(
        planner=label,
        plan=plan,
        outlook=outlook,
        forecast=outlook.forecast,
        outcome=outlook.outcome,
        moved_bytes=outlook.trace.moved_bytes(),
        gap=outlook.gap,
        planning_s=planning_s,
    )


def _rank(line: PlannerResult) -> tuple[object, ...]:
    """Plans by their median, then by what else is better the smaller it is; at last by name."""
    if line.forecast is None or line.outcome is None:
        return (1, line.planner)
    return (
        0,
        line.forecast.p50_s,
        line.forecast.p90_s,
        line.outcome.gb_s,
        line.moved_bytes,
        line.planner,
    )
