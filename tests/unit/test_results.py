"""A value that was computed and cannot be unpickled by this process."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import dagnb
from dagnb.errors import ValueUnreadableError
from dagnb.graph.task import task
from dagnb.handle import Run

LIMIT_S = 30.0


class ApiError(Exception):
    """A common mistake: pickle calls it with its one message."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body}")


class Fragile:
    """Can be unpickled only where `is_cured`."""

    is_cured = False

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _fragile, (pickle.PickleBuffer(self.data),)


def _fragile(data: bytes) -> Fragile:
    if not Fragile.is_cured:
        raise SystemExit("no")
    return Fragile(bytearray(data))


@task
def api_error() -> Exception:
    """Give what cannot be unpickled."""
    return ApiError(404, "gone")


@task
def fragile(size: int) -> Fragile:
    """Returns an error as api_error does, with a large buffer."""
    return Fragile(bytearray(b"x" * size))


@task
def plain(value: int) -> int:
    """Give it back."""
    return value


def refused(run: Run[Any]) -> ValueUnreadableError:
    """Returns the error that result() raises."""
    with pytest.raises(ValueUnreadableError) as caught:
        run.result(LIMIT_S)
    return caught.value


def test_a_value_that_cannot_be_unpickled_names_its_task_the_cause_and_the_cure() -> None:
    error = refused(api_error().run(workers="inline"))

    assert isinstance(error.__cause__, TypeError)
    assert str(error).startswith(
        "the value of task 'api_error-0' cannot be read here: TypeError: ApiError.__init__() "
        "missing 1 required "
        "positional argument: 'body'. Define its class as the task had it and ask again with "
        "run.value('api_error-0'), "
        "or have the task return plain data."
    )


def test_the_values_of_the_other_tasks_are_kept() -> None:
    run = dagnb.run(plain(1), api_error(), plain(2), workers="inline")

    error = refused(run)

    assert error.values == {"plain-0": 1, "plain-1": 2}
    assert list(error.pickles) == ["api_error-0"]
    assert run.value("plain-1") == 2
    with pytest.raises(ValueUnreadableError):
        run.value("api_error-0")


def test_the_bytes_are_offered_and_can_be_read_once_the_class_is_cured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SystemExit, too, must leave the loop of this process alone."""
    run = fragile(100_000).run(workers="inline")
    error = refused(run)
    monkeypatch.setattr(Fragile, "is_cured", True)

    data, buffers = error.pickles["fragile-0"]

    assert pickle.loads(data, buffers=buffers).data == b"x" * 100_000
    assert run.value("fragile-0").data == b"x" * 100_000
    assert run.result(LIMIT_S).data == b"x" * 100_000
