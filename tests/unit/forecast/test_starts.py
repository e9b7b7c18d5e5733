"""Starts in forecasts: the agent is there, it is gone, the workers are warm."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from dagnb.forecast.costs import expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Costs, Pool, StartCost
from dagnb.protocol.messages import RunState
from dagnb.run_history.history import History
from dagnb.run_history.platform_act import AGENT_GONE, acts
from dagnb.simulation.scenarios import forecast
from dagnb.trace.trace import Phase, Span, Trace
from tests import graphs
from tests.unit.forecast.past_runs import description_of, floating, lived, remember

DAG = graphs.chain(3)
PLAN = floating(DAG)
THERE_S, GONE_S, WARM_S = 0.02, 2.0, 0.005
RUN_S = 0.1


CODES = ("a", "b", "c")


def keep(knowledge: Knowledge, run: str, costs: Costs, *, is_agent_gone: bool = False) -> None:
    """A past run on processes."""
    pool = {"cap": 2, "is_agent_gone": is_agent_gone}
    description = description_of(PLAN, codes=CODES, pool=pool)
    trace = lived(PLAN, costs, Pool(cap=2))
    assert knowledge.history.record(run, description, RunState.OK, trace)


def expected(knowledge: Knowledge, *, is_agent_gone: bool = False) -> Costs:
    return expected_costs(DAG, knowledge, "here", CODES, is_agent_gone=is_agent_gone)


def real(start_s: float, chance: random.Random) -> Costs:
    """A run whose starts take about so long."""
    cold = StartCost(invoke_s=start_s * math.exp(chance.gauss(0.0, 0.1)))
    return Costs(default_run_s=RUN_S, cold=cold)


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    """Of ten runs: the agent had left before every third one."""
    known, chance = Knowledge(History(tmp_path / "history.sqlite")), random.Random(1)
    for i in range(10):
        gone = i % 3 == 2
        costs = real(GONE_S if gone else THERE_S, chance)
        keep(known, f"r{i}", costs, is_agent_gone=gone)
    return known


@pytest.mark.parametrize(("gone", "start_s"), [(False, THERE_S), (True, GONE_S)])
def test_a_run_ends_in_its_band_whether_the_agent_is_there_or_gone(
    knowledge: Knowledge, gone: bool, start_s: float
) -> None:
    pool = Pool(cap=2, is_agent_gone=gone)
    chance = random.Random(2)
    costs = expected(knowledge, is_agent_gone=gone)
    band = forecast(PLAN, costs, pool)

    assert costs.cold.total_s == pytest.approx(start_s, rel=0.2)
    # The band of one state does not reach to the other: it is not both at once.
    assert band.p90_s - band.p10_s < 0.6
    for _ in range(5):
        assert lived(PLAN, real(start_s, chance), pool).makespan_s == pytest.approx(
            band.p50_s, rel=0.25
        )


def test_warm_containers_are_a_state_of_their_own(knowledge: Knowledge) -> None:
    """A container that is warm starts as quickly, whether or not the agent had left before."""
    containers = Pool(cap=2, eager=False, warm={Resources(): 2})
    chance = random.Random(3)
    for i in range(6):
        warm = StartCost(invoke_s=WARM_S * math.exp(chance.gauss(0.0, 0.1)), register_s=0.001)
        costs = Costs(default_run_s=RUN_S, warm=warm)
        remember(knowledge.history, f"w{i}", PLAN, costs, containers)

    there = expected(knowledge)
    gone = expected(knowledge, is_agent_gone=True)

    for costs in (there, gone):
        assert costs.warm.total_s == pytest.approx(WARM_S + 0.001, rel=0.2)
    assert there.cold.total_s == pytest.approx(THERE_S, rel=0.2)
    assert gone.cold.total_s == pytest.approx(GONE_S, rel=0.2)


def test_an_agent_that_never_had_to_start_is_expected_to_take_long_by_an_unknown_time(
    tmp_path: Path,
) -> None:
    known, chance = Knowledge(History(tmp_path / "history.sqlite")), random.Random(1)
    for i in range(5):
        keep(known, f"r{i}", real(THERE_S, chance))

    gone = expected(known, is_agent_gone=True)
    band = forecast(PLAN, gone, Pool(cap=2, is_agent_gone=True))

    assert gone.cold.total_s == pytest.approx(0.5)
    assert band.p10_s < 0.6 < GONE_S < band.p90_s


def test_only_the_first_starts_of_a_run_wait_for_the_agent() -> None:
    """The second worker is asked for a second later, and finds the agent there."""
    spans = [
        Span(-1, "w0", Phase.INVOKE, 0.0, 2.0, detail="cold"),
        Span(-1, "w1", Phase.INVOKE, 3.0, 3.5, detail="cold"),
        Span(-1, "w2", Phase.INVOKE, 0.0, 0.25, detail="warm"),
        Span(-1, "w2", Phase.REGISTER, 0.25, 0.5, detail="warm"),
    ]
    trace = Trace.of(spans, ["a"], submitted_s=0.0, finished_s=6.0)

    starts = {
        act.detail: act.seconds
        for act in acts(trace, [Resources()], is_agent_gone=True)
        if act.phase is Phase.INVOKE
    }

    assert starts == {AGENT_GONE: 2.0, "cold": 0.5, "warm": 0.5}
