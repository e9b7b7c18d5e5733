"""What is foretold of a plan, in words: how long, how sure, how dear, how far from the best."""

from __future__ import annotations

from dagnb.forecast.plan_forecast import PlanForecast
from dagnb.planning.basis import UNKNOWN
from dagnb.planning.bounds import certificate
from dagnb.planning.costs import Costs
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan
from dagnb.simulation.simulate import Outcome
from dagnb.views.wording import counted, held_text, seconds_text, window_text

_LISTED = 4
_APART = 1.1
"""a P50 so many times the makespan at median prices is told beside it"""


def forecast_lines(outlook: PlanForecast) -> list[str]:
    """A line each: makespan; cost, starts, and what the bound proves; the bound; what is known."""
    bound = outlook.bound
    return [
        f"predicted {forecast_text(outlook.forecast)}{_median_text(outlook)}",
        f"{outcome_text(outlook.outcome)} · {certificate(outlook.outcome.makespan_s, bound)}",
        f"no plan is shorter than {seconds_text(bound.seconds)} at median prices: {bound.reason}",
        known_text(outlook.plan, outlook.problem.costs, outlook.forecast),
    ]


def _median_text(outlook: PlanForecast) -> str:
    """Why the picture, at median prices, ends so much sooner: half of all fan-ins wait for what takes longer."""
    alone_s = outlook.outcome.makespan_s
    if outlook.forecast.p50_s <= _APART * alone_s:
        return ""
    return f" · {seconds_text(alone_s)} if everything took its median"


def forecast_text(forecast: Forecast) -> str:
    """The median, and the band that holds 8 of 10 runs.

    >>> forecast_text(Forecast(p10_s=6.9, p50_s=7.5, p90_s=8.4))
    '7.5 s, 6.9 to 8.4 s in 8 of 10 runs'
    """
    median = seconds_text(forecast.p50_s)
    if forecast.p10_s == forecast.p90_s:
        return median
    return f"{median}, {window_text(forecast.p10_s, forecast.p90_s)} in 8 of 10 runs"


def outcome_text(outcome: Outcome) -> str:
    """Memory held over time, and how workers start.

    >>> outcome_text(Outcome(makespan_s=1.0, gb_s=0.0312, n_cold=1, n_warm=2))
    '0.0312 GB·s · 1 cold start, 2 warm'
    """
    return f"{held_text(outcome.gb_s)} · {counted(outcome.n_cold, 'cold start')}, {outcome.n_warm:,} warm"


def known_text(plan: Plan, costs: Costs, forecast: Forecast) -> str:
    """How much rests on measurements and hints; which functions nobody ever measured."""
    unknown = unknown_functions(plan, costs)
    functions = dict.fromkeys(call.function for call in plan.dag.calls)
    if not unknown:
        return "known: every function was measured, or hinted at"
    more = f" and {len(unknown) - _LISTED:,} more" if len(unknown) > _LISTED else ""
    names = ", ".join(unknown[:_LISTED]) + more
    share = (
        f"; {100 * forecast.known:.0f} % of the predicted run time is known"
        if forecast.known > 0
        else ""
    )
    return f"unknown: {len(unknown):,} of {counted(len(functions), 'function')} ({names}){share}"


def unknown_functions(plan: Plan, costs: Costs) -> tuple[str, ...]:
    """Functions that nobody measured nor hinted at, in the order of the DAG."""
    calls = enumerate(plan.dag.calls)
    guessed = (call.function for i, call in calls if not costs.basis.get(i, UNKNOWN).is_known)
    return tuple(dict.fromkeys(guessed))
