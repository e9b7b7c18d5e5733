"""Names the part that cannot travel by its path, its type and the cure of its kind."""

from __future__ import annotations

import concurrent.futures
import contextvars
import ctypes
import dataclasses
import functools
import io
import logging
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagnb.errors import UnserialisableError
from dagnb.graph.payload import decode_function, decode_value, encode_function, encode_value
from dagnb.graph.task import Task


def refusal(source: str, **names: Any) -> UnserialisableError:
    """Why the function `load` of a notebook with these names cannot travel."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(textwrap.dedent(source), space)
    with pytest.raises(UnserialisableError) as caught:
        encode_function(Task(space["load"]))
    return caught.value


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:")
    yield opened
    opened.close()


PATHS = {
    "def load(): return conn": "`conn`",
    "def g(): return conn\ndef load(): return g()": "`conn` in `g`",
    "def h(): return conn\ndef g(): return h()\ndef load(): return g()": "`conn` in `h` in `g`",
    "def load(source=conn): return source": "`source`",
    "def load(*, source=conn): return source": "`source`",
    "def outer(db):\n    def load(): return db\n    return load\nload = outer(conn)": "`db`",
    "settings = {'db': [1, conn]}\ndef load(): return settings": "`settings['db'][1]`",
    "class Db:\n    opened = conn\ndef load(): return Db": "`Db.opened`",
    "class Db:\n    def ask(self): return conn\ndef load(): return Db()": "`conn` in `Db.ask`",
    (
        "class Db:\n    def __init__(self): self.own = conn\ndb = Db()\ndef load(): return db"
    ): "`db.own`",
    (
        "class Db:\n    __slots__ = ('own',)\ndb = Db()\ndb.own = conn\ndef load(): return db"
    ): "`db.own`",
    "import functools\nask = functools.partial(print, conn)\ndef load(): ask()": "`ask.args[0]`",
    "import functools\n@functools.cache\ndef g(): return conn\ndef load(): g()": "`conn` in `g`",
    "def load(): return 1\nload.source = conn": "`source`",
    (
        "class Db:\n    def q(self): ...\ndb = Db()\ndb.own = conn\nask = db.q\ndef load(): ask()"
    ): "`ask.__self__.own`",
}


@pytest.mark.parametrize("source", PATHS)
def test_the_path_leads_to_what_cannot_travel(source: str, conn: sqlite3.Connection) -> None:
    refused = refusal(source, conn=conn)

    assert (
        f"cannot be pickled: {PATHS[source]}, used by task 'load', is an open connection "
        f"(sqlite3.Connection). " in str(refused)
    )
    assert str(refused).endswith("Open it inside the task, and pass what opens it: a path, a URL.")


class Model:
    """To refer to weakly."""


def sockets() -> object:
    made = socket.socket()
    made.close()
    return made


KINDS: dict[str, tuple[Callable[[], object], str, str]] = {
    "lock": (threading.Lock, "a lock (_thread.lock)", "make it inside the task"),
    "event": (threading.Event, "a lock (threading.Event)", "make it inside the task"),
    "thread": (
        threading.Thread,
        "an activity of this process (threading.Thread)",
        "Start it inside the task",
    ),
    "pool": (
        concurrent.futures.ThreadPoolExecutor,
        "an activity of this process (concurrent.futures.thread.ThreadPoolExecutor)",
        "Start it inside the task",
    ),
    "queue": (queue.Queue, "a queue of this process (queue.Queue)", "as arguments and results"),
    "socket": (sockets, "an open connection (socket.socket)", "Open it inside the task"),
    "generator": (
        lambda: (n for n in "ab"),
        "an iterator that can be read only once (generator)",
        "pass a list",
    ),
    "handler": (
        logging.StreamHandler,
        "a handler of log records (logging.StreamHandler)",
        "logging.getLogger",
    ),
    "library": (
        lambda: ctypes.CDLL(None),
        "an object of a loaded C library (ctypes.CDLL)",
        "Load the library",
    ),
    "pointer": (
        lambda: ctypes.pointer(ctypes.c_int(1)),
        "an object of a loaded C library",
        "Load the library",
    ),
    "variable": (
        lambda: contextvars.ContextVar("v"),
        "a thread-local or context variable",
        "Make it inside",
    ),
    "node": (
        lambda: Task(len)("a"),
        "a node, whose value is not computed yet",
        "Pass it as an argument of the task",
    ),
    "reference": (
        lambda: weakref.ref(Model),
        "a weak reference (weakref.ReferenceType)",
        "Hold the object itself",
    ),
    "process": (
        lambda: subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.DEVNULL),
        "an activity of this process (subprocess.Popen)",
        "Start it inside the task",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named_with_its_type_and_its_cure(kind: str) -> None:
    make, words, cure = KINDS[kind]
    made = make()

    refused = refusal("def load(): return held", held={"it": made})

    assert f"`held['it']`, used by task 'load', is {words}" in str(refused)
    assert cure in refused.cure
    if isinstance(made, subprocess.Popen):
        made.wait()


FILES: dict[str, Callable[[Path], Any]] = {
    "read": lambda path: path.open(encoding="utf-8"),
    "written": lambda path: path.open("w", encoding="utf-8"),
    "binary": lambda path: path.open("rb"),
    "raw": lambda path: path.open("rb", buffering=0),
    "temporary": lambda path: tempfile.NamedTemporaryFile(dir=path.parent),  # noqa: SIM115  # entered by the test
}


@pytest.mark.parametrize("way", FILES)
def test_an_open_file_is_refused_as_global_argument_and_result(way: str, tmp_path: Path) -> None:
    """cloudpickle would copy the content of one that is read as text."""
    path = tmp_path / "data.txt"
    path.write_text("secret", encoding="utf-8")
    with FILES[way](path) as file:
        used = refusal("def load(): return file.read()", file=file)
        with pytest.raises(UnserialisableError) as given:
            Task(print)({"file": file})
        with pytest.raises(UnserialisableError) as returned:
            encode_value({"file": file}, "load-0")

    assert "`file`, used by task 'load', is an open file (" in str(used)
    assert used.cure == given.value.cure == "Open it inside the task, and pass its path."
    assert (
        "argument 'args' (tuple) of task 'print' cannot be pickled: `args[0]['file']` is an open"
        in str(given.value)
    )
    assert "the result of task 'load-0' cannot be pickled: `result['file']` is an open file" in str(
        returned.value
    )


RETURNED = (
    "Return plain data (a path, a list) instead, "
    "and open or create the object inside the task that needs it."
)


@pytest.mark.parametrize(
    ("made", "cure"),
    [
        (lambda: (n for n in [1]), "Return a list of what it gives instead."),
        (lambda: {"q": queue.Queue()}, "Return what is in it as a list instead."),
        (lambda: [weakref.ref(Task(print))], "Return the object itself instead."),
        (threading.Lock, RETURNED),  # as an argument: make it inside the task, where it was made
        (lambda: [sqlite3.connect(":memory:")], RETURNED),
        (lambda: {"t": threading.Thread()}, RETURNED),
        (
            lambda: [Task(print)(1)],
            "Pass it as an argument of the task, which then gets its value to return.",
        ),
    ],
)
def test_a_result_is_refused_with_a_cure_for_who_returns_it(
    made: Callable[[], object], cure: str
) -> None:
    with pytest.raises(UnserialisableError) as refused:
        encode_value(made(), "f-0")

    assert str(refused.value).endswith(f". {cure}")
    assert "the result of task 'f-0' cannot be pickled" in str(refused.value)


def test_a_cure_of_a_result_survives_that_its_task_is_named() -> None:
    with pytest.raises(UnserialisableError) as refused:
        encode_value([iter_of([1])], "?")

    named = UnserialisableError("f-0", "the result", refused.value.reason, refused.value.cure)

    told = (
        "`result[0]` is an iterator that can be read only once (generator). "
        "Return a list of what it gives instead."
    )
    assert str(named).endswith(told)


def iter_of(items: list[int]) -> Iterator[int]:
    yield from items


def test_streams_in_memory_travel() -> None:
    text, data = io.StringIO("abc"), io.BytesIO(b"abc")

    function, _ = decode_function(encode_function(Task(lambda: (text.read(), data.read()))))

    assert function() == ("abc", b"abc")


def test_the_standard_streams_are_those_of_the_other_side() -> None:
    streams = decode_value(b"".join(encode_value([sys.stdout, sys.stderr], "f")))

    assert streams == [sys.stdout, sys.stderr]


def test_an_object_that_refuses_for_a_reason_of_its_own_is_named_with_it() -> None:
    source = """
        class Moody:
            def __reduce__(self): raise ValueError("not today")
        held = [Moody()]
        def load(): return held
        """

    assert "`held[0]`, used by task 'load', is of type Moody: not today. Pass plain data" in str(
        refusal(source)
    )


def test_the_argument_is_named_with_the_way_inside_it() -> None:
    @dataclasses.dataclass
    class Settings:
        lock: Any

    def fit(settings: object) -> None: ...

    with pytest.raises(UnserialisableError) as caught:
        Task(fit)(Settings({"a": threading.RLock()}))

    assert (
        "argument 'settings' (Settings) of task 'fit' cannot be pickled: "
        "`settings.lock['a']` is a lock" in str(caught.value)
    )


def test_a_node_beside_it_in_an_argument_is_not_to_blame() -> None:
    with pytest.raises(
        UnserialisableError, match=r"`args\[0\]\[1\]` is a lock \(_thread\.lock\)\. "
    ):
        Task(print)([Task(len)("a"), threading.Lock()])


def test_a_part_that_only_the_pickler_reaches_leaves_the_reason_alone() -> None:
    source = """
        class Hides:
            def __reduce__(self): return (list, ((n for n in "ab"),))
        held = Hides()
        def load(): return held
        """

    assert "of task 'load' cannot be pickled: cannot pickle 'generator' object. " in str(
        refusal(source)
    )


def test_a_large_object_beside_it_is_no_trap() -> None:
    lock = threading.Lock()
    held = {"rows": [[n, str(n)] for n in range(50_000)], "lock": functools.partial(print, lock)}

    assert "`held['lock'].args[0]`, used by task 'load', is a lock" in str(
        refusal("def load(): return held", held=held)
    )
