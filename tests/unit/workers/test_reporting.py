"""Loggers and warnings are set as the client had them."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from dagnb_workers.surroundings.surroundings import (
    Filters,
    LoggerSettings,
    Printing,
    of_loggers,
    of_warnings,
    set_loggers,
    set_warnings,
)

from dagnb.graph.context import TaskContext, entered

HERE = TaskContext(run="r", task="t", attempt=1, seed=1, worker="w")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The root logger without handlers; as it was at the end."""
    logger = logging.getLogger()
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [])
    yield logger
    logger.setLevel(level)


def settings_of(name: str) -> LoggerSettings:
    """Returns the settings of one logger, after they went through JSON."""
    (settings,) = [each for each in of_loggers() if each.name == name]
    return LoggerSettings.of(json.loads(json.dumps(asdict(settings))))


def test_the_level_and_the_form_of_a_root_logger_are_told(root: logging.Logger) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("{message} at {asctime}", "%H", "{"))
    handler.setLevel(logging.ERROR)
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    printing = Printing(
        is_stdout=True,
        level=logging.ERROR,
        form="{message} at {asctime}",
        date_form="%H",
        style="{",
    )
    assert settings_of("") == LoggerSettings(name="", level=logging.INFO, printing=(printing,))


def test_handlers_that_do_not_print_are_not_told(root: logging.Logger, tmp_path: object) -> None:
    root.addHandler(logging.FileHandler(f"{tmp_path}/log", delay=True))
    root.addHandler(logging.NullHandler())
    root.addHandler(logging.StreamHandler(io.StringIO()))

    assert settings_of("").printing == ()


def test_only_loggers_of_which_something_was_set_are_told(root: logging.Logger) -> None:
    logging.getLogger("surroundings.plain")
    logging.getLogger("surroundings.set").setLevel(logging.ERROR)

    names = {each.name for each in of_loggers()}

    assert {"", "surroundings.set"} <= names
    assert "surroundings.plain" not in names
    logging.getLogger("surroundings.set").setLevel(logging.NOTSET)


def test_messages_are_printed_in_the_form_told_while_a_task_runs(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of the worker itself are printed from WARNING on, as without any setting."""
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    printing = Printing(is_stdout=False, level=0, form="%(levelname)s|%(message)s")
    set_loggers([LoggerSettings(name="", level=logging.INFO, printing=(printing,))])

    root.info("before")
    root.warning("machinery")
    with entered(HERE, whole_process=False):
        root.debug("deep")
        root.info("step")

    assert printed.getvalue() == "WARNING|machinery\nINFO|step\n"


def test_filters_of_warnings_read_back_in_their_order() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", "skip.*", UserWarning, r"a\.b", 3)
        warnings.simplefilter("error", DeprecationWarning)
        filters = Filters.of(json.loads(json.dumps(asdict(of_warnings()))))

        warnings.resetwarnings()
        set_warnings(filters)

        assert of_warnings() == filters
        assert [line[:3] for line in filters.lines] == [
            ("error", "", "builtins"),
            ("ignore", "skip.*", "builtins"),
        ]
        with pytest.raises(DeprecationWarning):
            warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_a_filter_for_a_category_of_a_module_that_is_not_loaded_is_left_out() -> None:
    with warnings.catch_warnings():
        set_warnings(Filters(lines=(("error", "", "not_loaded_at_all", "SomeWarning", "", 0),)))

        assert of_warnings().lines == ()
