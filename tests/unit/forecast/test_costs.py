"""Expected costs: learnt from runs, call by call, with their uncertainty."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from dagnb import task
from dagnb.forecast.costs import codes_of, expected_costs
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph.dag import Dag
from dagnb.graph.lineage import lineage
from dagnb.planning.evidence import known_share
from dagnb.planning.planner import Costs, LinearCost, Pool, StartCost, Uncertainty
from dagnb.prediction.estimate import Estimate
from dagnb.prediction.predictor import Predictor
from dagnb.run_history.history import History
from dagnb.simulation.scenarios import forecast
from tests.unit.forecast.past_runs import floating, on_a_day, remember

POOL = Pool(cap=2)


@task
def part(seconds: float) -> bytes:
    return b""


@task
def merge(*parts: bytes) -> bytes:
    return b""


@task(time_s=3.0, output_bytes=7)
def said(n: int) -> bytes:
    return b""


def workflow(*seconds: float) -> Dag:
    """part(s0) ---> merge
    part(s1) --/
    """
    return Dag.of(merge(*[part(s) for s in seconds]))


def real(dag: Dag) -> Costs:
    """A part takes as long as its argument says, which says nothing about its size."""
    run_s = {
        i: node.args[0] if call.function == "part" else 0.3
        for i, (node, call) in enumerate(pairs(dag))
    }
    return Costs(run_s=run_s, output_bytes={i: int(1000 * (1 + s)) for i, s in run_s.items()})


def pairs(dag: Dag) -> list[tuple]:  # type: ignore[type-arg]  # nodes and calls
    return list(zip(dag.nodes, dag.calls, strict=True))


def weighted_sigma(uncertainty: Uncertainty) -> float:
    """The standard deviation of the errors that a run may have as a whole."""
    total = sum(errors.weight for errors in uncertainty.past)
    squares = sum(errors.weight * errors.mean**2 for errors in uncertainty.past)
    return math.sqrt(squares / total)


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    return Knowledge(History(tmp_path / "history.sqlite"))


def test_nothing_known_gives_wide_defaults(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 5.0)

    costs = expected_costs(dag, knowledge, "here")

    assert {basis.text for basis in costs.basis.values()} == {"unknown"}
    assert known_share(costs, 3) == 0.0
    assert costs.uncertainty.new_code == dict.fromkeys(range(3), 2.5)
    assert (costs.uncertainty.batch, costs.uncertainty.past) == (0.0, ())
    assert (costs.fetch, costs.cold) == (Costs.fetch, Costs.cold)


def test_hints_of_the_decorator_are_prices(knowledge: Knowledge) -> None:
    costs = expected_costs(Dag.of(said(1)), knowledge, "here")

    assert costs.run(0) == pytest.approx(3.0)
    assert costs.output(0) == 7
    assert known_share(costs, 1) == 1.0


def test_one_run_teaches_every_call_its_own_time_and_size(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 0.5, 5.0)
    day = on_a_day(real(dag), len(dag), random.Random(1), 0.0, 0.03)
    remember(knowledge.history, "r1", floating(dag), day, POOL)

    costs = expected_costs(workflow(0.2, 0.5, 5.0), knowledge, "here")
    other = expected_costs(workflow(5.0, 0.2), knowledge, "here")

    assert [costs.run(i) for i in range(4)] == pytest.approx([0.2, 0.5, 5.0, 0.3], rel=0.08)
    assert [costs.output(i) for i in range(4)] == [1200, 1500, 6000, 1300]
    assert [other.run(i) for i in range(2)] == [costs.run(2), costs.run(0)]
    assert {basis.text for basis in costs.basis.values()} == {"1 equal call"}
    assert known_share(costs, 4) == 1.0
    assert max(costs.uncertainty.run.values()) <= 0.1
    assert weighted_sigma(costs.uncertainty) == pytest.approx(0.15, abs=0.02)


def test_imports_are_expected_as_in_the_latest_run_once_a_worker(knowledge: Knowledge) -> None:
    """The second run finds the modules of the first one imported early."""
    dag = workflow(1.0, 1.0, 1.0)
    costs = real(dag).with_(commit_s=0.0)
    parts, unknown = (0, 1, 2), expected_costs(dag, knowledge, "here")
    for run, import_s in (("r1", 2.5), ("r2", 0.01)):
        changed = costs.with_(import_s=dict.fromkeys(parts, import_s))
        remember(knowledge.history, run, floating(dag), changed, POOL)
        expected = expected_costs(dag, knowledge, "here")
        assert expected.import_s == pytest.approx({0: import_s, 1: import_s, 2: import_s, 3: 0.0})
        assert expected.run(0) == pytest.approx(1.0, rel=0.01)

    assert unknown.import_s == {}
    assert expected_costs(dag, knowledge, "elsewhere").import_s == {}


def test_small_runs_on_a_slow_machine_do_not_make_large_values_slow(knowledge: Knowledge) -> None:
    """In nine runs commits took ten times as long as usual, those of the larger values longer."""
    dag = workflow(0.2, 5.0)
    for i in range(9):
        costs = real(dag).with_(commit_s=0.003, release=LinearCost(0.0, 1e-6))
        remember(knowledge.history, f"r{i}", floating(dag), costs, POOL)

    costs = expected_costs(dag, knowledge, "here")

    assert costs.commit_s > 0.002
    assert costs.release.of(10**9) == pytest.approx(0.1)
    assert costs.store.of(10**9) == pytest.approx(2.0, rel=0.01)


def test_starts_and_imports_differ_in_scenarios_as_they_did(knowledge: Knowledge) -> None:
    """The agent had left before every third run, and imports took turns: 1 s, 2 s, ..."""
    dag = workflow(1.0, 1.0, 1.0)
    for i in range(9):
        start = StartCost(invoke_s=2.0 if i % 3 == 2 else 0.1)
        import_s = dict.fromkeys(range(3), 1.0 + i % 2)
        costs = real(dag).with_(cold=start, import_s=import_s)
        remember(knowledge.history, f"r{i}", floating(dag), costs, POOL)

    doubt = expected_costs(dag, knowledge, "here").uncertainty

    starts = doubt.start_residuals[False]
    assert max(starts) - min(starts) == pytest.approx(math.log(20), rel=0.2)
    slow = [log_factor for log_factor in starts if log_factor > 1.0]
    assert len(slow) / len(starts) == pytest.approx(1 / 3, abs=0.05)
    # The latest took 1 s; nearly half of the weight is on runs of 2 s, and none beyond.
    imports = doubt.imports["part"]
    longer = [log_factor for log_factor in imports if log_factor > 0.5 * math.log(2)]
    assert len(longer) / len(imports) == pytest.approx(0.4, abs=0.1)
    assert max(imports) < math.log(2) + 0.2


def test_new_arguments_fall_back_on_sizes_with_more_uncertainty(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 0.5, 5.0)
    for i in range(5):
        remember(knowledge.history, f"r{i}", floating(dag), real(dag), POOL)

    costs = expected_costs(workflow(0.7, 0.5), knowledge, "here")

    assert "samples" in costs.basis[0].text
    assert costs.run(0) == pytest.approx(0.5)  # the middle one
    assert costs.basis[1].text == "4 equal calls"
    assert costs.uncertainty.of(0) > 5 * costs.uncertainty.of(1)


def test_pickling_is_predicted_by_call_too(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 5.0)
    slow = real(dag).with_(known_s={(0, "dump"): 0.4, (1, "dump"): 0.01, (2, "load"): 0.7})
    remember(knowledge.history, "r1", floating(dag), slow, POOL)

    costs = expected_costs(dag, knowledge, "here")

    assert costs.dumping(0) == pytest.approx(0.4)
    assert costs.dumping(1) == pytest.approx(0.01)
    assert costs.loading(2, 10) == pytest.approx(0.7)


def test_a_dag_without_nodes_is_given_its_codes_and_keys(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 5.0)
    remember(knowledge.history, "r1", floating(dag), real(dag), POOL)

    bare = Dag(dag.calls, dag.sinks)
    costs = expected_costs(bare, knowledge, "here", codes_of(dag), lineage(dag))

    assert [costs.run(i) for i in range(3)] == pytest.approx([0.2, 5.0, 0.3])
    assert {basis.text for basis in costs.basis.values()} == {"1 equal call"}


def test_a_thousand_new_calls_of_equal_size_are_predicted_at_once_and_known_ones_apart(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = workflow(0.2, 5.0)
    remember(knowledge.history, "r1", floating(past), real(past), POOL)
    n_predicted, predict = 0, Predictor.predict

    def counted(*args: Any) -> Estimate:
        nonlocal n_predicted
        n_predicted += 1
        return predict(*args)

    monkeypatch.setattr(Predictor, "predict", counted)
    new = [100.0 + i for i in range(1_000)]
    dag = workflow(*new, 0.2, 5.0)
    n_sizes = len({node.packed.n_bytes for node in dag.nodes[:-1]})

    costs = expected_costs(dag, knowledge, "here")

    # Four quantities: of each size of new calls, of the two known ones, and of the last task.
    assert n_predicted == 4 * (n_sizes + 2 + 1)
    assert len({costs.run(task) for task in range(1_000)}) == n_sizes
    assert [costs.run(1_000), costs.run(1_001)] == pytest.approx([0.2, 5.0], rel=0.01)


def test_changed_code_is_more_uncertain(knowledge: Knowledge) -> None:
    dag = workflow(0.2, 5.0)
    for i in range(5):
        remember(knowledge.history, f"r{i}", floating(dag), real(dag), POOL)

    kept = expected_costs(dag, knowledge, "here")
    changed = expected_costs(dag, knowledge, "here", ["new"] * 3)

    assert changed.run(1) == kept.run(1)
    assert changed.uncertainty.of(1) > kept.uncertainty.of(1) + 0.3
    assert changed.basis[1].text.endswith("of earlier code")


def test_what_a_machine_does_to_all_functions_is_one_uncertainty(knowledge: Knowledge) -> None:
    dag, source = workflow(0.2, 0.5, 1.0, 2.0), random.Random(2)
    for i in range(30):
        remember(
            knowledge.history,
            f"r{i}",
            floating(dag),
            on_a_day(real(dag), 5, source, 0.3, 0.05),
            POOL,
        )

    doubt = expected_costs(dag, knowledge, "here").uncertainty

    assert weighted_sigma(doubt) == pytest.approx(0.33, abs=0.08)
    assert all(
        doubt.of(i) == pytest.approx(0.06, abs=0.03) for i in range(4)
    )  # of merge there is one a run: nothing says more


def test_bands_hold_eight_of_ten_makespans_on_a_machine_of_slow_and_quick_days(
    knowledge: Knowledge, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 runs one after the other, each predicted from those before it.

    0.2 is the machine's, 0.05 each task's.
    """
    dag, source = workflow(0.2, 0.5, 0.9, 1.4, 2.0, 0.1), random.Random(1)
    plan, inside, below = floating(dag), 0, 0
    for i in range(200):
        expected = expected_costs(dag, knowledge, "here")
        predicted = forecast(plan, expected, POOL)
        trace = remember(
            knowledge.history, f"r{i}", plan, on_a_day(real(dag), len(dag), source, 0.2, 0.05), POOL
        )
        inside += predicted.covers(trace.makespan_s)
        below += trace.makespan_s <= predicted.p50_s

    with capsys.disabled():
        print(f" {inside / 2:.1f} % inside, {below / 2:.1f} % below the median")  # noqa: T201  # a figure to watch
    assert 140 <= inside <= 180
    assert 80 <= below <= 120
