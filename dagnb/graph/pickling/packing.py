"""The arguments of a call, pickled at the call: changes between call and run have no effect.

What is pickled when
    At the call: everything but large buffers. The node keeps the result, a `Packed`: `body` (one
    pickle), `contents` (bytes that are stored once, under their hash), `references`.
    At the launch: the contents are copied, to shared memory or to be sent with the functions.
    On a worker: `unpack` reads the body, with values in the places of references.

What is left out
    Objects of one kind, nodes, are left out wherever pickle reaches them: in containers of every
    type, in attributes, as keys. The pickle holds `_reference(n)` for the n-th; the reader replaces
    that function by the look-up in its list of inputs.

Contents
    buffer    the memory of an array (PEP 574) of SHARED_BYTES or more. It stays a view of the
              caller's memory until the launch, with a checksum taken at the call. If the checksums
              differ at the launch, the caller has written to the array in between, and the run is
              refused: the values with which the call was made are lost.
    apart     another large argument, pickled by itself, so that a dictionary given to a thousand
              tasks is pickled and stored once. Its place in the call is its persistent id. An
              argument goes apart only if it shares no mutable part with another one: in two pickles
              a shared list would become two lists, and a change by the task would show in one.
    raw       large texts or bytes, also those within containers: they have no parts to share.

Two picklers write: pickle itself, and ByValuePickler, ten times slower, for what belongs to the
notebook. The call of a small task costs tens of microseconds, and people make a hundred thousand
calls: therefore the cheapest checks come first, and loops over items run in C.
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
from dagnb.graph.pickling.flat import ATOMS, FlatContainers, is_flat
from dagnb.graph.pickling.moved_names import present_name
from dagnb.graph.pickling.stand_in import plain_table

K = TypeVar("K", bound=Hashable)

SHARED_BYTES = 32 * 1024
"""buffers and arguments from this size on are stored by their content, once, not in every call"""

CHECKED_BYTES = 64 * 1024 * 1024
"""larger buffers are checked in samples of so many bytes in all, which takes about 10 ms"""

_SAMPLE_BYTES = 64 * 1024

# Items of arguments, and of each container in them, that are looked at for large texts.
_LOOKED_AT = 1_000

_CONTAINERS = (list, tuple, dict, set, frozenset)

_NUMBERS = (int, float, bool, complex, type(None))

# Types whose objects are pickled by name or as code: they are not data that arguments share.
_CODE = (type, FunctionType, BuiltinFunctionType, ModuleType)


# One for all pickles without code.
_NO_FILES: frozenset[str] = frozenset()


class Content:
    """Bytes that are stored once, under their hash.

    data: bytes, or a view of the caller's memory, to which the caller may write.
    """

    __slots__ = ("__weakref__", "_checksum", "data")

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self._checksum = 0 if isinstance(data, bytes) else checksum(data)

    def copied(self) -> bytes | None:
        """Returns the bytes; None if the caller's memory has changed since, by the checksum."""
        if isinstance(self.data, bytes):
            return self.data
        # Copied before the check, so that the bytes checked are those sent, even if the caller
        # writes now.
        data = bytes(self.data)
        return data if checksum(data) == self._checksum else None

    def is_unchanged(self) -> bool:
        """Returns whether the caller's memory is as it was at the call, by the checksum."""
        return isinstance(self.data, bytes) or checksum(self.data) == self._checksum

    def equals(self, other: Content) -> bool:
        """Returns whether both hold the same bytes now."""
        if len(self.data) != len(other.data):
            return False
        # In pieces: the copies that bytes are compared by then stay in the processor's cache.
        for begin in range(0, len(self.data), _SAMPLE_BYTES):
            piece = slice(begin, begin + _SAMPLE_BYTES)
            if bytes(self.data[piece]) != bytes(other.data[piece]):
                return False
        return True

    @property
    def summary(self) -> Hashable:
        """A key that is equal for contents of equal bytes, and rarely for others."""
        return len(self.data), self._checksum

    @property
    def key(self) -> Hashable:
        """A key that is equal for contents of one object with one checksum, while it lives."""
        return id(self._owner), len(self.data), self._checksum

    def is_of(self, other: Content) -> bool:
        """Returns whether both are views of the same memory, whatever its bytes are now."""
        return self._owner is other._owner and len(self.data) == len(other.data)

    @property
    def _owner(self) -> object:
        return self.data.obj if isinstance(self.data, memoryview) else self.data


