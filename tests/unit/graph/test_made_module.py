"""Modules made in memory travel by value: what is in them keeps together."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from dagnb.graph.pickling import made_module, reduction
from dagnb.graph.pickling.made_module import MadeModules, pack_modules
from dagnb.graph.pickling.reduction import is_importable, taken_by_value

Made = Callable[..., ModuleType]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Makes a module of a text, in sys.modules; made and imported modules are removed after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])

    def make(name: str, text: str = "", **content: object) -> ModuleType:
        module = sys.modules[name] = ModuleType(name)
        exec(text, vars(module))
        vars(module).update(content)
        return module

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def travelled(*modules: ModuleType) -> Any:
    """The first of the modules as another process imports it."""
    packed = pack_modules({module.__name__: module for module in modules})
    for module in modules:
        del sys.modules[module.__name__]
    sys.meta_path.insert(0, MadeModules(packed))
    reduction._own.clear()  # another process has none of these classes
    return importlib.import_module(modules[0].__name__)


COUNTER = """
N = 0
def bump(by=1, *, twice=False):
    "Count."
    global N
    N += by * (1 + twice)
    return N
class Shown:
    def text(self):
        return f"{type(self).__module__} {N}"
"""


def test_functions_and_classes_share_the_globals_of_their_module(made: Made) -> None:
    module = travelled(made("made_one", COUNTER))

    module.bump(2, twice=True)
    module.N += 10

    assert (module.bump(), module.Shown().text()) == (15, "made_one 15")
    assert module.bump.__globals__ is vars(module)
    assert (module.bump.__doc__, module.bump.__kwdefaults__, module.bump.__module__) == (
        "Count.", {"twice": False}, "made_one",
    )  # fmt: skip


def test_closures_recursion_and_attributes_of_functions_come_back(made: Made) -> None:
    text = """
def outer(k):
    def inner(n):
        return k if n == 0 else k * inner(n - 1)
    inner.mark = "m"
    return inner
power = outer(2)
empty = (lambda: unset) if True else None
def late():
    if False:
        never = 1
    return lambda: never
hollow = late()
import math
"""
    module = travelled(made("made_two", text))

    assert (module.power(4), module.power.mark, module.math.pi > 3) == (32, "m", True)
    with pytest.raises(NameError):
        module.hollow()


CLASSES = """
import abc, dataclasses, enum, functools, typing
class Kind(enum.Enum):
    A = 1
@dataclasses.dataclass
class Row:
    x: int
    kind: Kind = Kind.A
    def up(self):
        return Row(self.x + 1)
class Pair(typing.NamedTuple):
    a: int
class Base(abc.ABC):
    @property
    def name(self):
        return named(self)
class Sub(Base):
    def above(self):
        return super().name
@functools.lru_cache(maxsize=7)
def named(thing):
    return type(thing).__name__
one = other = Row(5)
"""


def test_kinds_of_classes_cached_functions_and_shared_objects_come_back(made: Made) -> None:
    module = travelled(made("made_kinds", CLASSES))

    assert module.Row(1).up() == module.Row(2, module.Kind.A)
    assert (module.Pair(3).a, module.Sub().above(), module.named.cache_parameters()["maxsize"]) == (
        3,
        "Sub",
        7,
    )
    assert module.one is module.other
    assert type(module.one) is module.Row


def test_modules_made_in_memory_may_hold_one_another_and_be_in_packages(made: Made) -> None:
    package, inner = made("made_three"), made("made_three.inner", V=3)
    vars(package)["inner"] = inner
    vars(inner)["up"] = package

    module = travelled(package, inner)

    assert importlib.import_module("made_three.inner") is module.inner
    assert (module.inner.V, module.inner.up is module) == (3, True)


def test_only_the_import_fails_for_a_module_that_cannot_be_pickled(made: Made) -> None:
    fine, bad = made("made_fine", V=1), made("made_bad", lock=threading.Lock())

    assert travelled(fine, bad).V == 1
    with pytest.raises(
        ImportError,
        match=r"'made_bad' was made in memory.*cannot pickle '_thread.lock' object.*file",
    ):
        importlib.import_module("made_bad")


def test_only_the_import_fails_for_a_module_that_is_too_large(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_module, "LIMIT_BYTES", 1_000_000)
    fine, large = made("made_small", V=1), made("made_large", content="x" * 2_000_000)

    assert travelled(fine, large).V == 1
    with pytest.raises(ImportError, match=r"'made_large' .* is larger than 1 MB"):
        importlib.import_module("made_large")


def test_only_the_import_fails_for_a_module_under_another_name(made: Made) -> None:
    sys.modules["made_alias"] = ModuleType("is_not_there")

    packed = pack_modules({"made_alias": sys.modules.pop("made_alias")})

    sys.meta_path.insert(0, MadeModules(packed))
    with pytest.raises(ImportError, match="'made_alias' was made in memory"):
        importlib.import_module("made_alias")


def test_no_modules_are_no_bytes() -> None:
    assert pack_modules({}) == b""


ORDINARY = """
import functools, typing
Meters = typing.NewType("Meters", int)
Parts = typing.ParamSpec("Parts")
T = typing.TypeVar("T")
made = {}
class Base:
    def __init_subclass__(cls, *, k, **terms):
        super().__init_subclass__(**terms)
        made[k] = cls
class Sub(Base, k="sub"):
    __slots__ = ("x",)
@functools.lru_cache(maxsize=7)
def half(n: Meters):
    return n // divisor
half.unit = Meters
divisor = 2
@functools.singledispatch
def told(thing):
    return "thing"
@told.register
def _told_int(thing: int):
    return f"int {half(thing)}"
told.mark = [Meters]
"""


def test_what_is_pickled_by_its_parts_belongs_to_the_module_it_travels_with(made: Made) -> None:
    module = travelled(made("made_ordinary", ORDINARY))

    assert (module.Meters(3), module.Meters.__supertype__, module.Parts.__name__) == (
        3,
        int,
        "Parts",
    )
    assert module.made == {"sub": module.Sub}
    assert (module.half(9), module.half.cache_parameters(), module.half.unit) == (
        4, {"maxsize": 7, "typed": False}, module.Meters,
    )  # fmt: skip
    assert (module.told("x"), module.told(8), module.told.mark) == (
        "thing",
        "int 4",
        [module.Meters],
    )
    assert module.told.dispatch(int).__globals__ is vars(module)


def test_a_class_below_one_with_a_hook_can_be_made_where_the_module_is_imported(made: Made) -> None:
    module = travelled(made("made_hook", ORDINARY))

    later = type("Later", (module.Base,), {}, k="later")

    assert module.made == {"sub": module.Sub, "later": later}
    assert "x" in vars(module.Sub)


def test_only_within_the_block_nothing_of_the_module_can_be_imported(made: Made) -> None:
    module = made("made_now", ORDINARY)
    other = made("made_beside", ORDINARY)

    with taken_by_value(module):
        assert [is_importable(part) for part in (module.Meters, module.Base, other.Base)] == [
            False,
            False,
            True,
        ]

    assert [is_importable(part) for part in (module.Meters, module.Base, other.Base)] == [
        True,
        True,
        True,
    ]
    assert module.__name__ not in cloudpickle.list_registry_pickle_by_value()
