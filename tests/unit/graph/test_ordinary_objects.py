"""Objects as notebooks define them, in `__main__`: a task can use them in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

CASES = {
    "a cached function that calls itself": """
        import functools
        @functools.lru_cache(maxsize=7, typed=True)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        fib(3)
        def f():
            n_cached = fib.cache_info().currsize
            return n_cached, fib(20), fib.cache_parameters(), fib.__name__, fib.__wrapped__.__name__
        """,
    "a cached function with a limit of its own": """
        import functools
        @functools.cache
        def square(n): return n * n
        square.unit = "cm"
        def f(): return square(4), square.cache_parameters()["maxsize"], square.unit
        """,
    "a cached method": """
        import functools
        class Model:
            @functools.lru_cache
            def twice(self, n): return 2 * n
        def f(): return Model().twice(4)
        """,
    "a bound method that its object caches": """
        import functools
        class Model:
            def __init__(self): self.cached = functools.lru_cache(self.plain)
            def plain(self, n): return n + 1
        model = Model()
        def f(): return model.cached(1)
        """,
    "a generic function that calls itself": """
        import functools
        @functools.singledispatch
        def show(value):
            "Shows."
            return "any"
        @show.register
        def _(value: int): return "int"
        @show.register(list)
        def _(value): return [show(item) for item in value]
        show.unit = "cm"
        def f():
            kinds = sorted(kind.__name__ for kind in show.registry)
            return show([1, "a", [2]]), show.__doc__, show.__name__, show.unit, kinds
        """,
    "a generic method": """
        import functools
        class Model:
            @functools.singledispatchmethod
            def go(self, value): return "any"
            @go.register
            def _(self, value: int): return self.name
            name = "int"
        def f(): return Model().go(1), Model().go("a")
        """,
    "an implementation that the notebook adds to a module's generic function": """
        from importlib.resources import as_file
        class Place: pass
        @as_file.register(Place)
        def _(place): return "of the notebook"
        def f(): return as_file(Place())
        """,
    "a cached property": """
        import functools
        class Circle:
            @functools.cached_property
            def area(self): return 12
        circle = Circle()
        def f(): return circle.area, vars(circle)
        """,
    "a partial method": """
        import functools
        class Model:
            def base(self, a, b): return [a, b]
            part = functools.partialmethod(base, 1)
        def f(): return Model().part(2)
        """,
    "functions in two wrappers": """
        import functools
        def more(inner):
            @functools.wraps(inner)
            def wrapper(*given): return inner(*given) + 1
            return wrapper
        @more
        @more
        def plain(n): return n
        def f(): return plain(1), plain.__name__, plain.__wrapped__.__wrapped__(1)
        """,
    "a context manager of a generator": """
        import contextlib
        @contextlib.contextmanager
        def opened(): yield 3
        def f():
            with opened() as value: return value
        """,
    "an abstract class with a registered one": """
        import abc
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        @Shape.register
        class Square: pass
        def f(): return isinstance(Square(), Shape), isinstance(1, Shape)
        """,
    "enumerations, data classes and named tuples": """
        import dataclasses, enum, typing
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass(frozen=True, slots=True)
        class Point:
            x: int
            y: list = dataclasses.field(default_factory=list)
        class Pair(typing.NamedTuple):
            a: int
            b: str = "x"
        def f(): return Colour(1).name, Point(1) == Point(1), Pair(2)._asdict()
        """,
    "type parameters, protocols and new types": """
        import typing
        T = typing.TypeVar("T"); P = typing.ParamSpec("P"); Ts = typing.TypeVarTuple("Ts")
        Id = typing.NewType("Id", int)
        class Box(typing.Generic[T]):
            def __init__(self, value: T): self.value = value
        @typing.runtime_checkable
        class HasValue(typing.Protocol):
            value: int
        def f(call: typing.Callable[P, T] | None = None, *more: typing.Unpack[Ts]):
            return Box[Id](Id(3)).value, isinstance(Box(1), HasValue), P.__name__, Ts.__name__
        """,
    "a class made by a metaclass": """
        class Meta(type):
            known = {}
            def __new__(meta, name, bases, space):
                meta.known[name] = 1
                return super().__new__(meta, name, bases, space)
        class Model(metaclass=Meta): value = 1
        def f(): return Model.value, Meta.known
        """,
    "a class whose base hears of its subclasses": """
        class Base:
            known = []
            def __init_subclass__(kind, *, key, **terms):
                super().__init_subclass__(**terms)
                kind.key = key
                Base.known.append(key)
        class Part(Base, key="a"): pass
        def f():
            class Later(Base, key="b"): pass
            return Part.key, Base.known
        """,
    "weak dictionaries": """
        import weakref
        class Model: pass
        model = Model()
        by_name = weakref.WeakValueDictionary(a=model)
        by_model = weakref.WeakKeyDictionary({model: 1})
        model.registry = by_name
        def f(): return by_name["a"] is model, by_model[model], model.registry is by_name
        """,
    "what each thread has for itself": """
        import threading
        here = threading.local()
        here.value = 1
        def f(): return hasattr(here, "value"), setattr(here, "value", 2), here.value
        """,
    "loggers and the standard streams": """
        import functools, logging, sys
        log = logging.getLogger("mine")
        log.addHandler(logging.StreamHandler())
        tell = functools.partial(print, file=sys.stderr)
        def f(): return log.name, tell.keywords["file"] is sys.stderr
        """,
    "streams in memory": """
        import io
        text, data = io.StringIO("abc"), io.BytesIO(b"abc")
        def f(): return text.getvalue(), data.read().decode()
        """,
    "a cached function, a generic one and a class made by a function": """
        import functools
        def outer():
            @functools.lru_cache
            def inner(n): return inner(n - 1) + 1 if n else 0
            @functools.singledispatch
            def show(value): return "any"
            @show.register
            def _(value: int): return show("text")
            class Model:
                @functools.cached_property
                def value(self): return inner(3)
            def f(): return inner(4), show(1), Model().value
            return f
        f = outer()
        """,
}

EXPECTED: dict[str, Any] = {
    "a cached function that calls itself": [0, 6765, {"maxsize": 7, "typed": True}, "fib", "fib"],
    "a cached function with a limit of its own": [16, None, "cm"],
    "a cached method": 8,
    "a bound method that its object caches": 2,
    "a generic function that calls itself": [
        ["int", "any", ["int"]],
        "Shows.",
        "show",
        "cm",
        ["int", "list", "object"],
    ],
    "a generic method": ["int", "any"],
    "an implementation that the notebook adds to a module's generic function": "of the notebook",
    "a cached property": [12, {"area": 12}],
    "a partial method": [1, 2],
    "functions in two wrappers": [3, "plain", 1],
    "a context manager of a generator": 3,
    "an abstract class with a registered one": [True, False],
    "enumerations, data classes and named tuples": ["RED", True, {"a": 2, "b": "x"}],
    "type parameters, protocols and new types": [3, True, "P", "Ts"],
    "a class made by a metaclass": [1, {"Model": 1}],
    "a class whose base hears of its subclasses": ["a", ["a", "b"]],
    "weak dictionaries": [True, 1, True],
    "what each thread has for itself": [False, None, 2],
    "loggers and the standard streams": ["mine", True],
    "streams in memory": ["abc", "abc"],
    "a cached function, a generic one and a class made by a function": [4, "any", 3],
}
"""what the functions give; of a cached function, the cache is empty there"""

WRITE = """
import json, sys, textwrap
from dagnb.graph.payload import encode_function
from dagnb.graph.task import Task
for source in json.load(sys.stdin):
    space = {"__name__": "__main__"}
    sys.modules["__main__"].__dict__.update(space)
    exec(textwrap.dedent(source), space)
    try:
        print(json.dumps(encode_function(Task(space["f"])).hex()))
    except Exception as error:
        print(json.dumps(repr(error).encode().hex()))
"""

READ = """
import json, sys
from dagnb.graph.payload import decode_function
for line in sys.stdin:
    try:
        function, _ = decode_function(bytes.fromhex(json.loads(line)))
        print(json.dumps(function()))
    except Exception as error:
        print(json.dumps(repr(error)))
"""


def printed(program: str, given: str) -> list[Any]:
    """Returns the lines that another Python prints."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, Any]:
    """case -> what its function gives in another process than where it was defined."""
    pickled = printed(WRITE, json.dumps(list(CASES.values())))
    return dict(
        zip(CASES, printed(READ, "".join(json.dumps(line) + "\n" for line in pickled)), strict=True)
    )


@pytest.mark.parametrize("case", CASES)
def test_it_works_in_another_process(case: str, elsewhere: dict[str, Any]) -> None:
    assert elsewhere[case] == EXPECTED[case]
