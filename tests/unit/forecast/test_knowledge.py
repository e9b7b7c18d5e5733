"""Knowledge: read once, then only what is new; what acts of a platform cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagnb.forecast import knowledge as knowledge_module
from dagnb.forecast.costs import platform
from dagnb.forecast.knowledge import Knowledge, knowledge
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Costs, LinearCost, Pool
from dagnb.prediction.observation import Target
from dagnb.run_history import history as history_module
from dagnb.run_history.history import History
from dagnb.run_history.platform_act import Act
from dagnb.trace.trace import Phase
from tests import graphs
from tests.unit.forecast.past_runs import floating, remember

POOL = Pool(cap=2)
CODES = ["c0", "c1", "c2"]


@pytest.fixture
def known(tmp_path: Path) -> Knowledge:
    return Knowledge(History(tmp_path / "history.sqlite"))


def act(
    phase: Phase,
    seconds: float,
    n_bytes: int = 0,
    detail: str = "",
    resources: Resources | None = None,
) -> Act:
    where = resources or Resources()
    return Act(phase=phase, detail=detail, resources=where, n_bytes=n_bytes, seconds=seconds)


def keep(known: Knowledge, run: str, run_s: float) -> None:
    remember(
        known.history, run, floating(graphs.chain(3)), Costs(default_run_s=run_s), POOL, codes=CODES
    )


def run_s(known: Knowledge, name: str = "t0", code: str = "c0") -> float:
    return known.predictor([name]).predict(Target.RUN, code, name, 0).p50


def test_it_grows_with_the_history(known: Knowledge) -> None:
    keep(known, "r1", 1.0)
    first = run_s(known)

    for i in range(3):
        keep(known, f"more{i}", 4.0)

    assert first == pytest.approx(1.0)
    assert run_s(known) == pytest.approx(4.0)


def test_nothing_is_learnt_twice(known: Knowledge) -> None:
    keep(known, "r1", 1.0)

    for _ in range(3):
        known.predictor(["t0", "t1"])

    assert known.predictor(["t0"]).predict(Target.RUN, "c0", "t0", 0).source.startswith("1 samples")


def test_functions_asked_for_later_are_learnt_then(known: Knowledge) -> None:
    keep(known, "r1", 1.0)
    known.predictor(["t0"])

    assert not known.predictor(["t0"]).predict(Target.RUN, "c2", "t2", 0).is_known
    assert run_s(known, "t2", "c2") == pytest.approx(1.0)


@pytest.mark.parametrize("how", ["forgotten", "deleted"])
def test_what_was_forgotten_is_unknown_to_who_had_read_it(known: Knowledge, how: str) -> None:
    keep(known, "r1", 1.0)
    keep(known, "r2", 1.0)
    assert run_s(known) == pytest.approx(1.0)
    assert known.platform("here").n > 0

    if how == "forgotten":
        History(known.history.path).forget()
    else:
        for path in known.history.path.parent.glob("history.sqlite*"):
            path.unlink()

    assert not known.predictor(["t0"]).predict(Target.RUN, "c0", "t0", 0).is_known
    assert known.platform("here").n == 0
    keep(known, "r3", 3.0)
    assert run_s(known) == pytest.approx(3.0)
    assert known.platform("here").n > 0


def test_a_history_is_known_once_a_process(tmp_path: Path) -> None:
    assert knowledge(tmp_path / "a") is knowledge(tmp_path / "a")
    assert knowledge(tmp_path / "a") is not knowledge(tmp_path / "b")


def test_a_history_that_was_damaged_teaches_nothing(known: Knowledge) -> None:
    remember(
        known.history, "r1", floating(graphs.chain(3)), Costs(), POOL, codes=CODES, platform="far"
    )
    assert known.platform("far").n > 0
    known.history.path.write_bytes(b"damaged")

    assert known.platform("far").n == 0


def test_a_platform_is_learnt_from_its_acts_alone(known: Knowledge) -> None:
    slow = Costs(
        default_run_s=0.1, commit_s=0.05, default_output_bytes=10**6, store=LinearCost(0.2, 1e-7)
    )
    remember(
        known.history, "r1", floating(graphs.chain(3)), slow, POOL, codes=CODES, platform="far"
    )

    assert known.platform("far").store.of(10**6) == pytest.approx(0.3, rel=0.01)
    assert known.platform("far").commit.of(0) == pytest.approx(0.05, rel=0.6)
    assert known.platform("here").n == 0
    assert known.platform("here").store == Costs.store


def test_what_is_learnt_bit_by_bit_is_what_is_learnt_at_once(
    known: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (knowledge_module, history_module):
        monkeypatch.setattr(module, "ACTS", 7)
    for i in range(5):
        remember(
            known.history,
            f"r{i}",
            floating(graphs.chain(3)),
            Costs(commit_s=0.01 * 2**i),
            POOL,
            codes=CODES,
        )
        bit_by_bit = known.platform("here")

    assert bit_by_bit == Knowledge(known.history).platform("here")
    assert bit_by_bit.commit.of(0) == pytest.approx(0.08, rel=0.3)  # of the last seven of fifteen
    assert bit_by_bit.n == len(known.history.acts("here")[0])


def test_laws_of_transfers_and_typical_acts() -> None:
    moved = [act(Phase.FETCH, 0.01 + n * 1e-8, n) for n in (10**4, 10**5, 10**6, 10**7)]
    rare = [act(Phase.SUBMIT, s) for s in (0.1, 0.2, 9.0)]

    result = platform([*moved, *rare])

    assert result.fetch.of(10**6) == pytest.approx(0.02, rel=0.05)
    assert result.submit_s == 0.2
    assert (result.store, result.return_s) == (Costs.store, Costs.return_s)


def test_starts_are_known_by_resources_and_temperature() -> None:
    big = Resources(memory_mb=4000)
    seen = [act(Phase.INVOKE, 1.0, detail="cold")] * 9 + [
        act(Phase.INVOKE, 8.0, detail="cold", resources=big)
    ] * 9
    seen += [act(Phase.INVOKE, 0.01, detail="warm")] * 9

    result = platform(seen).starts

    assert result.seconds(Resources(), is_cold=True).p50 == pytest.approx(1.0, rel=0.2)
    assert result.seconds(big, is_cold=True).p50 == pytest.approx(8.0, rel=0.2)
    assert result.seconds(Resources(), is_cold=False).p50 == pytest.approx(0.01, rel=0.2)
