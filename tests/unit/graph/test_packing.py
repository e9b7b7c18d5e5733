"""Arguments as bytes: the values of the task, contents stored once, and later changes."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import enum
import functools
import json
import marshal
import math
import pickle
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.errors import UnserialisableError
from dagnb.graph.pickling import packing
from dagnb.graph.pickling.packing import SHARED_BYTES, pack, pack_call, unpack
from dagnb.graph.task import Node, Task, task

LARGE = b"large" * SHARED_BYTES


@task
def some(*args: Any, **kwargs: Any) -> Any:
    """Any arguments."""
    return args, kwargs


@task
def named(first: Any, *, handle: Any = None) -> Any:
    """Arguments with names."""
    return first, handle


def arrived(node: Node[Any], *inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as its function gets them; inputs: the values of its upstream."""
    contents = [content.copied() for content in node.packed.contents]
    assert None not in contents
    call: tuple[tuple[Any, ...], dict[str, Any]] = unpack(
        node.packed.body, inputs, [data or b"" for data in contents]
    )
    return call


def first(node: Node[Any], *inputs: Any) -> Any:
    """The first argument as the function gets it."""
    return arrived(node, *inputs)[0][0]


# ---- nodes among the arguments ----


def test_nodes_at_any_depth_are_replaced_by_the_values_of_their_tasks() -> None:
    a, b, c, d = some(), some(), some(), some()

    args, kwargs = arrived(some(a, [b, {"k": (c, 5)}], pair=({d}, [[[a]]])), "A", "B", "C", "D")

    assert args == ("A", ["B", {"k": ("C", 5)}])
    assert kwargs == {"pair": ({"D"}, [[["A"]]])}


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Named(collections.UserDict[str, Any]):
    """A user's own mapping, whose constructor wants more than its items."""

    def __init__(self, name: str, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.name = name


class Tags(list[Any]):
    """A user's own list, with an attribute."""

    note = ""


@dataclasses.dataclass
class Plain:
    value: Any
    twice: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class Holder:
    """An object whose attribute is a node."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holder) and other.held == self.held

    __hash__ = object.__hash__


def tags(*items: Any) -> Tags:
    made = Tags(items)
    made.note = "kept"
    return made


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda item: [1, item],
    "tuple": lambda item: (1, item),
    "set": lambda item: {1, item},
    "frozenset": lambda item: frozenset({1, item}),
    "dict": lambda item: {"k": item},
    "key": lambda item: {item: "v"},
    "OrderedDict": lambda item: collections.OrderedDict(b=item, a=1),
    "Counter": lambda item: collections.Counter({"a": item, "b": 2}),
    "deque": lambda item: collections.deque([item, 2], maxlen=2),
    "defaultdict": lambda item: collections.defaultdict(list, k=item),
    "ChainMap": lambda item: collections.ChainMap({"a": item}, {"b": 1}),
    "UserDict": lambda item: collections.UserDict({"k": item}),
    "UserList": lambda item: collections.UserList([item]),
    "mapping with a constructor": lambda item: Named("n", {"k": item}),
    "named tuple": Point,
    "list with an attribute": tags,
    "dataclass": Plain,
    "frozen slots": Frozen,
    "attribute": Holder,
    "namespace": lambda item: SimpleNamespace(a=item),
    "partial": lambda item: functools.partial(max, item),
    "slice": lambda item: slice(0, item),
    "array of objects": lambda item: np.array([None, item, 3], dtype=object),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_a_value_takes_the_place_of_its_node_in_every_kind_of_container(
    make: Callable[[Any], Any],
) -> None:
    node = some()

    call = some(make(node))
    got = first(call, 7)

    assert call.upstream == (node,)
    assert type(got) is type(make(7))
    if isinstance(got, functools.partial):
        assert (got.func, got.args) == (max, (7,))
    elif isinstance(got, np.ndarray):
        assert got.tolist() == [None, 7, 3]
    else:
        assert got == make(7)
    assert (
        vars(got) == vars(make(7))
        if hasattr(got, "__dict__") and not isinstance(got, functools.partial)
        else True
    )


def test_containers_keep_what_makes_them_special() -> None:
    node = some()

    assert first(some(collections.defaultdict(list, k=node)), 1)["new"] == []
    assert first(some(collections.deque([node], maxlen=3)), 1).maxlen == 3
    assert first(some(Named("ann", {"k": node})), 1).name == "ann"
    assert first(some(tags(node)), 1).note == "kept"


def test_a_node_given_twice_is_one_and_the_same_value_in_both_places() -> None:
    a = some()

    left, right = arrived(some(a, [a]), ["value"])[0]

    assert left is right[0]


def test_a_list_that_holds_itself_and_a_node_arrives_so() -> None:
    loop: list[Any] = [some()]
    loop.append(loop)

    got = first(some(loop), "value")

    assert got[0] == "value"
    assert got[1] is got


def test_a_call_without_arguments_has_no_bytes() -> None:
    assert some().packed.n_bytes == 0
    assert pack_call((), {}, Node).body == b""


def test_a_deeply_nested_argument_is_refused_and_named() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(
        UnserialisableError, match=r"argument 'first' \(list\) of task 'named' cannot be pickled"
    ):
        named(deep)


# ---- plain values ----

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.text())
    ),
)


@given(plain, st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), plain))
def test_arguments_arrive_equal(value: Any, named_values: dict[str, Any]) -> None:
    assert arrived(some(value, **named_values)) == ((value,), named_values)


@pytest.mark.parametrize(
    "value", [10**10_000, -(10**5_000), range(10**20), 1e400, "\ud800"], ids=lambda _: ""
)
def test_numbers_and_texts_of_any_size_arrive(value: Any) -> None:
    assert first(some(value)) == value


def test_nan_arrives_as_nan() -> None:
    assert math.isnan(first(some(math.nan)))


def test_functions_and_classes_without_a_module_arrive_with_the_names_of_their_files() -> None:
    offset = 10
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("key = lambda n: -n", "<key>", "exec"), space)

    call = some(lambda x: x * offset, [space["key"], json.dumps])

    assert first(call)(2) == 20
    assert call.packed.files == {"<key>", __file__}


# ---- the moment of the call ----


def test_a_container_that_is_changed_after_the_call_arrives_as_it_was() -> None:
    inner = [1]
    params: dict[str, Any] = {"i": 0, "deep": (inner,), "set": {1}, "bytes": bytearray(b"old")}
    node = some(params, more=Holder(inner))

    params["i"] = 1
    params["set"].add(2)
    params["bytes"][:] = b"new"
    inner.append(2)

    args, kwargs = arrived(node)
    assert args == ({"i": 0, "deep": ([1],), "set": {1}, "bytes": bytearray(b"old")},)
    assert kwargs == {"more": Holder([1])}


def test_a_small_array_that_is_changed_after_the_call_arrives_as_it_was() -> None:
    numbers, compact = np.zeros(3), array.array("d", [0.0])
    node = some(numbers, compact)

    numbers[:], compact[0] = 1, 1.0

    args, _ = arrived(node)
    assert args[0].tolist() == [0, 0, 0]
    assert args[1].tolist() == [0.0]


@pytest.mark.parametrize("position", [0, 1, 4_321, 99_999])
def test_a_change_of_a_large_array_is_noticed_wherever_it_is(position: int) -> None:
    numbers = np.zeros(100_000)
    node = some(numbers)
    (content,) = node.packed.contents
    assert content.copied() == numbers.tobytes()

    numbers[position] = 1e-300

    assert content.copied() is None


def test_a_change_that_is_taken_back_before_the_run_is_no_change() -> None:
    numbers = np.zeros(100_000)
    (content,) = some(numbers).packed.contents

    numbers[7] = 1
    numbers[7] = 0

    assert content.copied() == numbers.tobytes()


def test_very_large_memory_is_checked_in_samples_over_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "CHECKED_BYTES", 8 * packing._SAMPLE_BYTES)
    data = bytearray(64 * packing._SAMPLE_BYTES)
    before = packing.checksum(memoryview(data))

    for begin in range(0, len(data), 16 * packing._SAMPLE_BYTES):
        data[begin : begin + 16 * packing._SAMPLE_BYTES] = b"x" * 16 * packing._SAMPLE_BYTES
        assert packing.checksum(memoryview(data)) != before
        data[begin : begin + 16 * packing._SAMPLE_BYTES] = bytes(16 * packing._SAMPLE_BYTES)

    assert packing.checksum(memoryview(data)) == before


def test_a_large_array_is_not_copied_at_the_call() -> None:
    numbers = np.zeros(100_000)

    (content,) = some(numbers).packed.contents

    assert isinstance(content.data, memoryview)
    assert np.shares_memory(np.frombuffer(content.data), numbers)


def test_a_task_may_write_to_an_array_that_it_gets_and_no_other_call_sees_it() -> None:
    numbers = np.zeros(100_000)
    node = some(numbers)

    first(node)[:] = 1

    assert first(node)[0] == numbers[0] == 0


def test_an_array_that_is_read_only_arrives_read_only() -> None:
    numbers = np.zeros(100_000)
    numbers.flags.writeable = False

    assert not first(some(numbers)).flags.writeable
    assert first(some(np.zeros(100_000))).flags.writeable


@pytest.mark.parametrize(
    "numbers",
    [
        np.zeros((300, 300), order="F"),
        np.zeros((300, 300))[::2, ::3],
        np.arange("2026-01-01", "2026-02-01", dtype="datetime64[m]"),
        np.ma.masked_array(np.arange(50_000), mask=np.arange(50_000) % 2),
        np.array([{"a": 1}, None] * 20_000, dtype=object),
        np.zeros(10_000, dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=["fortran", "not contiguous", "dates", "masked", "objects", "records"],
)
def test_arrays_of_every_kind_arrive_equal(numbers: Any) -> None:
    got = first(some({"held": [numbers]}))["held"][0]

    assert type(got) is type(numbers)
    assert (got.dtype, got.shape) == (numbers.dtype, numbers.shape)
    np.testing.assert_array_equal(got, numbers)


# ---- what is stored once ----


def contents_of(*nodes: Node[Any]) -> set[Any]:
    return {content.key for node in nodes for content in node.packed.contents}


@pytest.mark.parametrize(
    "value",
    [
        {i: str(i) for i in range(10_000)},
        list(range(20_000)),
        LARGE,
        LARGE.decode(),
        bytearray(LARGE),
        np.zeros(10_000),
        Holder([str(i) for i in range(10_000)]),
        [1, {"deep": LARGE}],
    ],
    ids=["dict", "list", "bytes", "str", "bytearray", "array", "object", "nested bytes"],
)
def test_a_large_argument_of_many_calls_is_one_content(value: Any) -> None:
    nodes = [some(value, i) for i in range(5)]

    assert len(contents_of(*nodes)) == 1
    assert max(len(node.packed.body) for node in nodes) < 200
    for i, node in enumerate(nodes):
        args, _ = arrived(node)
        assert args[1] == i
        assert np.array_equal(args[0], value) if isinstance(value, np.ndarray) else args[0] == value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1] * 5_000, [True] * 5_000),
        ([0.0] * 5_000, [-0.0] * 5_000),
        ([1] * 5_000, [1.0] * 5_000),
        (["a"] * 5_000, [b"a"] * 5_000),
        ([[1]] * 5_000, [(1,)] * 5_000),
        (dict.fromkeys(range(5000), 1), dict.fromkeys(range(5000), True)),
        (list(range(5_000)), tuple(range(5_000))),
        ([b"12345678"] * 5_000, [bytearray(b"12345678")] * 5_000),
        ([b"12345678"] * 5_000, [np.frombuffer(b"12345678")] * 5_000),
        ([Colour.RED] * 5_000, [1] * 5_000),
    ],
)
def test_long_arguments_that_look_alike_keep_their_types(one: Any, other: Any) -> None:
    nodes = [some(one), some(other), some(one)]

    for node, value in zip(nodes, (one, other, one), strict=True):
        assert repr(first(node)) == repr(value)
    assert len(contents_of(nodes[0], nodes[2])) == len(nodes[0].packed.contents)


def test_a_long_container_of_plain_data_is_pickled_once_while_it_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pickled: list[Any] = []
    pack_one = packing._packed
    monkeypatch.setattr(
        packing,
        "_packed",
        lambda value, *rest, **notes: pickled.append(value) or pack_one(value, *rest, **notes),
    )
    words: dict[int, Any] = {i: [str(i)] for i in range(5_000)}

    nodes = [some(words, i) for i in range(10)]
    words[4_999].append("more")
    changed = some(words, 10)

    assert sum(value is words for value in pickled) == 2
    assert first(nodes[9])[4_999] == ["4999"]
    assert first(changed)[4_999] == ["4999", "more"]


def test_a_text_from_the_limit_on_is_a_content_and_a_smaller_one_is_not() -> None:
    assert len(some(b"x" * SHARED_BYTES).packed.contents) == 1
    assert len(some(b"x" * (SHARED_BYTES - 100)).packed.contents) == 0


def test_large_parts_of_arguments_that_differ_are_stored_once() -> None:
    numbers = np.zeros(50_000)

    nodes = [some({"i": i, "text": LARGE, "numbers": numbers}) for i in range(3)]

    assert len(contents_of(*nodes)) == 2
    got = first(nodes[2])
    assert (got["i"], got["text"], got["numbers"].shape) == (2, LARGE, (50_000,))


def test_contents_and_buffers_of_several_arguments_do_not_mix() -> None:
    words = {str(i): i for i in range(10_000)}
    table = {"numbers": np.full(10_000, 7.0), "words": [str(i) for i in range(10_000)]}

    args, kwargs = arrived(
        some(np.ones(9_000), words, LARGE, table, late=np.full(8_000, 2.0), text=LARGE.decode())
    )

    assert args[0].tolist() == [1.0] * 9_000
    assert args[1:3] == (words, LARGE)
    assert args[3]["numbers"].tolist() == [7.0] * 10_000
    assert args[3]["words"] == table["words"]
    assert kwargs["late"].tolist() == [2.0] * 8_000
    assert kwargs["text"] == LARGE.decode()


def test_a_large_list_with_nodes_in_it_gets_their_values() -> None:
    nodes = [some(i) for i in range(5_000)]

    assert first(some(nodes), *range(5_000)) == list(range(5_000))


# ---- one object in two places ----


def test_a_large_argument_given_twice_is_one_object_for_the_task() -> None:
    numbers = list(range(20_000))

    (one, two), _ = arrived(some(numbers, numbers))

    assert one is two


def test_a_large_argument_that_stands_inside_another_is_one_object_for_the_task() -> None:
    numbers = list(range(20_000))

    args, kwargs = arrived(some(numbers, [numbers], held=Holder(numbers)))

    assert args[0] is args[1][0]
    assert args[0] is kwargs["held"].held


def test_two_arguments_that_share_a_small_part_share_it_in_the_task() -> None:
    shared: list[int] = []
    one, two = [shared, *range(20_000)], [shared, *range(20_000)]

    (left, right), _ = arrived(some(one, two))

    assert left[0] is right[0]


def test_arguments_that_share_only_what_cannot_change_are_stored_apart() -> None:
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    one, two = [moment, "text", (1, 2), *range(20_000)], [moment, "text", (1, 2), *range(30_000)]

    assert len(some(one, two).packed.contents) == 2


def test_equal_arrays_are_two_objects_for_the_task() -> None:
    one, two = np.zeros(10_000), np.zeros(10_000)

    (left, right), _ = arrived(some(one, two))
    left[:] = 1

    assert right[0] == 0


# ---- refusals ----


class Moody:
    """Raises whatever error when it is pickled."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getstate__(self) -> object:
        raise self.error


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: named(1, handle=threading.Lock()), "argument 'handle' (lock)"),
        (lambda: named([threading.Lock()]), "argument 'first' (list)"),
        (
            lambda: named(iter(Moody(KeyError("own error")) for _ in "a")),
            "argument 'first' (generator)",
        ),
        (lambda: named(Moody(KeyError("own error"))), "argument 'first' (Moody)"),
        (lambda: named(Moody(RuntimeError("own error"))), "argument 'first' (Moody)"),
        (lambda: some(1, 2, threading.Lock()), "argument 'args' (tuple)"),
        (lambda: some(lock=threading.Lock()), "argument 'kwargs' (dict)"),
        (lambda: some([LARGE, threading.Lock()]), "argument 'args' (tuple)"),
    ],
    ids=[
        "lock",
        "list",
        "generator",
        "own error",
        "own runtime error",
        "positional",
        "keywords",
        "large",
    ],
)
def test_an_argument_that_cannot_travel_is_named_at_the_call(
    call: Callable[[], Any], argument: str
) -> None:
    with pytest.raises(UnserialisableError) as caught:
        call()

    assert caught.value.what == argument


