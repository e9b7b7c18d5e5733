"""A failed task can be caught by the class of its exception, of which the client knows the name
alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import importlib.util
import json
import pickle
import subprocess
import sys
import traceback
from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dagnb
from dagnb import task
from dagnb.errors import (
    DagnbError,
    OriginalError,
    RunTimeoutError,
    TaskError,
    TaskFailedError,
    task_failed,
)
from dagnb.failure import class_names


class Plain(Exception):  # noqa: N818  # here and below: classes as users write them
    """Nothing of its own."""


class Picky(Exception):  # noqa: N818
    """Cannot be made, shown or compared without its own fields."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(code, body)
        self.code, self.body = code, body

    def __str__(self) -> str:
        return f"{self.code}: {self.body}"

    def __repr__(self) -> str:
        return f"Picky({self.code})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picky) and self.code == other.code

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Picky, (self.code, self.body)


class Empty(Exception):  # noqa: N818
    """A collection of errors, of which there may be none: then it is false."""

    def __init__(self, items: list[str]) -> None:
        super().__init__(items)
        self.items = items

    def __len__(self) -> int:
        return len(self.items)


class Unsure(Exception):  # noqa: N818
    """Has no truth value."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


class Renewed(Exception):  # noqa: N818
    """Has a `__new__` that takes arguments."""

    def __new__(cls, code: int) -> Renewed:
        made = super().__new__(cls, code)
        made.code = code  # type: ignore[attr-defined]
        return made


class Slotted(Exception):  # noqa: N818
    """Has its fields in slots, one of them of a name of ours."""

    __slots__ = ("code", "run")


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    """Refuses that its fields are set."""

    code: int = 0


class Abstract(Exception, ABC):  # noqa: N818
    """Has another metaclass than most."""


class Taken(ValueError):  # noqa: N818
    """Has a property where ours has a field."""

    @property
    def errors(self) -> list[str]:
        """Never asked for."""
        raise RuntimeError("asked")

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        """Never asked for."""
        raise RuntimeError("asked")


class Endless(Exception):  # noqa: N818
    """Never stops looking for an attribute."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self, f"{name}x")


class Hooked(Exception):  # noqa: N818
    """Runs code for each of its subclasses."""

    def __init_subclass__(cls, code: int) -> None:
        raise RuntimeError(f"ran for {code}")


class Both(KeyError, AttributeError):  # noqa: N818
    """Of two built-in classes."""


class Outer:
    """Holds one."""

    class Inner(Exception):  # noqa: N818
        """Within another class."""


class OfFiles(FileNotFoundError):  # noqa: N818
    """Made by the `__new__` of OSError, which takes its arguments apart."""

    def __init__(self, path: str, reason: str, more: str) -> None:
        super().__init__(2, reason, path)


