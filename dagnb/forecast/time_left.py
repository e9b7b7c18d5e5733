"""The time left of a run that goes on, from its plan and from what the run itself has measured.

    costs of the plan  --+
                         +-->  costs after this run  -->  scenarios  -->  schedules of the rest
    times of its tasks --+     (FunctionFactor)                           from the present state

A function's time in this run is its prediction times a factor that all its tasks share, times one
of each task alone. The shared factor has a prior on the log scale: as wide as past runs were off,
and very wide where the function never ran. Each task that has ended, and each that still runs, says
something of it, so a function that the history does not know is known after its first tasks.
What functions that have run say of the whole run (a slow day) holds for the others, too.

A task that still runs is not over: the first tasks to end are the quick ones, and their mean alone
would be too small. So it counts as one that takes longer than it has taken (a censored value), and
its time left is drawn from the times of its function that are longer.

A function that is neither known nor measured can take any time. Then the time left has no median
and no band, only a lower bound: the rest without the tasks of such functions.
Source: Klein and Moeschberger 2003, Survival Analysis, section 3.5 (likelihood of censored data);
Gelman et al. 2013, Bayesian Data Analysis, section 10.1 (a posterior on a grid).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist, fmean, pstdev

from dagnb.graph.brief import brief
from dagnb.planning.plan import Plan
from dagnb.planning.planner import UNKNOWN, Costs, Pool, Uncertainty
from dagnb.prediction.observation import evenly
from dagnb.simulation.list_schedule import ListSchedule, RunProgress
from dagnb.simulation.scenarios import Scenarios, quantile

STEPS, LEAST, MOST = 5_000, 12, 40
"""steps that the scenarios of one look may play, and how many there are at least and at most"""

LARGE_STEPS = 400
"""above so many steps left, one schedule is played, and scenarios differ by its work"""

NEW_SIGMA = 2.5
"""prior spread of the factor of a function that never ran"""

RUN_SIGMA, OWN_SIGMA = 0.25, 0.5
"""prior spreads where the plan has none: of what a run shares, of a task alone"""

MODEL_SIGMA = 0.03
"""spread of a run about its list schedule: starts, round trips and batches are not in it"""

OVERTIME_SIGMA = 0.5
"""spread of how much longer a task takes that has run for longer than any before"""

ENOUGH = 12
"""tasks of an unknown function that give its law, instead of a normal one"""

MOST_SEEN = 24
"""tasks of a function that its factor is learnt from, evenly spread"""

_LEAST_S = 1e-6
_NORMAL = NormalDist()
_SCORES = tuple(_NORMAL.inv_cdf((i + 0.5) / 32) for i in range(32))
_GRID = tuple(-4.0 + i / 3 for i in range(25))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Seconds until the end: at most p50_s in half of all cases, p10_s to p90_s in 8 of 10.

    unknown: functions that nothing is known of; then p50_s and p90_s are infinite, and p10_s is a
    lower bound.
    """

    p10_s: float
    p50_s: float
    p90_s: float
    unknown: tuple[str, ...] = ()

    __repr__ = brief

    def later(self, passed_s: float) -> TimeLeft:
        """Returns the same forecast when so many seconds more have passed."""
        return TimeLeft(
            p10_s=max(0.0, self.p10_s - passed_s),
            p50_s=max(0.0, self.p50_s - passed_s),
            p90_s=max(0.0, self.p90_s - passed_s),
            unknown=self.unknown,
        )


