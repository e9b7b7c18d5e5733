"""A watch sees each module whose code runs for the first time, and modules do not notice."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagnb_workers.surroundings import isolation
from dagnb_workers.surroundings.isolation import ImportTime, ImportWatch


class Events:
    """The begins and ends that a watch reports."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.time_spent = ImportTime()

    @contextmanager
    def around(self) -> Iterator[None]:
        self.events.append("begin")
        yield
        self.events.append("end")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Events]:
    (tmp_path / "watched_outer.py").write_text(
        "import watched_inner\nloaded_by = type(__spec__.loader).__name__\n"
    )
    (tmp_path / "watched_inner.py").write_text("value = 1\n")
    (tmp_path / "watched_broken.py").write_text("raise ValueError('in the module')\n")
    (tmp_path / "watched_space").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Events()
    monkeypatch.setattr(
        sys, "meta_path", [ImportWatch(made.around, time_spent=made.time_spent), *sys.meta_path]
    )
    yield made
    for name in [name for name in sys.modules if name.startswith("watched_")]:
        del sys.modules[name]


def test_what_a_module_imports_belongs_to_its_import(watched: Events) -> None:
    importlib.import_module("watched_outer")

    assert watched.events == ["begin", "end"]


def test_a_module_that_is_there_already_is_not_told(watched: Events) -> None:
    importlib.import_module("watched_inner")
    importlib.import_module("watched_inner")

    assert watched.events == ["begin", "end"]


def test_a_module_has_its_own_loader_while_its_code_runs_and_afterwards(
    watched: Events,
) -> None:
    module = importlib.import_module("watched_outer")

    assert module.loaded_by == "SourceFileLoader"
    assert (
        type(module.__loader__).__name__
        == type(module.__spec__.loader).__name__
        == "SourceFileLoader"
    )
    assert importlib.reload(module).loaded_by == "SourceFileLoader"


def test_a_spec_that_is_asked_for_answers_as_the_modules_own_loader_does(
    watched: Events,
) -> None:
    spec = importlib.util.find_spec("watched_inner")

    assert spec is not None
    assert spec.loader is not None
    assert spec.loader.get_source("watched_inner") == "value = 1\n"  # type: ignore[attr-defined]
    assert watched.events == []


def test_a_spec_that_was_asked_for_can_be_executed_later(watched: Events) -> None:
    spec = importlib.util.find_spec("watched_inner")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    assert module.value == 1
    assert watched.events == ["begin", "end"]


def test_an_import_that_fails_raises_what_it_raises_and_the_next_one_is_told(
    watched: Events,
) -> None:
    with pytest.raises(ValueError, match="in the module"):
        importlib.import_module("watched_broken")
    importlib.import_module("watched_inner")

    assert watched.events[-2:] == ["begin", "end"]


def test_a_folder_without_a_module_is_still_a_package(watched: Events) -> None:
    assert importlib.import_module("watched_space").__path__


def test_imports_of_other_threads_are_not_told(watched: Events) -> None:
    thread = threading.Thread(target=importlib.import_module, args=("watched_outer",))
    thread.start()
    thread.join()

    assert "watched_outer" in sys.modules
    assert watched.events == []


def test_the_time_of_imports_adds_up_and_counts_those_within_others_once(
    watched: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the clock of this test takes a second, and an import takes two looks."""
    moments = itertools.count(0.0)
    monkeypatch.setattr(isolation.time, "monotonic", lambda: next(moments))

    importlib.import_module("watched_outer")
    with pytest.raises(ValueError, match="in the module"):
        importlib.import_module("watched_broken")

    assert watched.time_spent.seconds == 2.0
