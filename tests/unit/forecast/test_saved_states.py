"""Learnt states: the next process does not learn again what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagnb.forecast import knowledge as knowledge_module
from dagnb.forecast.knowledge import SAVE_RUNS, Knowledge, newest_runs
from dagnb.planning.planner import Costs, Pool
from dagnb.prediction.observation import Sample, Target
from dagnb.prediction.predictor import Predictor
from dagnb.run_history.history import History, RunSamples
from dagnb.run_history.saved_states import SavedState, SavedStates
from tests import graphs
from tests.unit.forecast.past_runs import floating, remember

NAMES = ["t0", "t1", "t2"]
CODES = ["c0", "c1", "c2"]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that any process learns, in order."""
    runs: list[str] = []
    learn = Predictor.learn

    def noted(self: Predictor, samples: object, run: str, number: int) -> None:
        runs.append(run)
        learn(self, samples, run, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "learn", noted)
    return runs


def keep(history: History, *runs: str, run_s: float = 1.0) -> None:
    for run in runs:
        costs = Costs(default_run_s=run_s)
        remember(history, run, floating(graphs.chain(3)), costs, Pool(cap=2), codes=CODES)


def run_s(known: Knowledge) -> float:
    return known.predictor(NAMES).predict(Target.RUN, "c0", "t0", 0).p50


def states(history: History) -> Path:
    return history.path.with_name("history.sqlite.learnt")


def test_a_process_learns_only_the_runs_that_are_not_in_the_saved_state(
    history: History, learnt: list[str]
) -> None:
    keep(history, *map(str, range(SAVE_RUNS)))
    expected = run_s(Knowledge(history))
    first = learnt.copy()
    keep(history, "new")
    learnt.clear()

    later = run_s(Knowledge(history))

    assert first == [str(number) for number in range(SAVE_RUNS)]
    assert learnt == ["new"]
    assert later == pytest.approx(expected)


def test_a_saved_state_predicts_what_learning_all_runs_predicts(history: History) -> None:
    for number in range(3 * SAVE_RUNS):
        keep(history, str(number), run_s=1.0 + number % 4)
        Knowledge(history).predictor(NAMES)
    assert states(history).exists()

    saved = Knowledge(history).predictor(NAMES)
    states(history).unlink()
    anew = Knowledge(history).predictor(NAMES)

    for name in NAMES:
        assert saved.known(name) == anew.known(name)


def test_few_runs_are_not_worth_a_state(history: History) -> None:
    keep(history, *map(str, range(SAVE_RUNS - 1)))

    Knowledge(history).predictor(NAMES)

    assert not states(history).exists()


def test_the_state_of_a_history_that_was_forgotten_does_not_count(
    history: History, learnt: list[str]
) -> None:
    keep(history, *map(str, range(SAVE_RUNS)))
    Knowledge(history).predictor(NAMES)
    saved = SavedStates(history.path, knowledge_module.rules())
    birth = history.birth()
    assert saved.read(NAMES, birth).keys() == set(NAMES)
    history.forget()
    keep(history, "after", run_s=9.0)
    learnt.clear()

    assert saved.read(NAMES, birth) == {}  # nothing of it is left
    assert run_s(Knowledge(history)) == pytest.approx(9.0)
    assert learnt == ["after"]


def test_a_history_that_is_begun_anew_does_not_go_on_from_the_state_of_another(
    history: History, learnt: list[str]
) -> None:
    keep(history, *map(str, range(SAVE_RUNS)))
    Knowledge(history).predictor(NAMES)
    history.path.unlink()
    keep(history, "after", run_s=9.0)
    learnt.clear()

    assert run_s(Knowledge(history)) == pytest.approx(9.0)
    assert learnt == ["after"]


@pytest.mark.parametrize("problem", ["other rules", "damaged file", "damaged state"])
def test_a_state_that_cannot_be_used_is_learnt_anew(
    history: History, learnt: list[str], monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    keep(history, *map(str, range(SAVE_RUNS)))
    expected = run_s(Knowledge(history))
    learnt.clear()
    if problem == "other rules":
        monkeypatch.setattr(knowledge_module, "rules", lambda: "others")
    elif problem == "damaged file":
        states(history).write_bytes(b"damaged")
    else:
        saved = SavedStates(history.path, knowledge_module.rules())
        broken = {name: SavedState(10**6, b"damaged") for name in NAMES}
        saved.write(broken, history.birth())

    assert run_s(Knowledge(history)) == pytest.approx(expected)
    assert learnt == [str(number) for number in range(SAVE_RUNS)]


def test_a_state_is_not_replaced_by_an_older_one(history: History) -> None:
    saved = SavedStates(history.path, "rules")
    saved.write({"f": SavedState(7, b"later")}, "birth")

    saved.write({"f": SavedState(3, b"older")}, "birth")

    assert saved.read(["f", "g"], "birth") == {"f": SavedState(7, b"later")}
    assert saved.read(["f"], "another birth") == {}
    saved.write({"f": SavedState(1, b"of another history")}, "another birth")
    assert saved.read(["f"], "another birth") == {"f": SavedState(1, b"of another history")}


def test_of_a_long_history_only_the_newest_runs_of_each_function_are_learnt() -> None:
    often = Sample(function="c", name="often", input_bytes=0, output_bytes=0)
    seldom = Sample(function="c", name="seldom", input_bytes=0, output_bytes=0)
    runs = [RunSamples(f"{i}", i, [often, often]) for i in range(6)]
    runs[1] = RunSamples("1", 1, [often, seldom])

    assert newest_runs(runs, 2) == [RunSamples("1", 1, [seldom]), *runs[4:]]


def test_no_more_than_most_runs_are_learnt_at_once(
    history: History, learnt: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge_module, "MOST_RUNS", 3)
    keep(history, *"abcdefgh")

    Knowledge(history).predictor(NAMES)

    assert learnt == ["f", "g", "h"]


def test_an_interrupt_while_runs_are_learnt_teaches_none_of_them_twice(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(history, *map(str, range(8)))
    known, learn = Knowledge(history), Predictor.learn

    def interrupted(self: Predictor, samples: object, run: str, number: int) -> None:
        if run == "5":
            raise KeyboardInterrupt
        learn(self, samples, run, number)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            known.predictor(NAMES)
    after = known.predictor(NAMES)

    for other in (after, Knowledge(history).predictor(NAMES)):
        model = other.known("t0").model(Target.RUN, "c0")
        assert model is not None
        assert len(model.batches) == 8


def test_a_history_that_was_replaced_by_an_older_copy_is_learnt_anew(
    history: History, learnt: list[str]
) -> None:
    keep(history, "a", "b")
    before = history.path.read_bytes()
    keep(history, "c", "d", "e", "f")
    Knowledge(history).predictor(NAMES)
    for path in history.path.parent.glob("history.sqlite-*"):
        path.unlink()
    history.path.write_bytes(before)
    keep(history, "later")
    learnt.clear()

    Knowledge(history).predictor(NAMES)

    assert learnt == ["a", "b", "later"]


def test_a_predictor_does_not_change_when_others_learn(history: History) -> None:
    keep(history, "a")
    known = Knowledge(history)
    first = known.predictor(NAMES)
    keep(history, *"bcdefgh", run_s=9.0)

    second = known.predictor(NAMES)

    assert first.predict(Target.RUN, "c0", "t0", 0).p50 == pytest.approx(1.0)
    assert second.predict(Target.RUN, "c0", "t0", 0).p50 == pytest.approx(9.0)
