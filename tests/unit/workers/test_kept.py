"""Results that a worker keeps: the reader sees what it would see of a stored one."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dagnb_workers.worker import kept
from dagnb_workers.worker.kept import KeptValue, KeptValues, Result

from dagnb.errors import UnserialisableError
from dagnb.graph.payload import decode_value, encode_value


class Holder:
    """An object of the user's."""


class Lengths(np.ndarray):
    """A subclass of the user's."""


def read_only() -> Any:
    array = np.zeros(3)
    array.flags.writeable = False
    return array


def kept_result(make: Callable[[], Any]) -> KeptValue:
    """Keeps a value to which nothing else refers, not even a name of this call."""
    values = KeptValues()
    values.keep(1, 2, Result(make()))
    taken = values.take(1)
    assert taken is not None
    return taken


def test_an_array_that_nothing_else_refers_to_is_handed_over_itself() -> None:
    result = Result(np.arange(10.0))
    address = result.value.ctypes.data
    values = KeptValues()

    values.keep(1, 2, result)
    taken = values.take(1)

    assert taken is not None
    assert len(taken) == 0
    assert taken.value().ctypes.data == address


@pytest.mark.parametrize(
    "refer",
    [lambda array: [array], lambda array: array[2:], memoryview, weakref.ref, np.asarray],
    ids=["a list", "a view", "a memoryview", "a weak reference", "a name"],
)
def test_an_array_with_another_reference_is_copied_at_once(refer: Callable[[Any], Any]) -> None:
    result = Result(np.arange(10.0))
    other = refer(result.value)
    values = KeptValues()

    values.keep(1, 2, result)
    taken = values.take(1)

    assert taken is not None
    assert len(taken) > 0
    assert taken.value().tolist() == np.arange(10.0).tolist()
    del other


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(10.0)[1:],
        lambda: np.array([1, "a"], dtype=object),
        lambda: np.zeros(3, [("x", "f8")]),
        lambda: np.zeros(3, np.dtype("f8", metadata={"unit": ["m"]})),
        lambda: Lengths(0),
        read_only,
        lambda: np.frombuffer(b"12345678"),
        lambda: [1, 2],
        lambda: {"a": [1]},
        lambda: bytearray(b"x"),
    ],
    ids=[
        "a view", "objects", "fields", "metadata", "a subclass", "read only", "borrowed",
        "list", "dict", "bytearray",
    ],
)  # fmt: skip
def test_what_may_be_seen_elsewhere_is_pickled(make: Callable[[], Any]) -> None:
    kept, equal = kept_result(make), make()

    assert len(kept) > 0
    taken = kept.value()
    assert type(taken) is type(equal)
    assert np.array_equal(np.asarray(taken), np.asarray(equal))


@pytest.mark.parametrize("value", [1, 2.5, "text", b"bytes", True, None, 3j])
def test_what_cannot_change_is_handed_over_itself(value: Any) -> None:
    assert kept_result(lambda: value).value() is value


def test_a_subclass_of_a_number_is_pickled() -> None:
    value = np.float64(1.5)

    taken = kept_result(lambda: value).value()

    assert taken is not value
    assert (type(taken), float(taken)) == (np.float64, 1.5)


@pytest.mark.parametrize("value", [math.nan, complex(0.0, math.nan)])
def test_a_nan_is_pickled_since_containers_tell_it_from_another(value: complex) -> None:
    taken = kept_result(lambda: value).value()

    assert repr(taken) == repr(value)
    assert taken is not value


def test_renaming_the_fields_of_an_input_renames_them_for_no_one_else() -> None:
    dtype = np.dtype([("x", "f8")])

    taken = kept_result(lambda: np.zeros(3, dtype)).value()
    taken.dtype.names = ("y",)

    assert dtype.names == ("x",)


def test_a_value_is_let_go_once_its_bytes_are_kept() -> None:
    result = Result(Holder())
    reference = weakref.ref(result.value)

    KeptValues().keep(1, 2, result)

    assert reference() is None


def test_a_result_that_cannot_be_pickled_fails_though_it_is_kept() -> None:
    with pytest.raises(UnserialisableError):
        KeptValues().keep(1, 2, Result(threading.Lock()))


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 1_000)
    values = KeptValues()

    assert values.keep(1, 2, Result(np.zeros(100))) is not None
    assert values.keep(3, 4, Result(np.zeros(100))) is None
    assert values.keep(5, 6, Result(b"x" * 500)) is None
    values.take(1)
    assert values.keep(3, 4, Result(np.zeros(100))) is not None


def test_what_no_task_at_hand_reads_is_forgotten() -> None:
    values = KeptValues()
    values.keep(1, 2, Result(1))
    values.keep(3, 4, Result(3))

    values.drop_but_for([4, 5])

    assert values.take(1) is None
    assert values.take(3) is not None


def test_a_result_that_must_be_stored_after_all_has_the_bytes_of_any_other() -> None:
    values = KeptValues()
    made = (7, [1, 2], np.arange(3.0), np.arange(6.0)[::2])
    for task, value in enumerate(made):
        values.keep(task, 9, Result(value))
    for task, value in enumerate(made):
        taken = values.take(task)
        assert taken is not None
        parts = list(map(bytes, taken.parts()))
        assert parts == list(map(bytes, encode_value(value, "?")))
        assert np.array_equal(decode_value(b"".join(parts)), value)
