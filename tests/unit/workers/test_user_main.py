"""`__main__` of a worker has the names of the running function; elsewhere it has stand-ins."""

from __future__ import annotations

import functools
import pickle
import runpy
import sys
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from dagnb_workers.surroundings.user_main import UserMain, install

from dagnb.errors import GraphError

NOTEBOOK = """
import functools

def square(number):
    return number * number

def task():
    return square(2)

def decorated(function):
    @functools.wraps(function)
    def inner():
        return function()
    return inner

class Method:
    def task(self):
        return square(2)

    def __call__(self):
        return square(2)

class Outer:
    class Inner:
        pass
"""
NOTHING: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


@pytest.fixture
def notebook() -> dict[str, Any]:
    """Names of code whose module is `__main__`."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    return names


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[UserMain]:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return install()


def decorator(function: Callable[[], Any]) -> Callable[[], Any]:
    """Of another module than the function."""

    @functools.wraps(function)
    def inner() -> Any:
        return function()

    return inner


KINDS: dict[str, Callable[[dict[str, Any]], Callable[..., Any]]] = {
    "function": lambda names: names["task"],
    "decorated elsewhere": lambda names: decorator(names["task"]),
    "cached": lambda names: functools.cache(names["task"]),
    "partial": lambda names: functools.partial(names["task"]),
    "method": lambda names: names["Method"]().task,
    "object": lambda names: names["Method"](),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_finds_the_very_same_function(
    main: UserMain, notebook: dict[str, Any], kind: str
) -> None:
    main.show(KINDS[kind](notebook), NOTHING)

    assert pickle.loads(pickle.dumps(notebook["square"])) is notebook["square"]


def test_pickle_finds_classes_within_classes(main: UserMain, notebook: dict[str, Any]) -> None:
    main.show(notebook["task"], NOTHING)

    assert pickle.loads(pickle.dumps(notebook["Outer"].Inner)) is notebook["Outer"].Inner


def test_a_function_and_the_class_of_an_object_that_were_given_are_found(
    main: UserMain, notebook: dict[str, Any]
) -> None:
    other: dict[str, Any] = {"__name__": "__main__"}
    exec("class Given: pass\ndef given(): pass", other)

    main.show(notebook["task"], ((other["given"],), {"value": other["Given"]()}))

    assert pickle.loads(pickle.dumps(other["given"])) is other["given"]
    assert type(pickle.loads(pickle.dumps(other["Given"]()))) is other["Given"]


def test_other_arguments_are_released_with_the_call(main: UserMain) -> None:
    class Large:
        pass

    argument = Large()
    released = weakref.ref(argument)

    main.show(test_what_is_not_there_is_no_attribute, ((argument,), {"also": argument}))
    del argument

    assert released() is None


def test_what_is_not_there_is_no_attribute(main: UserMain, notebook: dict[str, Any]) -> None:
    main.show(notebook["task"], NOTHING)

    with pytest.raises(AttributeError, match="module '__main__' has no attribute 'nothing'"):
        _ = main.nothing
    assert not hasattr(main, "__file__")


def test_an_object_that_answers_everything_wrongly_has_no_names(main: UserMain) -> None:
    class Odd:
        def __getattr__(self, name: str) -> object:
            raise ValueError(name)

        def __call__(self) -> None: ...

    main.show(Odd(), NOTHING)

    assert not hasattr(main, "square")


def test_what_a_task_sets_there_is_gone_for_the_next_one(
    main: UserMain, notebook: dict[str, Any]
) -> None:
    main.left = 1
    assert main.left == 1

    main.show(notebook["task"], NOTHING)

    assert not hasattr(main, "left")


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Returns `__main__` of a process that multiprocessing started anew.

    It runs the main module by the name in its spec.
    """
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    spec = install().__spec__
    assert spec is not None
    monkeypatch.delitem(sys.modules, spec.name)  # as in the new process
    made = ModuleType("__mp_main__")
    vars(made).update(runpy.run_module(spec.name, run_name="__mp_main__", alter_sys=True))
    monkeypatch.setitem(sys.modules, "__main__", made)
    return made


def test_in_a_process_started_anew_a_function_can_be_read_and_says_at_its_call_that_it_is_not_there(
    anew: ModuleType,
) -> None:
    square = pickle.loads(b"c__main__\nsquare\n.")

    with pytest.raises(GraphError, match="'square' is a name of the notebook or script"):
        square(2)


@pytest.mark.parametrize(
    "use", [str, repr, len, list, bool, lambda item: item == 1, lambda item: item.other]
)
def test_in_a_process_started_anew_an_object_can_be_read_and_not_be_used(
    anew: ModuleType, use: Callable[[Any], Any]
) -> None:
    item = pickle.loads(b"\x80\x02c__main__\nMethod\n)\x81}X\x05\x00\x00\x00valueK\x03sb.")

    with pytest.raises(GraphError, match="'Method' is a name of the notebook"):
        use(item)
