"""Reductions of ordinary objects that neither pickle nor cloudpickle can take, by their documented parts.

Each kind has one function, which gives what `__reduce__` would: how to make the object again. None leaves it to others.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import cloudpickle

Reduction: TypeAlias = tuple[Any, ...]

_HOOK = "__init_subclass__"
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")
"""what functools.wraps copies of a function, in every version"""

_dispatching = functools.singledispatch(lambda argument: None)
_CODE = getattr(_dispatching, "__code__", None)
"""The code of every generic function."""

_by_value: set[str] = set()
"""Names of modules that are pickled by value just now: nothing of them can be imported"""


@contextlib.contextmanager
def taken_by_value(module: ModuleType) -> Iterator[None]:
    """Pickle by value what belongs to the module, within the block. Raises ValueError if it is not in sys.modules."""
    cloudpickle.register_pickle_by_value(module)
    _by_value.add(module.__name__)
    try:
        yield
    finally:
        _by_value.discard(module.__name__)
        cloudpickle.unregister_pickle_by_value(module)


def reduction(item: Any) -> Reduction | None:
    """Returns how to make the object again; None where pickle and cloudpickle know it.

    Raises PicklingError to refuse.
    """
    kind = type(item)
    try:
        reducer = _known[kind]
    except KeyError:
        reducer = _known[kind] = _reducer_of(kind)
    return reducer(item) if reducer is not None else None


def is_importable(thing: Any) -> bool:
    """Returns whether a worker gets this very object by importing its module."""
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if (
        not isinstance(module, str)
        or not isinstance(name, str)
        or module == "__main__"
        or module in _by_value
    ):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _cached_function(item: Any) -> Reduction | None:
    """One of lru_cache or cache: with a new and empty cache of the same terms."""
    if is_importable(item):
        return None
    terms = item.cache_parameters()
    state = {name: value for name, value in vars(item).items() if name != "cache_parameters"}
    return _cached_again, (item.__wrapped__, terms["maxsize"], terms["typed"]), state


def _cached_again(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def is_generic(thing: Any) -> bool:
    """Returns whether this is a function of functools.singledispatch."""
    return isinstance(thing, FunctionType) and thing.__code__ is _CODE


def _function(item: FunctionType) -> Reduction | None:
    return _generic_function(item) if item.__code__ is _CODE else None


def _generic_function(item: Any) -> Reduction | None:
    """One of singledispatch, with all its implementations."""
    if is_importable(item):
        return _imported_generic_function(item)
    names = {name: getattr(item, name) for name in _NAMES}
    attributes = {
        name: value for name, value in vars(item).items() if name not in vars(_dispatching)
    }
    state = (dict(item.registry), names, attributes)
    return functools.singledispatch, (item.__wrapped__,), state, None, None, _fill_generic


def _imported_generic_function(item: Any) -> Reduction | None:
    """One that workers import, with the implementations that the notebook added to it."""
    added = {kind: made for kind, made in item.registry.items() if made.__module__ == "__main__"}
    if not added:
        return None
    return (
        _imported,
        (item.__module__, item.__qualname__),
        (added, {}, {}),
        None,
        None,
        _fill_generic,
    )


def _imported(module: str, name: str) -> Any:
    thing: Any = __import__(module, fromlist=["*"])
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def _fill_generic(
    made: Any, state: tuple[Mapping[type, Any], Mapping[str, Any], Mapping[str, Any]]
) -> None:
    registry, names, attributes = state
    for kind, implementation in registry.items():
        made.register(kind, implementation)
    for name, value in names.items():
        setattr(made, name, value)
    vars(made).update(attributes)


def _cached_property(item: Any) -> Reduction | None:
    """Up to Python 3.11 it holds a lock; the copy gets one of its own."""
    state = dict(vars(item))
    if state.pop("lock", None) is None:
        return None
    return _blank_property, (type(item),), state


def _blank_property(kind: type) -> Any:
    made: Any = object.__new__(kind)
    vars(made).update(vars(functools.cached_property(lambda owner: None)))
    return made


def with_slots(kind: type, reduced: Reduction) -> Reduction:
    """The reduction of a class, its slots among the names that the class is made with; as it is for all others.

    cloudpickle leaves the slots out where it makes such a class anew. Its objects then have a dictionary in a worker,
    and the client, whose class has none, cannot read them. Classes of tuples have no slots of their own, and those that
    NamedTuple makes refuse to be told so.
    """
    if "__slots__" not in vars(kind) or issubclass(kind, tuple):
        return reduced
    make, given, *rest = reduced
    slots = {"__slots__": vars(kind)["__slots__"]}
    # An enumeration is given its members as another dictionary.
    given = tuple(
        {**part, **slots} if isinstance(part, dict) and "__module__" in part else part
        for part in given
    )
    return (make, given, *rest)


def without_hook(kind: type, reduced: Reduction) -> Reduction:
    """The reduction of a class, made again without `__init_subclass__` of a base that travels by value, too.

    What the hook did is in the class and in what it registered it with, and its keyword arguments are not known.
    """
    owner = next((base for base in kind.__mro__[1:] if _HOOK in vars(base)), object)
    if owner is object or is_importable(owner):
        return reduced
    make, terms, *rest = reduced
    return (_make_without_hook, (owner, make, terms), *rest)


def _make_without_hook(owner: type, make: Callable[..., Any], terms: tuple[Any, ...]) -> Any:
    hook = vars(owner).get(_HOOK)
    if hook is None:  # the owner is not filled yet: it uses its own subclass
        return make(*terms)
    setattr(owner, _HOOK, classmethod(lambda kind, **terms: None))
    try:
        return make(*terms)
    finally:
        setattr(owner, _HOOK, hook)


_own: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()
"""Classes of this process that were pickled by value, by id: a metaclass may refuse to be compared"""

_read: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()
"""Classes that were made here by reading a pickle, by id"""


def keeping_own(kind: type, reduced: Reduction) -> Reduction:
    """The reduction of a class, which where it is read back leaves the class of that process as it is.

    cloudpickle gives that class all attributes anew that it had when it was pickled: a result would take back what the
    user has set since, and replace caches and registries.
    """
    if id(kind) not in _read:
        _own[id(kind)] = kind
    make, terms, state, items, pairs, fill = reduced
    return make, terms, (fill, state), items, pairs, _fill_class


def _fill_class(kind: type, told: tuple[Callable[..., Any], Any]) -> None:
    if id(kind) in _own:
        return
    _read[id(kind)] = kind
    fill, state = told
    fill(kind, state)


def _weak_dictionary(item: Any) -> Reduction:
    """With the entries that are alive; those that nothing else in the pickle holds vanish again."""
    return type(item), (), None, None, _pairs(item)


def _pairs(item: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    return iter(list(item.items()))


def _thread_local(item: Any) -> Reduction | None:
    """Empty, as every thread but the one that filled it finds it."""
    return (type(item), ()) if full_name(type(item)) == "_thread._local" else None


def _type_parameter(item: Any) -> Reduction | None:
    return None if is_importable(item) else (type(item), (item.__name__,))


def _new_type(item: Any) -> Reduction | None:
    return None if is_importable(item) else (typing.NewType, (item.__name__, item.__supertype__))


def _stream(item: Any) -> Reduction | None:
    """The standard streams are those of the worker; cloudpickle would copy the content of other open files."""
    for name in ("stdout", "stderr"):
        if item is getattr(sys, name) or item is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    if type(item) is io.TextIOWrapper:
        raise pickle.PicklingError(f"an open file is not copied: {getattr(item, 'name', item)!r}")
    return None


def _library(item: Any) -> Reduction:
    raise pickle.PicklingError(f"a library that is loaded here is not loaded there: {item!r}")


_REDUCERS: dict[str, Callable[[Any], Reduction | None]] = {
    "functools._lru_cache_wrapper": _cached_function,
    "functools.cached_property": _cached_property,
    "builtins.function": _function,
    "weakref.WeakValueDictionary": _weak_dictionary,
    "weakref.WeakKeyDictionary": _weak_dictionary,
    "_thread._local": _thread_local,
    "typing.ParamSpec": _type_parameter,
    "typing.TypeVarTuple": _type_parameter,
    "typing.NewType": _new_type,
    "ctypes.CDLL": _library,
}
"""full name of a class -> the reducer of its instances; names, because most programs never import these modules"""

_known: weakref.WeakKeyDictionary[type, Callable[[Any], Reduction | None] | None] = (
    weakref.WeakKeyDictionary()
)


def _reducer_of(kind: type) -> Callable[[Any], Reduction | None] | None:
    if issubclass(kind, io.IOBase):
        return _stream
    for base in kind.__mro__:
        reducer = _REDUCERS.get(full_name(base))
        if reducer is not None:
            return reducer
    return None


def full_name(kind: type) -> str:
    """The name with that of its module: 'sqlite3.Connection'."""
    return f"{kind.__module__}.{kind.__qualname__}"
