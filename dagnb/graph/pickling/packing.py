"""The arguments of a call, pickled at the call: what is changed between the call and the run does not reach the task.

Objects of one kind, nodes, are left out and noted as references, wherever pickle meets them: in containers of every
type, in attributes, as keys. When the bytes are read, the values of their tasks stand in their places.

Large memory is not copied. The buffers of arrays (PEP 574) are kept as views with a checksum taken at the call, which
tells at the run whether somebody wrote to them. Other large arguments are pickled apart from the call, so that a
dictionary given to a thousand tasks is pickled and stored once.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import marshal
import pickle
import weakref
import zlib
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Generic, TypeVar

from dagnb.graph.brief import brief
from dagnb.graph.pickling.by_value import ByValuePickler, plain_or_by_value
from dagnb.graph.pickling.stand_in import plain_table

K = TypeVar("K", bound=Hashable)

SHARED_BYTES = 32 * 1024
"""Buffers and arguments from this size on are stored by their content, once, and not within every call"""

CHECKED_BYTES = 64 * 1024 * 1024
"""A buffer up to this size is checked whole, of a larger one as many bytes in samples: about 10 ms"""

_SAMPLE_BYTES = 64 * 1024

_LOOKED_AT = 1_000

_CONTAINERS = (list, tuple, dict, set, frozenset)

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type(...))
"""Types that cannot be changed, and hold nothing"""

_CODE = (type, FunctionType, BuiltinFunctionType, ModuleType)


class Content:
    """Bytes that are stored once. data: these, or a view of the caller's memory, which the caller may write to."""

    __slots__ = ("__weakref__", "_checksum", "data")

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self._checksum = 0 if isinstance(data, bytes) else checksum(data)

    def copied(self) -> bytes | None:
        """Returns the bytes; None when memory holds others, as far as the checksum tells, than when this was made."""
        if isinstance(self.data, bytes):
            return self.data
        data = bytes(self.data)
        return data if checksum(data) == self._checksum else None

    @property
    def key(self) -> Hashable:
        """Equal for contents of the same object with the same checksum, while the object lives."""
        return id(self._owner), len(self.data), self._checksum

    def is_of(self, other: Content) -> bool:
        """Returns whether both are views of the same memory, whatever it holds now."""
        return self._owner is other._owner and len(self.data) == len(other.data)

    @property
    def _owner(self) -> object:
        return self.data.obj if isinstance(self.data, memoryview) else self.data


@dataclass(frozen=True, slots=True)
class Packed(Generic[K]):
    """A pickled value.

    body: the pickle. contents: the buffers it takes, in order, then what was pickled apart from it, each part followed
    by the buffers it takes. references: the objects that were left out, each once, in the order in which pickle met
    them. files: names of the files in which the code was written that goes along.
    """

    body: bytes
    contents: tuple[Content, ...] = ()
    references: tuple[K, ...] = ()
    files: frozenset[str] = frozenset()

    __repr__ = brief

    @property
    def n_bytes(self) -> int:
        """Bytes that a reader needs, without the values of the references."""
        return len(self.body) + sum(len(content.data) for content in self.contents)


def pack(value: Any, kind: type[K], *, in_band: bool = False) -> Packed[K]:
    """Pickle a value. kind: type of the objects to leave out. in_band: without contents, all of it in the body.

    Raises whatever pickling raises.
    """
    return _packed(value, kind, _Plain, _ByValue, in_band=in_band)


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[K]) -> Packed[K]:
    """Pickle arguments; no bytes for none. Large ones get contents of their own, see SHARED_BYTES. Raises as pack."""
    if not args and not kwargs:
        return Packed(b"")

    values = [*args, *kwargs.values()]
    if not any(_is_large_text(value) or _is_long(value) for value in values):
        packed = pack((args, kwargs), kind)
        if len(packed.body) < SHARED_BYTES:
            return packed

    apart = _Apart()
    for text in _large_texts(values):
        apart.add_text(text)
    for value in _separable(values, kind):
        apart.add_argument(value, kind)
    rest = _packed((args, kwargs), kind, _PlainApart, _ByValueApart, places=apart.places)
    return Packed(
        rest.body, (*rest.contents, *apart.contents), rest.references, rest.files | apart.files
    )