@dataclass(slots=True, kw_only=True)
class FunctionFactor:
    """The factor of one function in this run, on the log scale.

    is_known: the history knows the function. mean, sigma: of the shared factor, first a prior.
    own: logs of the factors of single tasks, ascending and equally likely.
    ended: log ratios of real to predicted time. so_far: those of tasks that still run.
    """

    is_known: bool
    mean: float
    sigma: float
    own: Sequence[float]
    ended: list[float] = field(default_factory=list)
    so_far: list[float] = field(default_factory=list)

    __repr__ = brief

    @property
    def is_measured(self) -> bool:
        """True if a task of the function has ended in this run."""
        return bool(self.ended)

    def learn(self) -> None:
        """Take mean and spread of the shared factor from the tasks seen; O(MOST_SEEN) a point."""
        if not self.ended and not (self.is_known and self.so_far):
            return
        if not self.is_known and len(self.ended) >= ENOUGH:
            self.own = _about_mean(self.ended)
        ended = evenly(sorted(self.ended), MOST_SEEN)
        so_far = evenly(sorted(self.so_far), MOST_SEEN)
        # The posterior on a grid about where it must lie, twice: wide, then fine.
        middle = fmean(self.ended) if self.ended else max(self.mean, *self.so_far)
        width = min(max(1.0, self.sigma), 3.0 * (pstdev(self.own) + 0.05))
        prior = NormalDist(self.mean, self.sigma)
        kernel = 0.05 + 0.5 * pstdev(self.own) * math.pow(len(self.own), -0.2)
        for _ in range(2):
            points = [middle + width * score for score in _GRID]
            seen = prior, ended, so_far, kernel
            logs = [self._log_posterior(point, *seen) for point in points]
            most = max(logs)
            masses = [math.exp(value - most) for value in logs]
            total = sum(masses)
            middle = sum(map(math.prod, zip(points, masses, strict=True))) / total
            squares = [mass * (x - middle) ** 2 for x, mass in zip(points, masses, strict=True)]
            width = max(0.002, math.sqrt(sum(squares) / total))
        self.mean, self.sigma = middle, width

    def _log_posterior(
        self,
        point: float,
        prior: NormalDist,
        ended: Sequence[float],
        so_far: Sequence[float],
        kernel: float,
    ) -> float:
        """Returns the log of prior times likelihood, up to a constant.

        kernel: bandwidth of the density of own factors.
        """
        # Student's law with four degrees of freedom: a normal one would not let a function be many
        # times slower than ever, whatever its tasks show.
        log_sum = -2.5 * math.log1p(((point - prior.mean) / prior.stdev) ** 2 / 4.0)
        # Tasks that stand for several count as several.
        each = len(self.ended) / max(1, len(ended))
        each_running = len(self.so_far) / max(1, len(so_far))
        for seen in ended:
            density = 0.0
            for own in self.own:
                density += math.exp(-0.5 * ((seen - point - own) / kernel) ** 2)
            log_sum += each * math.log(density / len(self.own) + 1e-9)
        for seen in so_far:
            longer = sum(own > seen - point for own in self.own)
            log_sum += each_running * math.log((longer + 0.1) / (len(self.own) + 0.1))
        return log_sum

    def left_s(self, so_far_s: float, predicted_s: float, chance: random.Random) -> float:
        """Returns the seconds that a running task still takes, drawn."""
        shared = self.mean + self.sigma * chance.gauss(0.0, 1.0)
        edge = math.log(max(so_far_s, _LEAST_S) / max(predicted_s, _LEAST_S)) - shared
        longer = [own for own in self.own if own > edge]
        if longer:
            return predicted_s * math.exp(shared + chance.choice(longer)) - so_far_s
        return so_far_s * math.expm1(OVERTIME_SIGMA * abs(chance.gauss(0.0, 1.0)))


