"""Functions, arguments and results as bytes: what comes back, what is refused, what it weighs."""

from __future__ import annotations

import base64
import enum
import functools
import hashlib
import json
import pickle
import struct
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dagnb_workers.surroundings import shell

from dagnb.errors import SignatureError, UnserialisableError
from dagnb.graph.payload import (
    Signer,
    decode_function,
    decode_value,
    encode_function,
    encode_value,
)
from dagnb.graph.task import Task, task
from dagnb.planning.plan import Forecast
from dagnb.planning.planner import Costs
from dagnb.prediction.observation import Sample
from dagnb.trace.trace import Span

SIGNER = Signer(b"k" * 32)

unpickled: list[str] = []
"""what Evil left here"""


def ran(what: str) -> None:
    unpickled.append(what)


class Evil:
    """Bytes of it run code when they are unpickled."""

    def __reduce__(self) -> Any:
        return ran, ("the evil bytes",)


class Moody:
    """Raises whatever error when it is pickled."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getstate__(self) -> object:
        raise self.error


class Block:
    """A large buffer that travels out of band, as arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Block], tuple[pickle.PickleBuffer]]:
        return Block, (pickle.PickleBuffer(self.data),)


@pytest.fixture(autouse=True)
def nothing_unpickled() -> Iterator[None]:
    """No test may unpickle Evil."""
    unpickled.clear()
    yield
    assert unpickled == []


def stored(value: object) -> bytes:
    return b"".join(encode_value(value, "f-0"))


def back(value: object) -> Any:
    return decode_value(stored(value))