def unpack(body: bytes | memoryview, inputs: Sequence[Any], contents: Sequence[bytes]) -> Any:
    """Read what pack or pack_call made. inputs: a value for each reference; contents: the bytes of each content.

    Buffers are copied, so that the reader may write to what it gets. Verified bytes only: they are unpickled.
    """
    return _Reader(body, contents, inputs, contents, {}).load()


def checksum(data: bytes | memoryview) -> int:
    """CRC-32 of the bytes, of samples spread over them beyond CHECKED_BYTES."""
    n_bytes = len(data)
    if n_bytes <= CHECKED_BYTES:
        return zlib.crc32(data)

    n_samples = CHECKED_BYTES // _SAMPLE_BYTES
    last = n_bytes - _SAMPLE_BYTES
    found = 0
    for number in range(n_samples):
        begin = last * number // (n_samples - 1)
        found = zlib.crc32(data[begin : begin + _SAMPLE_BYTES], found)
    return found


# ---- writing ----


class _LeavesOut:
    """The part that both picklers have in common.

    kind: type of what is left out. references: what was left out, with its place.
    """

    kind: type[Any]
    references: dict[Any, int]

    def left_out(self, item: Any) -> Any:
        """Returns the reduction of an object that is left out; None for all else."""
        if isinstance(item, self.kind):
            return _reference, (self.references.setdefault(item, len(self.references)),)
        return None


class _Plain(_LeavesOut, pickle.Pickler):
    """For values of importable types."""

    @property
    def dispatch_table(self) -> Any:  # type: ignore[override]  # the pickler only reads it, as it is made
        """See pickle.Pickler.dispatch_table."""
        return plain_table()

    def reducer_override(self, item: Any) -> Any:
        """See left_out; pickle's own way for all else."""
        return self.left_out(item) or NotImplemented


class _ByValue(_LeavesOut, ByValuePickler):
    """For values with functions or classes of the notebook."""

    def reducer_override(self, item: Any) -> Any:
        """See left_out; the reduction by value for all else."""
        return self.left_out(item) or super().reducer_override(item)


def _packed(
    value: Any, kind: type[K], plain: type[_Plain], by_value: type[_ByValue], **notes: Any
) -> Packed[K]:
    """Pickle by plain pickle where that is enough. notes: attributes of the picklers."""
    return plain_or_by_value(partial(_dumped, (plain, by_value), value, kind, notes), _body)


_body = attrgetter("body")