class Meta(type):
    """Runs code for each class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if args[0] != "Metal":
            raise RuntimeError("ran")
        return super().__new__(cls, *args, **kwargs)


class Metal(ArithmeticError, metaclass=Meta):  # noqa: N818
    """Not combined, but its base is."""


COMBINED: list[type[Exception]] = [
    KeyError, OSError, FileNotFoundError, TimeoutError, ConnectionResetError, UnicodeDecodeError, ImportError,
    NameError, AttributeError, MemoryError, RecursionError, UserWarning, json.JSONDecodeError,
    subprocess.CalledProcessError, concurrent.futures.CancelledError, Plain, Picky, Renewed, Slotted, Frozen, Abstract,
    Taken, Endless, Hooked, Both, Outer.Inner, OfFiles,
]  # fmt: skip

PLAIN: list[type[BaseException]] = [
    StopIteration, StopAsyncIteration, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError,
    ExceptionGroup, SyntaxError, Exception, RunTimeoutError,
]  # fmt: skip


def failed(*mro: str, n: int = 1) -> TaskFailedError:
    """The error of a run whose first failure was of this class."""
    told = TaskError(
        task="f-0",
        attempt=1,
        worker="w",
        type="It",
        message="text",
        mro=mro,
        traceback=("It: text\n",),
    )
    return task_failed("01RUN", [told] * n)


@pytest.mark.parametrize("kind", COMBINED, ids=lambda kind: kind.__name__)
def test_an_error_is_of_the_class_that_the_task_raised_and_behaves_as_ours(
    kind: type[Exception],
) -> None:
    error, ours = failed(*class_names(kind)), failed()

    assert isinstance(error, TaskFailedError)
    assert isinstance(error, kind)
    assert (str(error), repr(error), error.args) == (str(ours), repr(ours), ours.args)
    assert (error.run, error.errors[0].task, str(error.__cause__)) == ("01RUN", "f-0", "It: text")
    assert error == error  # noqa: PLR0124  # a class of the user's may refuse even that
    assert hash(error) == object.__hash__(error)
    assert "".join(traceback.format_exception(error)) == "".join(traceback.format_exception(ours))
    with pytest.raises(AttributeError, match="stay with the worker"):
        _ = error.nothing_of_this_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", COMBINED, ids=lambda kind: kind.__name__)
def test_such_an_error_can_be_copied_and_pickled_with_its_notes(kind: type[Exception]) -> None:
    error = failed(*class_names(kind))
    error.add_note("in cell 3")

    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))
        assert isinstance(again.__cause__, OriginalError)


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
def test_what_cannot_be_caught_safely_is_our_error_alone(kind: type[BaseException]) -> None:
    assert type(failed(*class_names(kind))) is TaskFailedError


def test_the_first_class_that_is_known_and_can_be_combined_counts() -> None:
    assert isinstance(
        failed("nowhere:Strange", "builtins:LookupError", "builtins:Exception"), LookupError
    )
    assert isinstance(failed(f"{__name__}:made.<locals>.Local", "builtins:ValueError"), ValueError)
    assert isinstance(failed(*class_names(Metal)), ArithmeticError)
    assert not isinstance(failed(*class_names(Metal)), Metal)


def test_names_that_are_no_exceptions_of_a_module_are_passed_over() -> None:
    for name in (
        "",
        ":",
        "builtins:",
        "builtins:len",
        "builtins:int",
        "sys:path",
        "sys:modules.json",
        "json:decoder.x",
    ):
        assert type(failed(name)) is TaskFailedError


def test_nothing_is_imported_because_an_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.find_spec("trap")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)

    assert type(failed("trap:Problem")) is TaskFailedError
    monkeypatch.setitem(sys.modules, "trap", lazy)  # as `import trap` in a lazy way would
    assert type(failed("trap:Problem")) is TaskFailedError


def test_an_error_that_is_unpickled_where_the_class_is_not_known_is_ours() -> None:
    name = f"{__name__}:Passing"
    passing = type("Passing", (ValueError,), {"__module__": __name__})
    vars(sys.modules[__name__])["Passing"] = passing
    error = failed(name)
    assert isinstance(error, passing)
    data = pickle.dumps(error)
    del vars(sys.modules[__name__])["Passing"]

    again = pickle.loads(data)

    assert type(again) is TaskFailedError
    assert str(again) == str(error)


def test_of_several_failures_the_first_gives_the_class_and_the_message_says_how_many_there_are() -> (
    None
):
    error = failed("builtins:KeyError", n=3)

    assert isinstance(error, KeyError)
    assert (
        "task 'f-0' failed after 1 attempt(s) on w: It: text (and 2 more). This is the first that failed."
        in str(error)
    )


def test_a_worker_that_died_raised_nothing() -> None:
    died = TaskError(task="f-0", attempt=1, worker="w", type="WorkerDied", message="killed")

    error = task_failed("01RUN", [died])

    assert (type(error), error.__cause__) == (TaskFailedError, None)


def raising(error: Exception) -> None:
    """Fail."""
    raise error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        TimeoutError("t"),
        ConnectionResetError("c"),
        Picky(404, "gone"),
        Empty([]),
        Empty(["one"]),
        Unsure(),
    ],
)
def test_result_and_await_raise_the_class_of_the_users_own_exception(error: Exception) -> None:
    run = task(raising)(error).run(workers="inline")

    async def awaited() -> None:
        await run

    with pytest.raises(type(error)) as caught:
        run.result(30)
    assert isinstance(caught.value, TaskFailedError)
    with pytest.raises(type(error)):
        asyncio.run(awaited())
    with pytest.raises(TaskFailedError):
        run.result()


def test_an_error_of_dagnb_raised_in_a_task_is_not_taken_for_one_of_this_run() -> None:
    with pytest.raises(TaskFailedError) as caught:
        dagnb.run(task(raising)(RunTimeoutError("01OTHER", 1.0)), workers="inline").result(30)

    assert not isinstance(caught.value, RunTimeoutError)
    assert isinstance(caught.value, DagnbError)
