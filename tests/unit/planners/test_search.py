"""The local search of `best`: the price of its moves, and the budget that it uses up."""

from __future__ import annotations

import pytest
from dagnb_planners import best, search
from dagnb_planners.best import Best
from dagnb_planners.flexible import Flexible
from dagnb_planners.heft import Heft
from dagnb_planners.search import Candidate, Search, SimulatedCandidate

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Problem
from dagnb.simulation.simulate import outcome, simulate
from tests import graphs
from tests.unit.planners.prices import problem

BUDGET_S = 0.05


class Noting(Search):
    """Notes the price of each simulated run."""

    def __init__(self, problem: Problem) -> None:
        self.prices: list[float] = []
        super().__init__(problem, Heft().plan(problem))

    def simulate(self, candidate: Candidate) -> SimulatedCandidate:
        simulated = super().simulate(candidate)
        self.prices.append(simulated.price_s)
        return simulated


def uneven(n: int, n_layers: int = 2) -> Problem:
    """Layers of n tasks of 1 to 7 s, each of which reads two of the layer before, on 3 workers."""
    tasks = [f"t{i}" for i in range(n * n_layers)]
    edges = []
    for i in range(n, len(tasks)):
        edges += [(tasks[i - n], tasks[i]), (tasks[i - n - i % n + (i + 1) % n], tasks[i])]
    seconds = {task: 1.0 + i * 5 % 7 for i, task in enumerate(tasks)}
    return problem(Dag.from_edges(tasks, dict.fromkeys(edges)), cap=3, seconds=seconds)


def test_a_simulated_run_is_priced_by_its_spans() -> None:
    asked = uneven(5)
    plan = Heft().plan(asked)

    searching = Search(asked, plan)

    # Two spans of a trace are the client's.
    n_spans = len(simulate(plan, asked.costs, asked.pool).spans) - 2
    assert searching.spent_s == pytest.approx(search.SPAN_S * n_spans)


def test_the_search_goes_on_until_its_simulated_runs_have_cost_the_budget() -> None:
    searching = Noting(uneven(7, 4))

    searching.run(BUDGET_S)

    assert searching.spent_s == pytest.approx(sum(searching.prices))
    assert BUDGET_S <= searching.spent_s < BUDGET_S + searching.prices[-1]
    assert len(searching.prices) > 20


def test_the_search_ends_at_the_bound() -> None:
    searching = Noting(uneven(5))

    searching.run(BUDGET_S, enough_s=searching.simulated.score[0])

    assert len(searching.prices) == 1


def test_the_second_search_has_what_the_first_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[tuple[float, float]] = []
    run = Search.run

    def noted(self: Search, budget_s: float, enough_s: float = 0.0) -> object:
        plan = run(self, budget_s, enough_s)
        budgets.append((budget_s, self.spent_s))
        return plan

    monkeypatch.setattr(Search, "run", noted)

    Best(budget_s=BUDGET_S).plan(uneven(7, 4))

    (first_s, spent_s), (second_s, _) = budgets
    assert first_s == BUDGET_S / 2
    assert spent_s >= first_s
    assert second_s == pytest.approx(BUDGET_S - spent_s)


@pytest.mark.parametrize(("pairs", "is_asked"), [(11 * 3, True), (11 * 3 - 1, False)])
def test_dask_like_is_left_out_where_it_would_look_at_too_many_pairs(
    pairs: int, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best, "MOST_PAIRS", pairs)
    asked = problem(graphs.fan_out(10), cap=3)

    planners = [plan.planner for plan in best.members(asked)]

    assert ("dask_like" in planners) is is_asked


@pytest.mark.parametrize("cap", [2, 8, None])
def test_best_is_no_longer_than_flexible_on_a_large_dag_without_any_budget(cap: int | None) -> None:
    asked = problem(uneven(60, 10).dag, cap=cap)

    plans = [planner.plan(asked) for planner in (Best(budget_s=0.0), Flexible())]

    best_s, flexible_s = (outcome(plan, asked.costs, asked.pool).makespan_s for plan in plans)
    assert best_s <= flexible_s