def test_an_argument_of_a_builtin_without_a_signature_is_named_by_its_place() -> None:
    assert Task(max).signature is None

    with pytest.raises(UnserialisableError, match=r"argument '1' \(lock\) of task 'max'"):
        Task(max)(1, threading.Lock())


def test_nothing_but_this_reader_reads_the_bytes_of_a_call() -> None:
    body = some(some()).packed.body

    with pytest.raises(
        pickle.UnpicklingError, match=r"input 0 of a call is known only where the call is read"
    ):
        pickle.loads(body)


def test_members_of_enums_stay_themselves() -> None:
    assert first(some([Colour.RED] * 3)) == [Colour.RED] * 3


def new_word() -> str:
    """An object of its own each time."""
    return str(b"word", "ascii")


def test_equal_plain_data_has_one_digest_of_whichever_objects_it_is_made() -> None:
    """marshal of a newer version than 2 writes repeated and interned objects in another way."""
    word = sys.intern("word")
    one = [word, b"b" * 20, 1.5, (1, word)] * 5_000
    other = [part for _ in range(5_000) for part in (new_word(), b"b" * 20, 3 / 2, (1, new_word()))]

    digest = packing._known_plain(one)[1]

    assert one == other
    assert digest is not None
    assert digest == packing._known_plain(other)[1]
    assert marshal.dumps(one, 4) != marshal.dumps(other, 4)


def test_what_marshal_takes_for_bytes_is_no_plain_data() -> None:
    of_numbers, of_bytes = [array.array("B", b"ab")] * 5_000, [b"ab"] * 5_000

    assert marshal.dumps(of_numbers, 2) == marshal.dumps(of_bytes, 2)
    assert packing._known_plain(of_numbers)[1] is None
    assert packing._known_plain(of_bytes)[1] is not None


@pytest.mark.parametrize(
    "arguments",
    [(1, "a", b"b", None, 2.5), ([1, 2], {"a": 1.5}, (), {3}), ("__main__",), (True, ..., 1j)],
)
def test_plain_arguments_are_pickled_as_a_pickler_of_ours_would(arguments: Any) -> None:
    named = {"x": arguments[0]}

    assert pack_call(arguments, named, Node).body == pack((arguments, named), Node).body
    assert pack_call(arguments, named, Node).contents == ()


def test_a_list_that_two_arguments_share_is_one_object_for_the_task() -> None:
    shared = [1, 2]

    args, _ = unpack(pack_call((shared, shared), {}, Node).body, (), ())

    assert args[0] is args[1]
