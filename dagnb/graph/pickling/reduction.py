"""Reductions of ordinary objects that neither pickle nor cloudpickle can take.

A *reduction* is what `__reduce__` returns: a function, its arguments, and state, by which a reader
makes the object again. Each kind of object has one function here, which builds it from documented
parts of the object; None leaves the object to pickle and cloudpickle.

Pickles name the functions that make objects again (`_cached_again`, `_fill_class`, ...) with this
module. Results outlive releases, so these names stay; moved_names.py lists earlier ones.
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

# Attributes that functools.wraps copies of a function, in every version.
_NAMES = (
    "__module__",
    "__name__",
    "__qualname__",
    "__doc__",
    "__annotations__",
)

_generic = functools.singledispatch(lambda argument: None)

# The code of every generic function: the only mark by which one is known.
_GENERIC_CODE = getattr(_generic, "__code__", None)

# Names of modules that are pickled by value just now: nothing of them can be imported.
_by_value: set[str] = set()


@contextlib.contextmanager
def taken_by_value(module: ModuleType) -> Iterator[None]:
    """Pickle by value what belongs to the module, within the block.

    Raises ValueError if it is not in sys.modules.
    """
    cloudpickle.register_pickle_by_value(module)
    _by_value.add(module.__name__)
    try:
        yield
    finally:
        _by_value.discard(module.__name__)
        cloudpickle.unregister_pickle_by_value(module)


def reduction(item: Any) -> Reduction | None:
    """Returns how to make the object again; None where pickle and cloudpickle know that.

    Raises PicklingError for an object that must not be pickled.
    """
    # Called for every object that is pickled by value: one look-up, as most types have no reducer.
    kind = type(item)
    try:
        reducer = _reducers[kind]
    except KeyError:
        reducer = _reducers[kind] = _reducer_of(kind)
    return reducer(item) if reducer is not None else None


def is_importable(thing: Any) -> bool:
    """Returns whether a worker gets this very object by importing its module."""
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    if module == "__main__" or module in _by_value:
        return False
    imported: Any = sys.modules.get(module)
    for part in name.split("."):
        imported = getattr(imported, part, None)
    return imported is thing  # another object may have taken its name


def _cached_function(item: Any) -> Reduction | None:
    """Reduces a function with lru_cache or cache: the copy has an empty cache of equal size."""
    if is_importable(item):
        return None
    parameters = item.cache_parameters()
    # cache_parameters is a function of functools that encloses the old ones; the new cache has its
    # own.
    state = {name: value for name, value in vars(item).items() if name != "cache_parameters"}
    return (
        _cached_again,
        (item.__wrapped__, parameters["maxsize"], parameters["typed"]),
        state,
    )


def _cached_again(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def is_generic(thing: Any) -> bool:
    """Returns whether this is a function of functools.singledispatch."""
    return isinstance(thing, FunctionType) and thing.__code__ is _GENERIC_CODE


def _function(item: FunctionType) -> Reduction | None:
    return _generic_function(item) if item.__code__ is _GENERIC_CODE else None


def _generic_function(item: Any) -> Reduction | None:
    """Reduces a function of singledispatch, with all its implementations."""
    if is_importable(item):
        return _imported_generic_function(item)
    names = {name: getattr(item, name) for name in _NAMES}
    # Attributes such as `register` and `dispatch` are left out: the new function has its own.
    attributes = {name: value for name, value in vars(item).items() if name not in vars(_generic)}
    state = (dict(item.registry), names, attributes)
    return (
        functools.singledispatch,
        (item.__wrapped__,),
        state,
        None,
        None,
        _fill_generic,
    )


def _imported_generic_function(item: Any) -> Reduction | None:
    """Reduces a generic function that workers import, with the implementations of the notebook."""
    registry = item.registry.items()
    added = {kind: function for kind, function in registry if function.__module__ == "__main__"}
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
    member: Any = __import__(module, fromlist=["*"])
    for part in name.split("."):
        member = getattr(member, part)
    return member


def _fill_generic(
    function: Any,
    state: tuple[Mapping[type, Any], Mapping[str, Any], Mapping[str, Any]],
) -> None:
    registry, names, attributes = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    for name, value in names.items():
        setattr(function, name, value)
    vars(function).update(attributes)


def _cached_property(item: Any) -> Reduction | None:
    """Reduces a cached property: up to Python 3.11 it holds a lock, and the copy gets its own."""
    state = dict(vars(item))
    if state.pop("lock", None) is None:  # a newer Python, where pickle can take it
        return None
    return _blank_property, (type(item),), state


def _blank_property(kind: type) -> Any:
    blank: Any = object.__new__(kind)  # a subclass may have an __init__ of other parameters
    vars(blank).update(vars(functools.cached_property(lambda owner: None)))
    return blank


def with_slots(kind: type, reduced: Reduction) -> Reduction:
    """Add the slots of a class to its reduction, among the names with which the class is made.

    cloudpickle leaves them out. Objects of the class then have a dictionary in a worker, and the
    client, whose class has none, cannot read them.
    """
    # Classes of tuples have no slots of their own, and those that NamedTuple makes refuse the name.
    if "__slots__" not in vars(kind) or issubclass(kind, tuple):
        return reduced
    make, arguments, *rest = reduced
    slots = {"__slots__": vars(kind)["__slots__"]}
    with_them = []
    for argument in arguments:
        # The arguments of an enumeration also hold a dictionary of its members.
        is_namespace = isinstance(argument, dict) and "__module__" in argument
        with_them.append({**argument, **slots} if is_namespace else argument)
    return (make, tuple(with_them), *rest)


def without_hook(kind: type, reduced: Reduction) -> Reduction:
    """Make a reader create the class without `__init_subclass__` of a base pickled by value.

    The effects of that hook are already in the pickled class and registry, and its keyword
    arguments are unknown: a second call would register the class twice, or fail.
    """
    owner = next((base for base in kind.__mro__[1:] if _HOOK in vars(base)), object)
    if owner is object or is_importable(owner):
        return reduced
    make, arguments, *rest = reduced
    return (_make_without_hook, (owner, make, arguments), *rest)


def _make_without_hook(owner: type, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    hook = vars(owner).get(_HOOK)
    if hook is None:  # the owner is not filled yet: it uses its own subclass
        return make(*arguments)
    setattr(owner, _HOOK, classmethod(lambda kind, **options: None))
    try:
        return make(*arguments)
    finally:
        setattr(owner, _HOOK, hook)


# Classes of this process that were pickled by value; by id, as a metaclass may refuse comparison.
_own: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()

# Classes that were made here by reading a pickle, by id.
_read: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()


def keeping_own(kind: type, reduced: Reduction) -> Reduction:
    """Leave a class unchanged when a pickle of it is read in the process that made the class.

    cloudpickle would set all attributes to what they were when the class was pickled: reading a
    result would undo the user's changes since, and replace caches and registries.
    """
    if id(kind) not in _read:
        _own[id(kind)] = kind
    make, arguments, state, items, pairs, fill = reduced
    return make, arguments, (fill, state), items, pairs, _fill_class


def _fill_class(kind: type, filling: tuple[Callable[..., Any], Any]) -> None:
    if id(kind) in _own:
        return
    _read[id(kind)] = kind
    fill, state = filling
    fill(kind, state)


def _weak_dictionary(item: Any) -> Reduction:
    """Reduces a weak dictionary to its live entries; the reader drops those unused elsewhere."""
    return type(item), (), None, None, _pairs(item)


def _pairs(item: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    return iter(list(item.items()))


def _thread_local(item: Any) -> Reduction | None:
    """Reduces a thread local to an empty one, as all threads but the one that filled it see it."""
    return (type(item), ()) if full_name(type(item)) == "_thread._local" else None


def _type_parameter(item: Any) -> Reduction | None:
    return None if is_importable(item) else (type(item), (item.__name__,))


def _new_type(item: Any) -> Reduction | None:
    return None if is_importable(item) else (typing.NewType, (item.__name__, item.__supertype__))


def _stream(item: Any) -> Reduction | None:
    """Replaces a standard stream by that of the worker, and refuses another open file.

    cloudpickle would copy the content of other open files.
    """
    for name in ("stdout", "stderr"):
        # IPython and pytest replace the streams, and user code may hold either.
        if item is getattr(sys, name) or item is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    if type(item) is io.TextIOWrapper:
        raise pickle.PicklingError(f"an open file is not copied: {getattr(item, 'name', item)!r}")
    return None


def _library(item: Any) -> Reduction:
    raise pickle.PicklingError(f"a library that is loaded here is not loaded there: {item!r}")


# full name of a class -> the reducer of its instances.
#
# By name, because most programs never import these modules.
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

# type -> its reducer, for types already seen; weak, as cells define classes again and again.
_reducers: weakref.WeakKeyDictionary[type, Callable[[Any], Reduction | None] | None] = (
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
    """Returns the name of a class with that of its module, such as 'sqlite3.Connection'."""
    return f"{kind.__module__}.{kind.__qualname__}"