@dataclass(frozen=True, slots=True)
class Packed(Generic[K]):
    """A pickled value.

    body: the pickle.
    contents: the buffers of the body, in order; then each part that was pickled apart, followed by
    the buffers of that part.
    references: the objects that were left out, each once, in the order in which pickle reached
    them.
    files: names of the source files of all code that is pickled by value.
    """

    body: bytes
    contents: tuple[Content, ...] = ()
    references: tuple[K, ...] = ()
    files: frozenset[str] = _NO_FILES

    __repr__ = brief

    @property
    def n_bytes(self) -> int:
        """Number of bytes that a reader needs, without the values of the references."""
        return len(self.body) + sum(len(content.data) for content in self.contents)


def pack(value: Any, kind: type[K], *, in_band: bool = False) -> Packed[K]:
    """Pickle a value.

    kind: type of the objects to leave out. in_band: put everything into the body, without contents.
    Raises whatever pickling raises.
    """
    return _packed(value, kind, _Plain, _ByValue, in_band=in_band)


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[K]) -> Packed[K]:
    """Pickle arguments. Large ones get contents of their own, see SHARED_BYTES. Raises as pack.

    The body is empty for a call without arguments.
    """
    if not args and not kwargs:
        return Packed(b"")

    values: Sequence[Any] = (*args, *kwargs.values()) if kwargs else args
    if all(map(_is_small_and_plain, values)):
        # pickle alone writes the same bytes here, five times faster than a pickler of our own.
        body = pickle.dumps((args, kwargs), protocol=5)
        if len(body) < SHARED_BYTES:
            return Packed(body)
    # Most calls are small: they are pickled once, without further checks.
    if not any(_is_large_text(value) or _is_long(value) for value in values):
        packed = pack((args, kwargs), kind)
        if len(packed.body) < SHARED_BYTES:
            return packed

    apart = _Apart()
    # Texts first: an argument that holds some is then pickled without them.
    for text in _large_texts(values):
        apart.add_text(text)
    for value in _separable(values, kind):
        apart.add_argument(value, kind)
    rest = _packed((args, kwargs), kind, _PlainApart, _ByValueApart, places=apart.places)
    return Packed(
        rest.body,
        (*rest.contents, *apart.contents),
        rest.references,
        rest.files | apart.files,
    )


def unpack(
    body: bytes | memoryview,
    inputs: Sequence[Any],
    contents: Sequence[bytes | memoryview],
    flat: FlatContainers | None = None,
) -> Any:
    """Returns the value that pack or pack_call pickled.

    The bytes must be verified: unpickling runs code.

    inputs: a value for each reference. contents: the bytes of each content. Buffers are copied, so
    that the caller may write to its arrays; a writable view is used as it is.
    flat: holds what earlier calls have read, for readers of many calls with equal contents.
    """
    return _Reader(body, contents, inputs, _Parts(contents, flat)).load()


def checksum(data: bytes | memoryview) -> int:
    """Returns the CRC-32 of the bytes; beyond CHECKED_BYTES that of samples spread over them.

    It detects accidents, such as an array that is filled again in a loop, not forgery.
    """
    n_bytes = len(data)
    if n_bytes <= CHECKED_BYTES:
        return zlib.crc32(data)

    n_samples = CHECKED_BYTES // _SAMPLE_BYTES
    last = n_bytes - _SAMPLE_BYTES  # begin of the last sample, so both ends are covered
    crc = 0
    for number in range(n_samples):
        begin = last * number // (n_samples - 1)
        crc = zlib.crc32(data[begin : begin + _SAMPLE_BYTES], crc)
    return crc


# ---- writing ----