class RestOfRun:
    """The forecasts of what is left of one run, made from one plan."""

    __repr__ = brief

    def __init__(self, plan: Plan, costs: Costs, pool: Pool) -> None:
        """Read what does not change during the run. O(steps + edges)."""
        self._costs, self._plan = costs, plan
        self._schedule = ListSchedule(plan, costs, pool)
        self._n_tasks = len(plan.dag)

    def left(self, progress: RunProgress, ran_s: Mapping[int, float]) -> TimeLeft:
        """Returns the time left. O(steps).

        progress: its running steps with the seconds for which they have run. ran_s: step that has
        ended -> seconds for which its function ran.
        """
        factors = self._factors(progress, ran_s)
        rest = [step for step in range(len(self._plan.steps)) if step not in progress.done]
        unknown = set[str]()
        for step in rest:
            factor = factors[self._schedule.functions[step]]
            if not factor.is_known and not factor.is_measured:
                unknown.add(self._schedule.functions[step])
        costs = self._costs_after(factors, unknown)
        ordered = sorted(self._rests(costs, factors, progress, rest))
        p10_s = quantile(ordered, 0.1)
        if unknown:
            names = tuple(sorted(unknown))
            return TimeLeft(p10_s=p10_s, p50_s=math.inf, p90_s=math.inf, unknown=names)
        return TimeLeft(p10_s=p10_s, p50_s=quantile(ordered, 0.5), p90_s=quantile(ordered, 0.9))

    # ---- what the run has measured ----

    def _factors(
        self, progress: RunProgress, ran_s: Mapping[int, float]
    ) -> dict[str, FunctionFactor]:
        """Returns function -> its factor after this run's measurements."""
        factors: dict[str, FunctionFactor] = {}
        schedule = self._schedule
        for step, function in enumerate(schedule.functions):
            if function not in factors:
                factors[function] = self._prior(schedule.tasks[step], function)
        for step, seconds in ran_s.items():
            factors[schedule.functions[step]].ended.append(self._log_ratio(step, seconds))
        for step, so_far_s in progress.running.items():
            factors[schedule.functions[step]].so_far.append(self._log_ratio(step, so_far_s))

        before = {function: factor.mean for function, factor in factors.items()}
        for factor in factors.values():
            factor.learn()
        day, day_sigma = _day(factors, before)
        for factor in factors.values():
            if factor.is_known and not factor.is_measured:
                factor.mean += day
                apart = max(0.0, factor.sigma**2 - RUN_SIGMA**2)
                factor.sigma = math.hypot(day_sigma, math.sqrt(apart))
        return factors

    def _prior(self, task: int, function: str) -> FunctionFactor:
        uncertainty = self._costs.uncertainty
        is_known = self._costs.basis.get(task, UNKNOWN).is_known
        own = uncertainty.residuals.get(task)
        if not own:
            sigma = uncertainty.run.get(task, uncertainty.default_run) or OWN_SIGMA
            own = [sigma * score for score in _SCORES]
        shared = uncertainty.batch or RUN_SIGMA
        if uncertainty.past:
            squares = sum(past.weight * past.of(function) ** 2 for past in uncertainty.past)
            shared = math.sqrt(squares / sum(past.weight for past in uncertainty.past))
        new = uncertainty.new_code.get(task, 0.0) if is_known else NEW_SIGMA
        return FunctionFactor(
            is_known=is_known,
            mean=fmean(own),
            sigma=max(0.02, math.hypot(shared, new)),
            own=_about_mean(own),
        )

    def _log_ratio(self, step: int, seconds: float) -> float:
        expected_s = self._expected_s(self._schedule.tasks[step])
        return math.log(max(_LEAST_S, seconds) / expected_s)

    def _expected_s(self, task: int) -> float:
        """Returns the predicted seconds of a task: not 0, of which no factor gives a time."""
        return max(_LEAST_S, self._costs.run(task))

    # ---- what is left ----

    def _costs_after(self, factors: Mapping[str, FunctionFactor], unknown: set[str]) -> Costs:
        """Returns the costs of all tasks by what is known now; unknown functions take no time."""
        before = self._costs.uncertainty
        run_s, names, sigmas, laws = {}, {}, {}, {}
        import_s = dict(self._costs.import_s)
        for task, function in zip(self._schedule.tasks, self._schedule.functions, strict=True):
            factor = factors[function]
            seconds = self._expected_s(task) * math.exp(factor.mean)
            run_s[task] = 0.0 if function in unknown else seconds
            names[task], sigmas[task], laws[task] = function, factor.sigma, factor.own
            if factor.is_measured:
                import_s.pop(task, None)  # workers have imported what it needs
        uncertainty = Uncertainty(
            residuals=laws,
            functions=names,
            new_code=sigmas,
            failures=before.failures,
            imports=before.imports,
            start_residuals=before.start_residuals,
            transfer=before.transfer,
        )
        return self._costs.with_(run_s=run_s, import_s=import_s, uncertainty=uncertainty)

    def _rests(
        self,
        costs: Costs,
        factors: Mapping[str, FunctionFactor],
        progress: RunProgress,
        rest: Sequence[int],
    ) -> Iterable[float]:
        """Yields the seconds left in equally likely scenarios."""
        chance = random.Random(0)
        if len(rest) > LARGE_STEPS:
            yield from self._scaled(costs, factors, progress, rest, chance)
            return
        n = max(LEAST, min(MOST, STEPS // max(1, len(rest))))
        drawn = Scenarios(costs, self._n_tasks, n)
        for number in range(n):
            state = self._drawn(factors, progress, chance)
            rest_s = self._schedule.rest_s(drawn.costs_of(number), state)
            yield rest_s * math.exp(MODEL_SIGMA * chance.gauss(0.0, 1.0))

    def _scaled(
        self,
        costs: Costs,
        factors: Mapping[str, FunctionFactor],
        progress: RunProgress,
        rest: Sequence[int],
        chance: random.Random,
    ) -> Iterable[float]:
        """Yields those of a large rest: its schedule at mean times, longer by its work.

        Many tasks keep workers busy to the end, whose time is then their work over the workers.
        """
        work: dict[str, float] = {}
        mean_s = dict(costs.run_s)
        means: dict[str, float] = {}
        for step in rest:
            task, function = self._schedule.tasks[step], self._schedule.functions[step]
            if function not in means:
                means[function] = fmean(map(math.exp, factors[function].own))
            mean_s[task] *= means[function]
            work[function] = work.get(function, 0.0) + mean_s[task]
        whole = sum(work.values())
        state = self._drawn(factors, progress, chance)
        rest_s = self._schedule.rest_s(costs.with_(run_s=mean_s), state)
        for _ in range(MOST):
            longer = 0.0
            for function, seconds in work.items():
                longer += seconds * math.exp(factors[function].sigma * chance.gauss(0.0, 1.0))
            scale = longer / whole if whole else 1.0
            yield rest_s * scale * math.exp(MODEL_SIGMA * chance.gauss(0.0, 1.0))

    def _drawn(
        self, factors: Mapping[str, FunctionFactor], progress: RunProgress, chance: random.Random
    ) -> RunProgress:
        """Returns the state with seconds that running steps still take, drawn."""
        left_s = {}
        for step, so_far_s in progress.running.items():
            factor = factors[self._schedule.functions[step]]
            predicted_s = self._expected_s(self._schedule.tasks[step])
            is_unknown = not factor.is_known and not factor.is_measured
            left_s[step] = 0.0 if is_unknown else factor.left_s(so_far_s, predicted_s, chance)
        return replace(progress, running=left_s)


def _about_mean(logs: Sequence[float]) -> tuple[float, ...]:
    middle = fmean(logs)
    return tuple(sorted(log - middle for log in evenly(sorted(logs), len(_SCORES))))


def _day(factors: Mapping[str, FunctionFactor], before: Mapping[str, float]) -> tuple[float, float]:
    """Returns mean and spread of the log factor that the whole run shares.

    before: function -> prior mean of its factor. Of each function that ran, its error is evidence.
    """
    precision, weighted = 1.0 / RUN_SIGMA**2, 0.0
    for function, factor in factors.items():
        if factor.is_known and factor.is_measured:
            weight = 1.0 / (0.1**2 + factor.sigma**2)
            precision += weight
            weighted += weight * (factor.mean - before[function])
    return weighted / precision, 1.0 / math.sqrt(precision)
