"""Looks that rely on more than what is documented, and what is kept of what an import changed."""

from __future__ import annotations

import os

import pytest
from dagnb_workers import aspects
from dagnb_workers.aspects import Aspect, of_process
from dagnb_workers.output import opened


def found(name: str) -> Aspect[object]:
    (aspect,) = [aspect for aspect in of_process(opened) if aspect.name == name]
    return aspect


@pytest.mark.parametrize("is_glibc", [True, False])
@pytest.mark.parametrize("value", ["b", "a longer value than before", "", "aa"])
def test_a_variable_of_another_value_is_seen_by_where_it_lies(
    monkeypatch: pytest.MonkeyPatch, value: str, is_glibc: bool
) -> None:
    if is_glibc and not aspects._IS_GLIBC:
        pytest.skip("another C library")
    monkeypatch.setattr(aspects, "_IS_GLIBC", is_glibc)
    monkeypatch.setenv("ASPECT", "a")
    environment = found("environment variables")
    assert environment.look is not None
    kept = environment.keep()
    before = environment.look()

    monkeypatch.setenv("ASPECT", value)
    assert environment.look() != before
    environment.restore(kept)

    assert os.environ["ASPECT"] == "a"


@pytest.mark.parametrize("is_glibc", [True, False])
def test_variables_that_nobody_changed_look_as_before(monkeypatch: pytest.MonkeyPatch, is_glibc: bool) -> None:
    monkeypatch.setattr(aspects, "_IS_GLIBC", is_glibc and aspects._IS_GLIBC)
    environment = found("environment variables")
    assert environment.look is not None
    environment.keep()

    assert environment.look() == environment.look()


def test_of_variables_an_import_keeps_what_it_set_changed_and_removed() -> None:
    kept = {"same": "1", "changed": "1", "removed": "1", "of the task": "1"}
    before = kept | {"of the task": "2", "new of the task": "1"}
    after = {"same": "1", "changed": "2", "new": "1", "of the task": "2", "new of the task": "1"}

    merged = found("environment variables").merge(kept, before, after)

    assert merged == {"same": "1", "changed": "2", "new": "1", "of the task": "1"}


def test_of_a_list_an_import_keeps_what_it_put_in_front_and_behind() -> None:
    kept = ["a", "b"]
    before = ["task", "a", "b", "task too"]
    after = ["front", "task", "a", "b", "task too", "behind"]

    assert found("sys.path").merge(kept, before, after) == ["front", "a", "b", "behind"]


def test_every_aspect_has_a_name_of_its_own() -> None:
    names = [aspect.name for aspect in of_process(opened)]

    assert len(set(names)) == len(names) > 20