class _LeavesOut:
    """Leaves objects of one kind out of a pickle; common to both picklers.

    references: the objects that were left out, each with its number.
    """

    kind: type[Any]
    references: dict[Any, int]

    def left_out(self, item: Any) -> Any:
        """Returns the reduction of an object that is left out; None for all else."""
        if isinstance(item, self.kind):
            return _reference, (self.references.setdefault(item, len(self.references)),)
        return None


class _Plain(_LeavesOut, pickle.Pickler):
    """Pickles values of importable types."""

    @property
    def dispatch_table(self) -> Any:  # type: ignore[override]  # read once
        """See pickle.Pickler.dispatch_table."""
        return plain_table()

    def reducer_override(self, item: Any) -> Any:
        """Leave references out; pickle's own way for all else."""
        return self.left_out(item) or NotImplemented


class _ByValue(_LeavesOut, ByValuePickler):
    """Pickles values with functions or classes of the notebook."""

    def reducer_override(self, item: Any) -> Any:
        """Leave references out; the reduction by value for all else."""
        return self.left_out(item) or super().reducer_override(item)


def _packed(
    value: Any,
    kind: type[K],
    plain: type[_Plain],
    by_value: type[_ByValue],
    **notes: Any,
) -> Packed[K]:
    """Pickle plainly where that is enough, else by value. notes: attributes for the picklers."""
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
        """Keep a large buffer as a view. Returns True for one that goes into the pickle."""
        if notes.get("in_band"):
            return True
        try:
            view = buffer.raw()
        except BufferError:  # it is not contiguous, so pickle has to copy it
            return True
        if view.nbytes < SHARED_BYTES:  # a content costs a round trip, or a hash at least
            return True
        buffers.append(Content(view))
        return False

    pickler = picklers[by_value](stream, protocol=5, buffer_callback=take)
    vars(pickler).update(notes, kind=kind, references={}, files=set())
    pickler.dump(value)
    files = frozenset(pickler.files) if pickler.files else _NO_FILES
    return Packed(stream.getvalue(), tuple(buffers), tuple(pickler.references), files)


# ---- large arguments ----


class _Apart:
    """Objects that are pickled apart from the call that takes them.

    places: id of the object -> its persistent id in the pickle of the call: the position of its
    content counted from the end, and the number of its buffers after it, _RAW for bytes that are
    not pickled. From the end, because contents are put in front of those that earlier pickles refer
    to.
    """

    def __init__(self) -> None:
        self.contents: tuple[Content, ...] = ()
        self.places: dict[int, tuple[int, int]] = {}
        self.files: frozenset[str] = frozenset()

    def add_text(self, text: bytes | str) -> None:
        """Add a large text, or large bytes, which need no pickling."""
        if isinstance(text, bytes):
            self._add(text, (Content(text),), _RAW)
        else:
            self._add(text, (_interned(pickle.dumps(text, protocol=5)),), 0)

    def add_argument(self, value: Any, kind: type[K]) -> None:
        """Add an argument if it is large and holds no reference.

        Plain data that an earlier call has pickled is not pickled again.
        """
        # Without its texts, which are pickled apart, its pickle would differ from the known one.
        known, key = (None, None) if self.places else _known_plain(value)
        if known is not None:
            self._add(value, (known,), 0)
            return

        if self.places:
            packed = _packed(value, kind, _PlainApart, _ByValueApart, places=self.places)
        else:
            packed = pack(value, kind)
        # References have numbers in the pickle of the call alone.
        if len(packed.body) < SHARED_BYTES or packed.references:
            return
        content = _interned(packed.body)
        if key is not None:
            _known[key] = content
        self._add(value, (content, *packed.contents), len(packed.contents))
        self.files |= packed.files

    def _add(self, value: Any, contents: tuple[Content, ...], n_buffers: int) -> None:
        """Put contents before the others, whose places, counted from the end, stay the same."""
        self.contents = (*contents, *self.contents)
        self.places[id(value)] = (len(self.contents), n_buffers)


_RAW = -1

# Contents that a node still holds, by a hash of their bytes, or of the plain data they pickle.
_known: weakref.WeakValueDictionary[bytes, Content] = weakref.WeakValueDictionary()


