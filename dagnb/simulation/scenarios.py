"""Percentiles of a makespan, from simulations of several scenarios.

A simulation with all costs at their medians gives too short a makespan: a fan-in waits for the
slowest of its upstream tasks, and a sum of skewed times is more than the sum of their medians.

A scenario is a set of costs as reality may turn out. What tasks share is drawn once in each:

    all tasks          a factor, such as a slow day, or the errors of a past run
    tasks of a         a factor, where the function never ran, or not with this code
    function
    tasks of unseen    a factor: growth that is taken for too steep or too flat is so everywhere
    sizes
    imports, starts,   a factor each
    transfers
    attempts of a      the chance that one fails; then each fails or not by that chance
    function
    a task             its own, from the factors that were measured

Of what is shared, n scenarios take the quantiles (0.5/n, 1.5/n, ...), each source in an order of
its own, instead of n draws: few scenarios cover the range of every source.
Source: McKay, Beckman, Conover 1979, Latin hypercube sampling, doi:10.2307/1268522

All plans are simulated with the same scenarios (common random numbers): otherwise the difference
between two plans would be mostly chance.

A simulation takes about 30 us a step, and a band needs dozens of scenarios. So all of them are
played by the much simpler model of list_schedule.py, and a few, evenly spaced by its makespans, by
the simulator; the ratio of both corrects the others.
Source: Cochran 1977, Sampling Techniques, section 12.9 (double sampling, ratio estimates).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist, fmean

from dagnb.graph.brief import brief
from dagnb.planning.plan import Forecast, Plan
from dagnb.planning.planner import Costs, LinearCost, PastErrors, Pool, Uncertainty
from dagnb.simulation.list_schedule import ListSchedule
from dagnb.simulation.simulate import outcome
from dagnb.simulation.simulated_run import layout_for

STEPS = 2_000
"""Simulated steps that a forecast may take by default: about 0.1 s."""
MOST = 16
"""Simulated scenarios at most by default."""
QUICK_STEPS, LEAST_QUICK, MOST_QUICK = 40_000, 32, 160
"""Steps that list schedules may take, and their number at least and at most: about 0.1 s, too, and
a second at 10,000 steps."""
_inv_cdf = NormalDist().inv_cdf


def scenarios(costs: Costs, n_tasks: int, n: int, seed: int = 0) -> Iterator[Costs]:
    """Returns n sets of costs, equally likely. Of one, the medians. O(n_tasks) each."""
    drawn = Scenarios(costs, n_tasks, n, seed)
    return map(drawn.costs_of, range(n))


class Scenarios:
    """The scenarios of some costs, made one by one: those of a large DAG take much memory."""

    __repr__ = brief

    def __init__(self, costs: Costs, n_tasks: int, n: int, seed: int = 0) -> None:
        self._costs, self._n_tasks, self._seed = costs, n_tasks, seed
        self._is_certain = n == 1 or costs.uncertainty.is_certain
        self._shared = _Shared.of(costs.uncertainty, n, seed)
        self._residuals = _residuals(costs.uncertainty)

    def costs_of(self, number: int) -> Costs:
        """Returns the costs of one scenario, the same at each call."""
        if self._is_certain:
            return self._costs
        # Seeded by its number: a task's own draws do not depend on how many scenarios there are.
        chance = random.Random(f"{self._seed}/{number}")
        shared = self._shared[number]
        return _scenario(self._costs, self._n_tasks, shared, self._residuals, chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """The factors that a scenario shares among its tasks, starts and transfers.

    day: log factor of all tasks. errors: those of a past run. new_code: function -> standard score.
    new_sizes: standard score of all tasks of unseen sizes. imports: function -> log factor.
    failing: function -> chance that an attempt of it fails.
    starts: is warm -> log factor. transfer: log factor.
    """

    day: float
    errors: PastErrors | None
    new_code: Mapping[str, float]
    new_sizes: float
    imports: Mapping[str, float]
    failing: Mapping[str, float]
    starts: Mapping[bool, float]
    transfer: float

    @classmethod
    def of(cls, uncertainty: Uncertainty, n: int, seed: int) -> list[_Shared]:
        """Returns those of n scenarios."""
        strata = _Strata(n, seed)
        # With past runs, these are taken in order and `batch` is the noise beside them.
        days = strata.scores("batch") if uncertainty.past else strata.ordered_scores()
        past = _past_in_order(uncertainty.past, n)
        functions = {uncertainty.functions.get(task, "") for task in uncertainty.new_code}
        new_code = {name: strata.scores(f"code/{name}") for name in sorted(functions)}
        imports = {}
        for name, logs in uncertainty.imports.items():
            # The same quantiles for all: a slow disk, or a server that has left, slows all imports.
            imports[name] = strata.values("imports", logs)
        failing = {}
        for name, chances in _chances(uncertainty).items():
            failing[name] = strata.values(f"failures/{name}", chances)
        transfers, new_sizes = strata.scores("transfer"), strata.scores("sizes")
        usual = [uncertainty.start * score for score in strata.scores("start")]
        starts = {True: usual, False: usual}
        for is_warm, logs in uncertainty.start_residuals.items():
            # The same quantiles for both: what slows cold starts slows warm ones, too.
            starts[is_warm] = strata.values("start", logs)

        return [
            cls(
                day=uncertainty.batch * days[i],
                errors=past[i] if past else None,
                new_code={name: scores[i] for name, scores in new_code.items()},
                new_sizes=new_sizes[i],
                imports={name: logs[i] for name, logs in imports.items()},
                failing={name: chances[i] for name, chances in failing.items()},
                starts={is_warm: logs[i] for is_warm, logs in starts.items()},
                transfer=uncertainty.transfer * transfers[i],
            )
            for i in range(n)
        ]

    def log_factor(self, uncertainty: Uncertainty, task: int) -> float:
        """Returns the log of the factor of a task, without its own."""
        function = uncertainty.functions.get(task, "")
        log_factor = self.day
        if self.errors is not None:
            log_factor += self.errors.of(function)
        sigma = uncertainty.new_code.get(task, 0.0)
        if sigma:
            log_factor += sigma * self.new_code[function]
        return log_factor + uncertainty.new_sizes.get(task, 0.0) * self.new_sizes


def _chances(uncertainty: Uncertainty) -> dict[str, Sequence[float]]:
    """Returns function -> equally likely chances that its attempts fail."""
    chances = {}
    for task, law in uncertainty.failures.items():
        chances[uncertainty.functions.get(task, "")] = law.chances
    return chances


@dataclass(frozen=True, slots=True)
class _Strata:
    """The middles of n equally likely slices, for each source in an order of its own."""

    n: int
    seed: int

    def quantiles(self, source: str) -> list[float]:
        """Returns n probabilities, (0.5/n, 1.5/n, ...) in the order of this source."""
        order = list(range(self.n))
        random.Random(f"{self.seed}/{source}").shuffle(order)
        return [(number + 0.5) / self.n for number in order]

    def scores(self, source: str) -> list[float]:
        """Returns the same as standard normal scores."""
        return list(map(_inv_cdf, self.quantiles(source)))

    def ordered_scores(self) -> list[float]:
        """Returns standard normal scores, ascending."""
        return [_inv_cdf((number + 0.5) / self.n) for number in range(self.n)]

    def values(self, source: str, ordered: Sequence[float]) -> list[float]:
        """Returns one of these equally likely values for each scenario."""
        return [ordered[int(p * len(ordered))] for p in self.quantiles(source)]


def _past_in_order(past: Sequence[PastErrors], n: int) -> list[PastErrors]:
    """Returns the past run of each of n scenarios, by weight, quick ones first."""
    if not past:
        return []
    ordered = sorted(past, key=lambda errors: errors.mean)
    passed = list(accumulate(errors.weight for errors in ordered))
    drawn, position = [], 0
    for number in range(n):
        while position < len(ordered) - 1 and passed[position] < passed[-1] * (number + 0.5) / n:
            position += 1
        drawn.append(ordered[position])
    return drawn


class _Residuals:
    """A law of log factors, of which equally likely values are known, ascending.

    Between the outermost values it has just these: modes stay modes. Beyond them it is linear in
    the standard normal score, with the slope of the outer eighth: of a thousand tasks a few are
    slower than the slowest of a hundred.
    """

    __slots__ = ("_least", "_slopes", "_values")

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values
        n = len(values)
        self._least = 0.5 / n
        inner = max(1, n // 8)
        span = _inv_cdf((inner + 0.5) / n) - _inv_cdf(self._least) if n > 1 else 1.0
        high = values[-1] - values[-1 - inner] if n > 1 else 0.0
        low = values[inner] - values[0] if n > 1 else 0.0
        self._slopes = low / span, high / span

    def drawn(self, chance: random.Random) -> float:
        """Returns one log factor."""
        p, least = chance.random(), self._least
        if least <= p <= 1.0 - least:
            return self._values[int(p * len(self._values))]
        # random() may give 0, whose score would be infinite.
        score, edge = _inv_cdf(max(p, 1e-12)), _inv_cdf(least)
        if p < least:
            return self._values[0] + self._slopes[0] * (score - edge)
        return self._values[-1] + self._slopes[1] * (score + edge)


def _residuals(uncertainty: Uncertainty) -> dict[int, _Residuals]:
    """Returns task -> law of its own factor. Tasks of a function share one."""
    laws: dict[int, _Residuals] = {}
    by_task = {}
    for task, values in uncertainty.residuals.items():
        if id(values) not in laws:
            laws[id(values)] = _Residuals(values)
        by_task[task] = laws[id(values)]
    return by_task


def _scenario(
    costs: Costs,
    n_tasks: int,
    shared: _Shared,
    residuals: Mapping[int, _Residuals],
    chance: random.Random,
) -> Costs:
    uncertainty = costs.uncertainty
    run_s, import_s, failures = {}, dict(costs.import_s), dict(costs.failures)
    for task in range(n_tasks):
        law = residuals.get(task)
        if law is not None:
            own = law.drawn(chance)
        else:
            own = uncertainty.run.get(task, uncertainty.default_run) * chance.gauss(0.0, 1.0)
        run_s[task] = costs.run(task) * math.exp(own + shared.log_factor(uncertainty, task))
    for task, failing in uncertainty.failures.items():
        chance_of_run = shared.failing[uncertainty.functions.get(task, "")]
        failures[task] = failing.drawn(chance_of_run, run_s[task], chance)
    if shared.imports:
        for task, seconds in costs.import_s.items():
            function = uncertainty.functions.get(task, "")
            import_s[task] = seconds * math.exp(shared.imports.get(function, 0.0))

    moving = math.exp(shared.transfer)
    longer = {is_warm: math.exp(log) for is_warm, log in shared.starts.items()}
    return costs.with_(
        run_s=run_s,
        import_s=import_s,
        failures=failures,
        fetch=LinearCost(costs.fetch.base_s * moving, costs.fetch.s_per_byte * moving),
        store=LinearCost(costs.store.base_s * moving, costs.store.s_per_byte * moving),
        cold=costs.cold.times(longer[False]),
        warm=costs.warm.times(longer[True]),
        starts={key: start.times(longer[key[1]]) for key, start in costs.starts.items()},
    )


def forecast(
    plan: Plan, costs: Costs, pool: Pool, n: int | None = None, *, known: float = 0.0
) -> Forecast:
    """Returns P10, P50 and P90 of the plan's makespan.

    n: scenarios that are simulated, None for as many as are affordable; others are played by a list
    schedule. known: share of the predicted run time that rests on measurements or hints, 0 to 1.
    """
    ordered = sorted(_corrected(plan, costs, pool, affordable(plan, costs) if n is None else n))
    return Forecast(
        p10_s=quantile(ordered, 0.1),
        p50_s=quantile(ordered, 0.5),
        p90_s=quantile(ordered, 0.9),
        n_scenarios=len(ordered),
        known=known,
    )


def affordable(plan: Plan, costs: Costs) -> int:
    """Returns the number of scenarios for about STEPS simulated steps: 1 to MOST."""
    if costs.uncertainty.is_certain:
        return 1  # all scenarios would be equal
    return max(1, min(MOST, STEPS // len(plan.steps)))


def makespans(plan: Plan, costs: Costs, pool: Pool, n: int | None = None) -> list[float]:
    """Returns the makespan in each of n scenarios, ascending.

    n: None takes as many as are affordable; certain costs have one scenario whatever n is.
    """
    if n is None or costs.uncertainty.is_certain:
        n = affordable(plan, costs)
    layout = layout_for(plan, pool)
    drawn = scenarios(costs, len(plan.dag), n)
    return sorted(outcome(plan, scenario, pool, layout).makespan_s for scenario in drawn)


def _corrected(plan: Plan, costs: Costs, pool: Pool, n_simulated: int) -> list[float]:
    """Returns the makespans of many scenarios, of which so many are simulated."""
    if costs.uncertainty.is_certain:
        return makespans(plan, costs, pool, 1)

    n = max(n_simulated, min(MOST_QUICK, max(LEAST_QUICK, QUICK_STEPS // len(plan.steps))))
    schedule, drawn = ListSchedule(plan, costs, pool), Scenarios(costs, len(plan.dag), n)
    played = sorted((schedule.makespan_s(drawn.costs_of(number)), number) for number in range(n))
    layout = layout_for(plan, pool)
    ranks, ratios = [], []
    for i in range(n_simulated):
        rank = (2 * i + 1) * n // (2 * n_simulated)
        quick_s, number = played[rank]
        simulated_s = outcome(plan, drawn.costs_of(number), pool, layout).makespan_s
        ranks.append(rank)
        # Costs may all be 0.
        ratios.append(simulated_s / quick_s if quick_s > 0 else 1.0)
    return [quick_s * _at(rank, ranks, ratios) for rank, (quick_s, _) in enumerate(played)]


def _at(rank: int, ranks: Sequence[int], ratios: Sequence[float]) -> float:
    """Returns the mean ratio of the three simulated scenarios whose ranks are nearest."""
    nearest = sorted(range(len(ranks)), key=lambda i: abs(ranks[i] - rank))[:3]
    return fmean(ratios[i] for i in nearest)


def quantile(ordered: list[float], p: float) -> float:
    """Returns the p-quantile of values that are ascending and equally likely.

    The k-th of n values is the quantile (k + 0.5) / n; between two of them the line is straight.
    """
    position = min(max(p * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