def _dumped(
    picklers: tuple[type[Any], type[Any]],
    value: Any,
    kind: type[K],
    notes: dict[str, Any],
    by_value: bool,
) -> Packed[K]:
    stream = io.BytesIO()
    buffers: list[Content] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer as it is; returns whether this one is pickled with the rest."""
        if notes.get("in_band"):
            return True
        try:
            view = buffer.raw()
        except BufferError:  # it is not contiguous, so pickle has to copy it
            return True
        if view.nbytes < SHARED_BYTES:
            return True
        buffers.append(Content(view))
        return False

    writing = picklers[by_value](stream, protocol=5, buffer_callback=take)
    vars(writing).update(notes, kind=kind, references={}, files=set())
    writing.dump(value)
    return Packed(
        stream.getvalue(), tuple(buffers), tuple(writing.references), frozenset(writing.files)
    )


# ---- large arguments ----


class _Apart:
    """Objects that are pickled apart from the call that takes them.

    places: id of the object -> its persistent id in the pickle of the call: the position of its content, counted from
    the end of all, and how many of the contents after it are its buffers, _RAW for bytes that are not pickled.
    """

    def __init__(self) -> None:
        self.contents: tuple[Content, ...] = ()
        self.places: dict[int, tuple[int, int]] = {}
        self.files: frozenset[str] = frozenset()

    def add_text(self, text: bytes | str) -> None:
        """Add a text, or bytes, which are not pickled."""
        if isinstance(text, bytes):
            self._add(text, (Content(text),), _RAW)
        else:
            self._add(text, (_interned(pickle.dumps(text, protocol=5)),), 0)

    def add_argument(self, value: Any, kind: type[K]) -> None:
        """Add an argument if it is large and has no object of the kind in it. Plain data is pickled once, see above."""
        known, key = (None, None) if self.places else _known_plain(value)
        if known is not None:
            self._add(value, (known,), 0)
            return

        if self.places:
            packed = _packed(value, kind, _PlainApart, _ByValueApart, places=self.places)
        else:
            packed = pack(value, kind)
        if len(packed.body) < SHARED_BYTES or packed.references:
            return
        content = _interned(packed.body)
        if key is not None:
            _known[key] = content
        self._add(value, (content, *packed.contents), len(packed.contents))
        self.files |= packed.files

    def _add(self, value: Any, contents: tuple[Content, ...], n_buffers: int) -> None:
        """Put contents before the others, so that the places of those, counted from the end, stay the same."""
        self.contents = (*contents, *self.contents)
        self.places[id(value)] = (len(self.contents), n_buffers)


_RAW = -1

_known: weakref.WeakValueDictionary[bytes, Content] = weakref.WeakValueDictionary()
"""Contents that live, by a hash of their bytes, or of the plain data that they are the pickle of"""


def _interned(data: bytes) -> Content:
    """Returns the one content of these bytes, which calls share while one of them lives."""
    return _known.setdefault(_digest(b"pickle", data), Content(data))


def _digest(kind: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=kind).digest()


def _known_plain(value: Any) -> tuple[Content | None, bytes | None]:
    """Returns the content of a long container of plain data, if it was pickled before, and its key among the known.

    marshal is several times faster than pickle. It refuses all but plain data, and arrays, which it takes for bytes.
    """
    if not _is_long(value) or not _begins_plainly(value):
        return None, None
    try:
        key = _digest(b"marshal", marshal.dumps(value, 2))
    except ValueError:  # it is not plain, or holds itself
        return None, None
    if (known := _known.get(key)) is not None:
        return known, key

    kinds = _kinds(value, _PLAIN_DEPTH)
    if kinds is None:
        return None, None
    if (
        bytes in kinds
    ):  # the same key may be that of one with arrays, so the kinds have to be looked at each time
        key += b"bytes"
    return _known.get(key), key


_PLAIN_DEPTH = 3
_PLAIN_BEGIN = 64


def _begins_plainly(container: Any) -> bool:
    """Returns whether the first items are plain, so that large arrays are not copied in vain."""
    kinds = {type(item) for item in itertools.islice(_items(container), _PLAIN_BEGIN)}
    return kinds.issubset((*_ATOMS, *_CONTAINERS))


def _kinds(container: Any, depth: int) -> set[type] | None:
    """Returns the types of the atoms in a container; None where it holds others, or containers below a depth."""
    kinds = set(map(type, container))
    if type(container) is dict:
        kinds.update(map(type, container.values()))
    if kinds.issubset(_ATOMS):
        return kinds
    if depth == 0 or not kinds.issubset((*_ATOMS, *_CONTAINERS)):
        return None

    for item in _items(container):
        if type(item) in _CONTAINERS:
            inner = _kinds(item, depth - 1)
            if inner is None:
                return None
            kinds |= inner
    return kinds


def _items(container: Any) -> Iterable[Any]:
    """The items of a container, of a dict keys and values."""
    return itertools.chain(container, container.values()) if type(container) is dict else container


class _TakesApart:
    """Puts the persistent id of an object that is pickled apart in its place."""

    places: dict[int, tuple[int, int]]

    def persistent_id(self, item: Any) -> tuple[int, int] | None:
        """Returns the place of an object that is pickled apart; None for all else."""
        return self.places.get(id(item))


class _PlainApart(_TakesApart, _Plain):
    """Plain pickling of what is left of a call."""


class _ByValueApart(_TakesApart, _ByValue):
    """Pickling by value of what is left of a call."""


def _is_long(value: Any) -> bool:
    """Returns whether this is a container that is likely to be pickled apart: then it is not pickled twice."""
    return type(value) in _CONTAINERS and len(value) >= SHARED_BYTES // 16


def _is_large_text(value: Any) -> bool:
    """Returns whether this is text or bytes, and pickled apart."""
    return type(value) in (bytes, str) and len(value) >= SHARED_BYTES


def _large_texts(values: Sequence[Any]) -> list[Any]:
    """Returns the large texts and bytes among the first thousand items, level by level, each object once."""
    found: dict[int, Any] = {}
    waiting = deque(values)
    for _ in range(_LOOKED_AT):
        if not waiting:
            break
        item = waiting.popleft()
        if _is_large_text(item):
            found[id(item)] = item
        elif type(item) in _CONTAINERS:
            waiting.extend(itertools.islice(_items(item), _LOOKED_AT))
    return list(found.values())


def _separable(values: Sequence[Any], kind: type[K]) -> list[Any]:
    """Returns the arguments that may be pickled apart.

    Where two arguments share a part, it must be one object for the task, too, so all have to stay in one pickle.
    """
    different = {
        id(value): value
        for value in values
        if type(value) not in _ATOMS and not isinstance(value, kind)
    }
    arguments = list(different.values())
    return [] if len(arguments) > 1 and _share_parts(arguments, kind) else arguments


class _Visits:
    """Notes the objects that a pickler meets. They are kept alive, so that no other object gets the id of one."""

    met: dict[int, Any]

    def persistent_id(self, item: Any) -> None:
        """Note an object that may be changed, and let it be pickled."""
        # What is hashed by its value, as tuples, dates and numpy's dtypes are, is never changed.
        how: Any = type(item).__hash__
        is_hashed_by_value = how is not None and how is not object.__hash__
        if not is_hashed_by_value and not isinstance(item, _CODE):
            self.met[id(item)] = item


class _VisitingPlain(_Visits, _Plain):
    """Plain pickling that notes what it meets."""


class _VisitingByValue(_Visits, _ByValue):
    """Pickling by value that notes what it meets."""


def _share_parts(values: Sequence[Any], kind: type[K]) -> bool:
    """Returns whether one object that may be changed stands in two of the values, nodes aside. O(size)."""
    seen: dict[int, Any] = {}
    for value in values:
        parts = _parts(value, kind)
        if not parts.keys().isdisjoint(seen):
            return True
        seen |= parts
    return False


def _parts(value: Any, kind: type[K]) -> dict[int, Any]:
    """Returns the objects in a value, and itself, that may be changed, by id."""
    if type(value) in _CONTAINERS and _kinds(value, 0) is not None:
        return {id(value): value}
    met: dict[int, Any] = {}
    _packed(value, kind, _VisitingPlain, _VisitingByValue, met=met)
    return {number: item for number, item in met.items() if not isinstance(item, kind)}


# ---- reading ----


def _reference(place: int) -> Any:
    """Pickles name this for the value at a place among the inputs. A reader has its own in its stead."""
    raise pickle.UnpicklingError(
        f"input {place} of a call is known only where the call is read by unpack()"
    )


class _Reader(pickle.Unpickler):
    """Reads a pickle with the inputs in their places, and what was pickled apart from it.

    inputs, contents: as for unpack. made: by persistent id, what was pickled apart and has been read already.
    """

    def __init__(
        self,
        body: bytes | memoryview,
        buffers: Sequence[bytes],
        inputs: Sequence[Any],
        contents: Sequence[bytes],
        made: dict[tuple[int, int], Any],
    ) -> None:
        super().__init__(io.BytesIO(body), buffers=map(bytearray, buffers))
        self._inputs, self._contents, self._made = inputs, contents, made

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns what the pickle names, with this reader's own way to the inputs."""
        if module == __name__ and name == _reference.__name__:
            return self._inputs.__getitem__
        return super().find_class(module, name)

    def persistent_load(self, place: Any) -> Any:
        """Returns what was pickled apart, one object for all its places."""
        if place not in self._made:
            from_end, n_buffers = place
            content, *buffers = self._contents[len(self._contents) - from_end :][
                : 1 + max(0, n_buffers)
            ]
            if n_buffers == _RAW:
                self._made[place] = bytes(content)
            else:
                self._made[place] = _Reader(content, buffers, (), self._contents, self._made).load()
        return self._made[place]
