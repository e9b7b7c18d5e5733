"""A task that was imported by name is, after its module was reloaded, what the module has now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dagnb.graph.task import Node, Task

MODULE = """
from dagnb import task

@task(retries=1)
def load(x, y=0):
    return "first"

class Model:
    @task
    def fit(self):
        return "first"
"""

Edit = Callable[[str, str], ModuleType]


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Imports the module, and later reloads it with a text replaced."""
    file = tmp_path / "mended_tasks.py"
    file.write_text(MODULE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # its time might be that of the next edit

    def edit(before: str, after: str) -> ModuleType:
        file.write_text(file.read_text("utf-8").replace(before, after), "utf-8")
        importlib.invalidate_caches()
        loaded = sys.modules.get("mended_tasks")
        return importlib.reload(loaded) if loaded else importlib.import_module("mended_tasks")

    yield edit
    sys.modules.pop("mended_tasks", None)


def value(node: Node[Any]) -> Any:
    """Returns the value of its function."""
    return node.task.function(*node.args, **node.kwargs)


def test_the_next_call_is_one_of_the_edited_function(edited: Edit) -> None:
    load = edited("", "").load
    before = load(1)
    module = edited("first", "second")

    assert value(load(1)) == "second"
    assert load(1).task is module.load
    assert value(before) == "first"


def test_options_parameters_and_the_looks_of_it_are_those_of_the_edit(edited: Edit) -> None:
    load = edited("", "").load
    edited("(retries=1)\ndef load(x, y=0)", "(retries=5)\ndef load(x, y=0, z=0)")

    assert load(1, z=2).task.options.retries == 5
    assert repr(load) == "<task load(x, y, z): retries=5>"
    with pytest.raises(TypeError, match=r"load\(\): got an unexpected keyword argument 'w'"):
        load(1, w=2)


def test_options_that_were_given_later_are_given_to_the_edited_one(edited: Edit) -> None:
    slow = edited("", "").load.with_options(timeout_s=9).with_options(backoff_s=3)
    edited("first", "second")
    edited("retries=1", "retries=5")

    options = slow(1).task.options
    assert (value(slow(1)), options.timeout_s, options.backoff_s, options.retries) == (
        "second",
        9,
        3,
        5,
    )


def test_the_task_of_a_method_follows_too(edited: Edit) -> None:
    fit, model = edited("", "").Model.fit, object()
    edited("first", "second")

    assert value(fit(model)) == "second"


def test_a_function_that_was_marked_by_a_call_follows(edited: Edit) -> None:
    edited("@task(retries=1)\ndef load", "def _load")
    load = edited("class Model", "load = task(_load)\nclass Model").load
    edited("first", "second")

    assert value(load(1)) == "second"


def test_what_the_module_no_longer_has_stays_as_it_was(edited: Edit) -> None:
    load = edited("", "").load
    module = edited("load", "fetch")
    del module.load

    assert value(load(1)) == "first"


def test_another_task_of_that_name_in_the_same_load_of_a_module_is_not_taken_for_it(
    edited: Edit,
) -> None:
    again = "\nfirst = load\n@task\ndef load(x):\n    return 'again'\n"
    module = edited("\nclass Model", again + "\nclass Model")

    assert (value(module.first(1)), value(module.load(1))) == ("first", "again")


def test_a_task_of_a_notebook_is_not_looked_up() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def load(): return 'first'", space)
    load = Task(space["load"])
    exec("def load(): return 'second'", space)

    assert value(load()) == "first"
