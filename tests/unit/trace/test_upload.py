"""The four ways to upload spans: how they are named, and how long each lets spans be held."""

from __future__ import annotations

import math

import pytest

import dagnb
from dagnb import AtExit, EachTask, Every, WhenFull, session
from dagnb.errors import ConfigError
from dagnb.trace.upload import DEFAULT, Upload, strategy

NAMED = {
    "at_exit": AtExit(),
    "each_task": EachTask(),
    "every:2.5": Every(seconds=2.5),
    "every:1": Every(seconds=1.0),
    "every:10": Every(seconds=10),
    "every:1e-07": Every(seconds=1e-07),
    "when_full:64": WhenFull(n=64),
}


@pytest.mark.parametrize(("text", "upload"), NAMED.items(), ids=NAMED.keys())
def test_a_strategy_and_its_text_are_one(text: str, upload: Upload) -> None:
    assert strategy(text) == upload
    assert upload.text == text
    assert strategy(upload) is upload


def test_numbers_may_be_left_out() -> None:
    assert [strategy(name) for name in ("every", "when_full", DEFAULT)] == [
        Every(),
        WhenFull(),
        EachTask(),
    ]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("evry:2", "unknown way to upload spans. Did you mean 'every:2'?"),
        ("each-task", "Did you mean 'each_task'?"),
        ("off", "unknown way to upload spans. Give 'at_exit'"),
        ("", "unknown way"),
        ("every:soon", "'soon' is not a number. Give 'at_exit', 'each_task', 'every:SECONDS'"),
        ("every:", "'' is not a number"),
        ("every:0", "Every(seconds=0.0): give more than 0 seconds; EachTask() uploads at once."),
        ("every:nan", "more than 0 seconds"),
        ("every:inf", "more than 0 seconds"),
        ("when_full:2.5", "'2.5' is not a number"),
        (
            "when_full:0",
            "WhenFull(n=0): give a whole number from 1 to 10,000; AtExit() holds spans longer.",
        ),
        ("at_exit:3", "at_exit takes no number. Write 'at_exit'."),
        (EachTask, "that is the class. Write EachTask()."),
        (2.5, "metrics=2.5 is not a way to upload spans. Give"),
    ],
)
def test_nonsense_is_refused_with_the_cure(chosen: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        strategy(chosen)

    assert message in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, True, "2"])
def test_no_time_is_no_period(seconds: object) -> None:
    with pytest.raises(ConfigError):
        Every(seconds=seconds)  # type: ignore[arg-type]  # what people may type


@pytest.mark.parametrize("n", [0, 10_001, 2.5, True, "8"])
def test_what_is_no_number_of_spans_is_refused(n: object) -> None:
    with pytest.raises(ConfigError):
        WhenFull(n=n)  # type: ignore[arg-type]  # as above


def test_how_long_spans_may_be_held() -> None:
    """(strategy, held, age) -> seconds"""
    assert EachTask().wait_s(1, 0.0) == 0.0
    assert AtExit().wait_s(9_999, 1e6) == math.inf
    assert [Every(seconds=2.0).wait_s(500, age_s) for age_s in (0.0, 1.5, 2.0, 7.0)] == [
        2.0,
        0.5,
        0.0,
        0.0,
    ]
    assert [WhenFull(n=3).wait_s(n, 1e6) for n in (1, 2, 3, 4)] == [math.inf, math.inf, 0.0, 0.0]


def test_the_session_takes_a_name_or_an_object_and_refuses_nonsense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_settings", session.settings())

    assert dagnb.configure(metrics="when_full:8").upload() == WhenFull(n=8)
    assert dagnb.configure(metrics=AtExit()).upload() == AtExit()
    with pytest.raises(ConfigError, match="Did you mean 'at_exit'"):
        dagnb.configure(metrics="at_exitt")
    assert session.settings().metrics == AtExit()
