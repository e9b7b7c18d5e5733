"""Looks that rely on more than what is documented, and what is kept of what an import changed."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sys

import pytest
from dagnb_workers.surroundings import aspects
from dagnb_workers.surroundings.aspects import Aspect, of_process
from dagnb_workers.surroundings.output import opened


def aspect_of(name: str) -> Aspect[object]:
    (aspect,) = [aspect for aspect in of_process(opened) if aspect.name == name]
    return aspect


@pytest.mark.parametrize("is_glibc", [True, False])
@pytest.mark.parametrize("value", ["b", "a longer value than before", "", "aa"])
def test_a_variable_of_another_value_is_seen_by_where_it_lies(
    monkeypatch: pytest.MonkeyPatch, value: str, is_glibc: bool
) -> None:
    if is_glibc and not aspects._IS_GLIBC:
        pytest.skip("this C library is not glibc, whose way of keeping variables is tested here")
    monkeypatch.setattr(aspects, "_IS_GLIBC", is_glibc)
    monkeypatch.setenv("ASPECT", "a")
    environment = aspect_of("environment variables")
    assert environment.look is not None
    kept = environment.keep()
    before = environment.look()

    monkeypatch.setenv("ASPECT", value)
    assert environment.look() != before
    environment.restore(kept)

    assert os.environ["ASPECT"] == "a"


@pytest.mark.parametrize("is_glibc", [True, False])
def test_variables_that_nobody_changed_look_as_before(
    monkeypatch: pytest.MonkeyPatch, is_glibc: bool
) -> None:
    monkeypatch.setattr(aspects, "_IS_GLIBC", is_glibc and aspects._IS_GLIBC)
    environment = aspect_of("environment variables")
    assert environment.look is not None
    environment.keep()

    assert environment.look() == environment.look()


def test_of_variables_an_import_keeps_what_it_set_changed_and_removed() -> None:
    kept = {"same": "1", "changed": "1", "removed": "1", "of the task": "1"}
    before = kept | {"of the task": "2", "new of the task": "1"}
    after = {"same": "1", "changed": "2", "new": "1", "of the task": "2", "new of the task": "1"}

    merged = aspect_of("environment variables").merge(kept, before, after)

    assert merged == {"same": "1", "changed": "2", "new": "1", "of the task": "1"}


def test_of_a_list_an_import_keeps_what_it_put_in_front_and_behind() -> None:
    kept = ["a", "b"]
    before = ["task", "a", "b", "task too"]
    after = ["front", "task", "a", "b", "task too", "behind"]

    assert aspect_of("sys.path").merge(kept, before, after) == ["front", "a", "b", "behind"]


def test_every_aspect_has_a_name_of_its_own() -> None:
    names = [aspect.name for aspect in of_process(opened)]

    assert len(set(names)) == len(names) > 20


def test_a_start_method_that_a_task_chose_is_forgotten() -> None:
    aspect = aspect_of("start method of multiprocessing")
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        kept = aspect.keep()
        multiprocessing.set_start_method("spawn")
        aspect.restore(kept)

        assert kept is None
        assert multiprocessing.get_start_method(allow_none=True) is None
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_what_logging_disable_set_is_seen_and_put_back() -> None:
    aspect = aspect_of("logging: root logger, logging.disable")
    assert aspect.look is not None
    kept, before = aspect.keep(), aspect.look()

    logging.disable(logging.ERROR)
    seen = aspect.look()
    aspect.restore(kept)

    assert seen != before
    assert aspect.look() == before
    assert logging.getLogger("dagnb.test").isEnabledFor(logging.ERROR)


class Policy(asyncio.DefaultEventLoopPolicy if sys.version_info < (3, 14) else object):  # type: ignore[misc]  # of two kinds
    """A policy of the user's own."""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated, and left alone")
def test_the_usual_policy_is_made_anew_and_one_of_the_users_is_kept() -> None:
    aspect, before, own = (
        aspect_of("event loop policy, current loop"),
        asyncio.get_event_loop_policy(),
        Policy(),
    )

    usual = aspect.keep()
    asyncio.set_event_loop_policy(own)
    kept = aspect.keep()
    asyncio.set_event_loop_policy(before)

    assert (usual, kept) == (None, own)


def test_from_python_3_14_on_no_policy_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(sys, "version_info", (3, 14, 0, "final", 0))
        names = [aspect.name for aspect in of_process(opened)]

    assert "current event loop" in names
    assert not [name for name in names if "policy" in name]