def _interned(data: bytes) -> Content:
    """Returns the one content of these bytes, which calls share while one of them is alive."""
    return _known.setdefault(_digest(b"pickle", data), Content(data))


def _digest(kind: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=kind).digest()


def _known_plain(value: Any) -> tuple[Content | None, bytes | None]:
    """Returns the known content of a long container of plain data, and the key to store it under.

    The key is a hash of what marshal writes. marshal is several times faster than pickle,
    and refuses everything but plain data, except arrays, which it writes as bytes.
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
    # A container of arrays instead of bytes would have the same key, so one with bytes gets another
    # key, under which it is found only after a look at its types.
    if bytes in kinds:
        key += b"bytes"
    return _known.get(key), key


# Containers within containers up to which data counts as plain.
_PLAIN_DEPTH = 3
_PLAIN_BEGIN = 64


def _begins_plainly(container: Any) -> bool:
    """Returns whether the first items are plain; else marshal would copy arrays for nothing."""
    kinds = {type(item) for item in itertools.islice(_items(container), _PLAIN_BEGIN)}
    return kinds.issubset((*ATOMS, *_CONTAINERS))


def _kinds(container: Any, depth: int) -> set[type] | None:
    """Returns the types in a container of plain data; None for other data, or deeper containers."""
    # map and set run in C: a loop with isinstance would take longer than pickling.
    kinds = set(map(type, container))
    if type(container) is dict:
        kinds.update(map(type, container.values()))
    if kinds.issubset(ATOMS):
        return kinds
    if depth == 0 or not kinds.issubset((*ATOMS, *_CONTAINERS)):
        return None

    for item in _items(container):
        if type(item) in _CONTAINERS:
            inner = _kinds(item, depth - 1)
            if inner is None:
                return None
            kinds |= inner
    return kinds


def _items(container: Any) -> Iterable[Any]:
    """Returns the items of a container; of a dict its keys, then its values."""
    return itertools.chain(container, container.values()) if type(container) is dict else container


class _TakesApart:
    """Writes its persistent id in the place of an object that is pickled apart."""

    places: dict[int, tuple[int, int]]

    def persistent_id(self, item: Any) -> tuple[int, int] | None:
        """Returns the place of an object that is pickled apart; None for all else."""
        return self.places.get(id(item))


class _PlainApart(_TakesApart, _Plain):
    """Plain pickling of the rest of a call."""


class _ByValueApart(_TakesApart, _ByValue):
    """Pickling by value of the rest of a call."""


def _is_small_and_plain(value: Any) -> bool:
    """Returns whether a value is an atom, or a container of atoms, and none that goes apart."""
    kind = type(value)
    if kind in _NUMBERS:
        return True
    if kind in _CONTAINERS:
        return not _is_long(value) and is_flat(value)
    return kind in ATOMS and not _is_large_text(value)


def _is_long(value: Any) -> bool:
    """Returns whether a container will probably be pickled apart, so that it is pickled once.

    An item takes 16 bytes or more in most pickles.
    """
    return type(value) in _CONTAINERS and len(value) >= SHARED_BYTES // 16


def _is_large_text(value: Any) -> bool:
    """Returns whether this is text or bytes of a size to be pickled apart."""
    return type(value) in (bytes, str) and len(value) >= SHARED_BYTES


def _large_texts(values: Sequence[Any]) -> list[Any]:
    """Returns the large texts and bytes among the first items, level by level, each object once."""
    texts: dict[int, Any] = {}
    waiting = deque(values)
    for _ in range(_LOOKED_AT):
        if not waiting:
            break
        item = waiting.popleft()
        if _is_large_text(item):
            texts[id(item)] = item
        elif type(item) in _CONTAINERS:
            waiting.extend(itertools.islice(_items(item), _LOOKED_AT))
    return list(texts.values())


def _separable(values: Sequence[Any], kind: type[K]) -> list[Any]:
    """Returns the arguments that may be pickled apart.

    A part that two arguments share must be one object for the task, too: then all arguments stay in
    one pickle.
    """
    different = {
        id(value): value
        for value in values
        if type(value) not in ATOMS and not isinstance(value, kind)
    }
    arguments = list(different.values())
    return [] if len(arguments) > 1 and _share_parts(arguments, kind) else arguments


class _Visits:
    """Notes the mutable objects that a pickler reaches.

    The objects are kept alive, so that no other object gets the id of one.
    """

    visited: dict[int, Any]

    def persistent_id(self, item: Any) -> None:
        """Note a mutable object; None has it pickled as always."""
        # Objects hashed by their value, as tuples, dates and numpy's dtypes are, are immutable.
        hash_method: Any = type(item).__hash__
        is_hashed_by_value = hash_method is not None and hash_method is not object.__hash__
        if not is_hashed_by_value and not isinstance(item, _CODE):
            self.visited[id(item)] = item


class _VisitingPlain(_Visits, _Plain):
    """Plain pickling that notes mutable objects."""


class _VisitingByValue(_Visits, _ByValue):
    """Pickling by value that notes mutable objects."""


def _share_parts(values: Sequence[Any], kind: type[K]) -> bool:
    """Returns whether one mutable object is part of two of the values, nodes aside. O(size)."""
    seen: dict[int, Any] = {}
    for value in values:
        parts = _parts(value, kind)
        if not parts.keys().isdisjoint(seen):
            return True
        seen |= parts
    return False


def _parts(value: Any, kind: type[K]) -> dict[int, Any]:
    """Returns the mutable objects in a value, and the value itself, by id."""
    # A list of numbers: pickling it a second time would double the cost of the call.
    if type(value) in _CONTAINERS and is_flat(value):
        return {id(value): value}
    visited: dict[int, Any] = {}
    _packed(value, kind, _VisitingPlain, _VisitingByValue, visited=visited)
    return {number: item for number, item in visited.items() if not isinstance(item, kind)}


# ---- reading ----


def _reference(place: int) -> Any:
    """Marks, in a pickle, the input with this number; a reader uses its own inputs instead."""
    raise pickle.UnpicklingError(
        f"input {place} of a call is known only where the call is read by unpack()"
    )


class _Parts:
    """The parts of one call that were pickled apart, each read once, as one object for all places.

    contents, flat: as for unpack.
    """

    def __init__(self, contents: Sequence[bytes | memoryview], flat: FlatContainers | None) -> None:
        self._contents, self._flat = contents, flat
        self._read: dict[tuple[int, int], Any] = {}

    def part(self, place: tuple[int, int]) -> Any:
        """Returns the part with this persistent id, see _Apart."""
        if place not in self._read:
            self._read[place] = self._part(*place)
        return self._read[place]

    def _part(self, from_end: int, n_buffers: int) -> Any:
        begin = len(self._contents) - from_end
        content = bytes(self._contents[begin])  # the same object, if these are bytes
        if n_buffers == _RAW:
            return content

        reader = _Reader(content, self._contents[begin + 1 : begin + 1 + n_buffers], (), self)
        # A part with buffers holds arrays: it is not flat.
        if self._flat is None or n_buffers:
            return reader.load()
        return self._flat.load(content, reader.load)


def _writable(buffer: bytes | memoryview) -> bytearray | memoryview:
    if isinstance(buffer, memoryview) and not buffer.readonly:
        return buffer
    return bytearray(buffer)


class _Reader(pickle.Unpickler):
    """Reads a pickle, with inputs in the places of references, and parts that were pickled apart.

    inputs: as for unpack.
    """

    def __init__(
        self,
        body: bytes | memoryview,
        buffers: Sequence[bytes | memoryview],
        inputs: Sequence[Any],
        parts: _Parts,
    ) -> None:
        super().__init__(io.BytesIO(body), buffers=map(_writable, buffers))
        self._inputs, self._parts = inputs, parts

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns the object that the pickle names; for `_reference` the look-up of an input."""
        # The structure of a run may have been written by an earlier release.
        module, name = present_name(module, name)
        if module == __name__ and name == _reference.__name__:
            return self._inputs.__getitem__
        return super().find_class(module, name)

    def persistent_load(self, place: Any) -> Any:
        """Returns a part that was pickled apart, as one object for all its places."""
        return self._parts.part(place)
