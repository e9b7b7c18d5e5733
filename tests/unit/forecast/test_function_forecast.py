"""The forecast of a function: by resources, with its relation, uncertainty and basis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dagnb.errors import UnknownNameError
from dagnb.forecast.function_forecast import CURVE, FunctionForecast, function_forecast, relation
from dagnb.forecast.knowledge import Knowledge
from dagnb.graph import client_hook
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.planner import Basis, Costs, Pool
from dagnb.prediction.estimate import Estimate, normal
from dagnb.prediction.experts import EXPERTS
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.run_history.history import History
from dagnb.simulation.simulate import simulate

BIG = Resources(memory_mb=512)
ARGUMENTS = 1_000


@pytest.fixture
def taught(tmp_path: Path) -> Knowledge:
    """`resize` in two runs.

    Three times as usual and once with more memory, on 1000 bytes, giving 200.
    """
    history = History(tmp_path / "history.sqlite")
    record(history, "old", run_s=2.0, codes=("first",))
    record(history, "new", run_s=2.0, codes=("second",))
    return Knowledge(history)


def record(history: History, run: str, *, run_s: float, codes: tuple[str, ...]) -> None:
    description = RunDescription(
        name="images",
        planner="flexible",
        names=tuple(f"resize-{i}" for i in range(4)),
        functions=("resize",) * 4,
        upstream=((),) * 4,
        sinks=(0, 1, 2, 3),
        is_single=False,
        resources=("", "", "", BIG.label()),
        needs={"": DEFAULT, BIG.label(): BIG},
        codes=codes * 4,
        meta="{}",
    )
    costs = Costs(
        default_run_s=run_s,
        default_output_bytes=200,
        argument_bytes=dict.fromkeys(range(4), ARGUMENTS),
    )
    history.record(
        run, description, RunState.OK, simulate(description.plan, costs, Pool(cap=4, eager=False))
    )


def forecast(taught: Knowledge) -> FunctionForecast:
    return function_forecast("resize", taught)


def test_there_is_a_line_for_each_resources_most_samples_first(taught: Knowledge) -> None:
    assert [(line.resources, line.n) for line in forecast(taught).lines] == [(DEFAULT, 6), (BIG, 2)]


def test_it_is_predicted_for_what_is_usually_read_or_for_so_many_bytes(taught: Knowledge) -> None:
    usual = forecast(taught).lines[0]

    assert usual.n_bytes == ARGUMENTS
    assert (usual.run.p50, usual.output.p50) == pytest.approx((2.0, 200.0), rel=0.01)
    assert [line.n_bytes for line in function_forecast("resize", taught, n_bytes=5).lines] == [5, 5]


def test_every_sample_is_a_point_and_the_curve_goes_beyond_them(taught: Knowledge) -> None:
    expected = forecast(taught)
    sizes = [n_bytes for n_bytes, *_ in expected.curve]

    assert {(p.n_bytes, round(p.run_s, 3), p.output_bytes) for p in expected.points} == {
        (ARGUMENTS, 2.0, 200)
    }
    assert len(expected.points) == 8
    assert (sizes[0], sizes[-1], len(sizes)) == (ARGUMENTS // 4, ARGUMENTS * 4, CURVE)
    assert all(p10 < p50 < p90 for _, p10, p50, p90 in expected.curve)


def test_versions_of_the_code_are_counted_and_the_newest_predicts(taught: Knowledge) -> None:
    expected = forecast(taught)

    assert expected.codes == 2
    assert "of earlier code" not in expected.basis
    assert "of earlier code" in function_forecast("resize", taught, code="third").basis


def test_the_text_is_a_table_with_what_it_rests_on(taught: Knowledge) -> None:
    first, heads, *rows = str(forecast(taught)).splitlines()

    assert first.startswith("resize: ")
    assert first.endswith(", 2 versions of its code")
    assert heads.startswith("resources")
    assert [row.split()[0] for row in rows] == ["default", BIG.label().split()[0]]
    assert "1,000 B" in rows[0]


def test_a_function_that_never_ran_is_an_error_unless_its_task_is_at_hand(
    taught: Knowledge,
) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown function 'resise'. Did you mean 'resize'"):
        function_forecast("resise", taught)

    expected = function_forecast(
        "fresh", taught, code="x", options=TaskOptions(time_s=9.0, resources=BIG)
    )
    assert [(line.resources, line.n) for line in expected.lines] == [(BIG, 0)]
    assert expected.lines[0].run.p50 == pytest.approx(9.0)
    assert expected.points == ()


def test_resources_that_the_task_at_hand_asks_for_have_a_line_though_unmeasured(
    taught: Knowledge,
) -> None:
    other = Resources(cpus=2.0)
    expected = function_forecast("resize", taught, options=TaskOptions(resources=other))

    assert [(line.resources, line.n) for line in expected.lines] == [
        (DEFAULT, 6),
        (BIG, 2),
        (other, 0),
    ]


@pytest.mark.parametrize(
    ("expert", "words"),
    [
        ("usual value", "constant"),
        ("last ratio", "linear"),
        ("affine from 1e+06 bytes", "affine"),
        ("Bayes", "mixed, by evidence"),
        ("nearest sizes", "median of similar sizes"),
        ("something new", "something new"),
        ("", "hinted"),
    ],
)
def test_the_expert_is_shown_as_a_relation(expert: str, words: str) -> None:
    basis = Basis(f"6 samples, {expert}", expert=expert)

    assert relation(Estimate(1.0, normal(0.1), basis=basis)) == words


def test_every_expert_is_shown_as_a_relation_of_its_own_words() -> None:
    shown = [relation(Estimate(1.0, normal(0.1), basis=Basis("", expert=e))) for e in EXPERTS]

    assert not set(shown) & set(EXPERTS)


def test_what_is_unknown_is_said_to_be(taught: Knowledge) -> None:
    assert relation(Estimate(1.0, normal(0.1))) == "unknown"


def test_it_shows_its_table_where_nothing_can_draw_it(
    taught: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = forecast(taught)
    wordy = replace(client_hook.client(), show=lambda thing: {"text/plain": repr(thing)})
    monkeypatch.setattr(client_hook, "_client", wordy)

    assert expected._repr_mimebundle_() == {"text/plain": str(expected)}