# ---- functions and classes of the notebook ----


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Makes a class one of the notebook."""

    def define(thing: Any) -> None:
        thing.__module__ = "__main__"
        thing.__qualname__ = thing.__name__
        monkeypatch.setattr(sys.modules["__main__"], thing.__name__, thing, raising=False)

    return define


def elsewhere(data: bytes, *names: str) -> Any:
    """The value of these bytes in a process whose __main__ has none of these names."""
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in names}
    try:
        return decode_value(data)
    finally:
        main.__dict__.update(hidden)


def test_an_instance_of_a_class_of_the_notebook_travels(notebook: Callable[[Any], None]) -> None:
    class Point:
        x = 7

    notebook(Point)

    assert elsewhere(stored([Point()]), "Point")[0].x == 7


def test_reading_a_result_leaves_the_classes_of_this_process_as_they_are(
    notebook: Callable[[Any], None],
) -> None:
    class Model:
        registry: list[str] = []  # noqa: RUF012  # as users write them
        limit = 1

        @functools.lru_cache  # noqa: B019  # as above
        def slow(self) -> int:
            return 1

    notebook(Model)
    data = stored([Model()])
    registry, cached = Model.registry, vars(Model)["slow"]
    Model.limit = 2
    Model.registry.append("later")

    (model,) = decode_value(data)

    assert type(model) is Model
    assert (Model.limit, Model.registry) == (2, ["later"])
    assert Model.registry is registry
    assert vars(Model)["slow"] is cached


def test_numbers_and_texts_of_classes_of_the_notebook_travel(
    notebook: Callable[[Any], None],
) -> None:
    """They are numbers and texts, too, and those are pickled plainly."""

    class Colour(enum.IntEnum):
        RED = 3

    class Name(str):
        __slots__ = ()

    notebook(Colour)
    notebook(Name)

    assert elsewhere(stored(Colour.RED), "Colour", "Name").name == "RED"
    assert type(elsewhere(stored(Name("ann")), "Colour", "Name")).__name__ == "Name"


def test_lambdas_and_closures_travel_as_results() -> None:
    offset = 10

    assert back(lambda x: x + offset)(1) == 11


def test_a_function_travels_with_the_exceptions_it_is_retried_on() -> None:
    offset = 10
    marked = task(retry_on=(KeyError, OSError))(lambda x: x + offset)

    function, retry_on = decode_function(encode_function(marked))

    assert function(5) == 15
    assert retry_on == (KeyError, OSError)


def test_a_function_that_holds_what_cannot_travel_is_refused() -> None:
    lock = threading.Lock()

    def locked() -> None:
        with lock:
            pass

    with pytest.raises(
        UnserialisableError, match=r"the function \(or a global it uses\) of task 'locked'"
    ):
        encode_function(Task(locked))


def test_a_function_whose_closure_raises_an_error_of_its_own_is_refused() -> None:
    with pytest.raises(UnserialisableError, match="own error"):
        encode_function(Task(functools.partial(print, Moody(KeyError("own error")))))


def test_the_files_of_all_code_that_travels_are_collected() -> None:
    """Of the function, of those it calls, encloses and contains; of importable functions none."""
    space: dict[str, Any] = {"__name__": "__main__", "json": json}
    for file, text in {
        "<helper>": "def helper(): return json.dumps([])",
        "<class>": "class Row:\n    def total(self): return 1",
        "<unused>": "def unused(): pass",
        "<inner>": "inner = lambda: 2",
        "<main>": (
            "def outer(held):\n    def run(): return helper(), Row(), [x for x in held()]\n"
            "    return run"
        ),
    }.items():
        exec(compile(text, file, "exec"), space)
    files: set[str] = set()

    encode_function(Task(space["outer"](space["inner"])), files)

    assert files == {"<helper>", "<class>", "<inner>", "<main>"}


# ---- results ----


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        Moody(RuntimeError("own error")),
        Moody(ZeroDivisionError("own error")),
        (n for n in "ab"),
    ],
    ids=["lock", "runtime error", "zero division", "generator"],
)
def test_a_result_that_cannot_travel_is_refused_whatever_its_class_raises(value: object) -> None:
    with pytest.raises(UnserialisableError, match=r"^the result of task 'f-0' cannot be pickled"):
        encode_value(value, "f-0")


def test_a_value_nested_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(UnserialisableError, match="RecursionError"):
        encode_value(deep, "f-0")


def test_a_large_buffer_stays_out_of_the_pickle_and_is_not_copied() -> None:
    data = bytearray(b"x" * 1_000_000)

    head, body, buffer = encode_value(Block(data), "f-0")

    assert len(head) + len(body) < 200
    assert isinstance(buffer, memoryview)
    data[0] = ord("y")
    assert buffer[0] == ord("y")


def test_a_buffer_comes_back_so_that_it_can_be_changed() -> None:
    block = back([Block(bytearray(b"abc")), Block(bytearray(b""))])

    block[0].data[0] = ord("z")
    assert bytes(block[0].data) == b"zbc"
    assert bytes(block[1].data) == b""


def test_a_buffer_of_a_class_of_the_notebook_travels_once(notebook: Callable[[Any], None]) -> None:
    class Own(Block):
        def __reduce_ex__(self, protocol: Any) -> tuple[type[Any], tuple[pickle.PickleBuffer]]:
            return Own, (pickle.PickleBuffer(self.data),)

    notebook(Own)

    parts = encode_value(Own(bytearray(b"12345678")), "f-0")

    assert len(parts) == 3
    assert bytes(elsewhere(b"".join(parts), "Own").data) == b"12345678"


def test_arrays_travel_out_of_band_and_can_be_changed() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000.0)

    _, body, buffer = encode_value(array, "f-0")
    read = back(array)

    assert len(body) < 300
    assert len(buffer) == array.nbytes
    assert (read == array).all()
    read[0] = -1.0


# ---- values that earlier releases stored ----

STORED_BEFORE_THE_MOVE = base64.b64decode(
    "AQAAAFgBAAAAAAAAgAWVTQEAAAAAAABdlCiMFWRhZ25iLmdyYXBoLnJlZHVjdGlvbpSMDV9jYWNoZWRfYWdhaW6Uk5SM"
    "CGJ1aWx0aW5zlIwDbGVulJOUSwOJh5RSlH2UKIwKX19tb2R1bGVfX5RoBIwIX19uYW1lX1+UjANsZW6UjAxfX3F1YWxu"
    "YW1lX1+UjANsZW6UjAdfX2RvY19flIwqUmV0dXJuIHRoZSBudW1iZXIgb2YgaXRlbXMgaW4gYSBjb250YWluZXIulIwL"
    "X193cmFwcGVkX1+UaAZ1YmgBjA9fYmxhbmtfcHJvcGVydHmUk5SMCWZ1bmN0b29sc5SMD2NhY2hlZF9wcm9wZXJ0eZST"
    "lIWUUpR9lCiMBGZ1bmOUaAaMCGF0dHJuYW1llE5oD4wqUmV0dXJuIHRoZSBudW1iZXIgb2YgaXRlbXMgaW4gYSBjb250"
    "YWluZXIulHViZS4="
)
"""`[functools.lru_cache(maxsize=3)(len), functools.cached_property(len)]` by encode_value of an
earlier release, when reduction.py stood in dagnb.graph; without byte code, so any Python reads it
"""


def value_of(pickled: bytes) -> bytes:
    """A stored value with this pickle."""
    return struct.pack("<IQ", 1, len(pickled)) + pickled


def test_a_value_that_an_earlier_release_stored_is_read_though_modules_have_moved() -> None:
    cached, lazy = decode_value(STORED_BEFORE_THE_MOVE)

    assert cached("abc") == 3
    assert cached.cache_parameters() == {"maxsize": 3, "typed": False}
    assert type(lazy) is functools.cached_property
    assert lazy.func is len


@pytest.mark.parametrize(
    ("stored_name", "value"),
    [
        (b"cdagnb.graph.reduction\n_found\n(Vjson\nVdumps\ntR.", json.dumps),
        (b"cdagnb.graph.stand_in\n_itself\n(I7\ntR.", 7),
        (b"cdagnb_workers.shell\nget_ipython\n.", shell.get_ipython),
        (b"cdagnb.planning.costs\nCosts\n.", Costs),
        (b"cdagnb.planning.forecast\nForecast\n.", Forecast),
        (b"cdagnb.trace.sample\nSample\n.", Sample),
        (b"cdagnb.trace.span\nSpan\n.", Span),
    ],
    ids=[
        "renamed function",
        "stand-in",
        "stand-in of workers",
        "costs",
        "forecast",
        "sample",
        "span",
    ],
)
def test_each_function_is_found_where_it_is_now(stored_name: bytes, value: object) -> None:
    assert decode_value(value_of(stored_name)) == value


def test_buffers_of_a_value_that_is_read_anew_are_whole() -> None:
    number, data = decode_value(
        struct.pack("<IQQ", 2, 48, 3)
        + b"(cdagnb.graph.stand_in\n_itself\n(I7\ntR\x97t.".ljust(48, b".")
        + b"abc"
    )

    assert number == 7
    data[0] = ord("z")
    assert data == b"zbc"


def test_a_module_that_is_missing_for_another_reason_is_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        decode_value(value_of(b"cno_such_module\nx\n."))
    with pytest.raises(AttributeError, match="no_such_name"):
        decode_value(value_of(b"cdagnb.graph.reduction\nno_such_name\n."))


def test_a_value_whose_reading_fails_is_read_once_unless_it_names_a_moved_module() -> None:
    ran_once = f"(c{__name__}\nran\n(Vonce\ntRcno_such_module\nx\nt.".encode()

    with pytest.raises(ModuleNotFoundError):
        decode_value(value_of(ran_once))

    assert unpickled == ["once"]
    unpickled.clear()


# ---- signatures ----


def test_what_was_sealed_opens_under_the_same_name_only() -> None:
    sealed = SIGNER.seal("value:run:3:token", b"head", memoryview(b"body"))

    assert bytes(SIGNER.open("value:run:3:token", sealed)) == b"headbody"
    for other in (
        "value:run:4:token",
        "value:other:3:token",
        "value:run:3:tokem",
        "call:run:3:token",
        "",
    ):
        with pytest.raises(SignatureError) as caught:
            SIGNER.open(other, sealed)
        assert caught.value.what == other


def test_another_key_opens_nothing() -> None:
    with pytest.raises(SignatureError):
        Signer(b"o" * 32).open("value", SIGNER.seal("value", b"data"))


def test_no_byte_can_be_changed_added_or_taken_away() -> None:
    sealed = SIGNER.seal("value", b"data")
    changed = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    cut = [sealed[:i] for i in range(len(sealed))]

    for forged in [*changed, *cut, sealed + b"\0", b"", sealed * 2]:
        with pytest.raises(SignatureError):
            SIGNER.open("value", forged)


def test_forged_bytes_are_refused_before_they_are_unpickled() -> None:
    evil = stored(Evil())
    forged = [
        b"\0" * 16 + evil,
        SIGNER.seal("value:run:1:t", b"good")[:16] + evil,
        Signer(b"o" * 32).seal("value", evil),
    ]

    for sealed in forged:
        with pytest.raises(SignatureError):
            decode_value(SIGNER.open("value", sealed))


def test_evil_bytes_would_have_run_if_they_had_been_unpickled() -> None:
    decode_value(stored(Evil()))

    assert unpickled == ["the evil bytes"]
    unpickled.clear()


def test_content_is_named_by_what_it_is_and_by_whose_it_is() -> None:
    name = SIGNER.content_name(b"data")

    assert name == SIGNER.content_name(b"da" + b"ta")
    assert name == Signer(b"k" * 32).content_name(b"data")
    assert len({name, SIGNER.content_name(b"date"), Signer(b"o" * 32).content_name(b"data")}) == 3
    assert name != hashlib.sha256(b"data").hexdigest()[:32]


def test_content_under_a_name_that_is_not_its_own_is_refused() -> None:
    assert SIGNER.check_content(SIGNER.content_name(b"data"), b"data") == b"data"
    with pytest.raises(SignatureError, match="content 00000000000000000000000000000000"):
        SIGNER.check_content("0" * 32, b"data")


def test_a_content_name_does_not_open_as_a_signature_of_something_else() -> None:
    mac = bytes.fromhex(SIGNER.content_name(b"data"))

    with pytest.raises(SignatureError):
        SIGNER.open("value", mac + b"data")


def _written_in_a_cell(source: str, file: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), names)
    return names


def test_a_function_keeps_its_file_and_so_does_every_function_inside_it() -> None:
    names = _written_in_a_cell(
        "def outer(n):\n    def inner(k):\n        return [(lambda: k)() for _ in 'a']\n    "
        "return inner(n)\n",
        "/tmp/ipykernel_1/22.py",
    )
    files: set[str] = set()

    function, _ = decode_function(encode_function(task(names["outer"]), files))

    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    assert {code.co_filename for code in codes} == {"/tmp/ipykernel_1/22.py"}
    assert len(codes) >= 3
    assert function(2) == [2]
    assert files == {"/tmp/ipykernel_1/22.py"}


def test_a_function_that_is_returned_keeps_its_file() -> None:
    helper = _written_in_a_cell("def helper(n):\n    return n + 1\n", "/tmp/ipykernel_1/33.py")[
        "helper"
    ]

    result = decode_value(b"".join(encode_value(helper, "apply")))

    assert result.__code__.co_filename == "/tmp/ipykernel_1/33.py"
    assert result(1) == 2


def test_functions_of_two_cells_keep_two_files() -> None:
    names = _written_in_a_cell("def helper(n):\n    return n + 1\n", "/tmp/ipykernel_1/44.py")
    exec(compile("def work(n):\n    return helper(n)\n", "/tmp/ipykernel_1/55.py", "exec"), names)

    function, _ = decode_function(encode_function(task(names["work"])))

    assert function.__code__.co_filename == "/tmp/ipykernel_1/55.py"
    assert function.__globals__["helper"].__code__.co_filename == "/tmp/ipykernel_1/44.py"


def test_the_same_function_gives_the_same_bytes() -> None:
    function = _written_in_a_cell(
        "def f(n):\n    return [n for _ in 'ab']\n", "/tmp/ipykernel_1/66.py"
    )["f"]

    assert encode_function(task(function)) == encode_function(task(function))


def test_a_result_is_refused_though_the_error_of_its_pickling_cannot_say_why() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    with pytest.raises(UnserialisableError, match="SilentError"):
        encode_value(Moody(SilentError()), "work")
