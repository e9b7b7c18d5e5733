"""The arguments of a call, pickled at the call: what is changed between the call and the run does not reach the task.

Objects of one kind, nodes, are left out and noted as references, wherever pickle meets them: in containers of every
type, in attributes, as keys. When the bytes are read, the values of their tasks stand in their places.

Large memory is not copied. The buffers of arrays (PEP 574) are kept as views with a checksum taken at the call, which
tells at the run whether somebody wrote to them. A large argument without such buffers is pickled on its own, so that a
dictionary given to a thousand tasks is stored once.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import weakref
import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Generic, TypeVar

from dagnb.graph.by_value import ByValuePickler

K = TypeVar("K", bound=Hashable)

SHARED_BYTES = 32 * 1024
"""Buffers and arguments from this size on are stored by their content, once, and not within every call"""

CHECKED_BYTES = 64 * 1024 * 1024
"""A buffer up to this size is checked whole, of a larger one as many bytes in samples: about 10 ms"""

_SAMPLE_BYTES = 64 * 1024

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

    body: the pickle. contents: the buffers it takes, in order, then the arguments that were pickled on their own, each
    followed by its buffers. references: the objects that were left out, each once, in the order in which pickle met
    them. files: names of the files in which the code was written that goes along.
    """

    body: bytes
    contents: tuple[Content, ...] = ()
    references: tuple[K, ...] = ()
    files: frozenset[str] = frozenset()

    @property
    def n_bytes(self) -> int:
        """Bytes that a reader needs, without the values of the references."""
        return len(self.body) + sum(len(content.data) for content in self.contents)


def pack(value: Any, kind: type[K]) -> Packed[K]:
    """Pickle a value. kind: type of the objects to leave out. Raises whatever pickling raises."""
    return _packed(value, kind, _Plain, _ByValue)


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[K]) -> Packed[K]:
    """Pickle arguments; no bytes for none. Large ones get contents of their own, see SHARED_BYTES. Raises as pack."""
    if not args and not kwargs:
        return Packed(b"")

    values = [*args, *kwargs.values()]
    if not any(_is_large_text(value) for value in values):
        packed = pack((args, kwargs), kind)
        if len(packed.body) < SHARED_BYTES:
            return packed

    return _joined(args, kwargs, _large_arguments(values, kind), kind)


def unpack(body: bytes | memoryview, inputs: Sequence[Any], contents: Sequence[bytes]) -> Any:
    """Read what pack or pack_call made. inputs: a value for each reference; contents: the bytes of each content.

    Buffers are copied, so that the reader may write to what it gets. Verified bytes only: they are unpickled.
    """
    reader = _Reader(io.BytesIO(body), buffers=map(bytearray, contents))
    reader.inputs, reader.contents = inputs, contents
    return reader.load()


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


class _Alone:
    """Stands for an argument that was pickled on its own.

    from_end: position of its content, counted from the end of all; n_buffers: contents after it that are its buffers,
    or RAW for bytes, which are not pickled.
    """

    RAW = -1

    def __init__(self, from_end: int, n_buffers: int) -> None:
        self.told = (from_end, n_buffers)


class _LeavesOut:
    """The part that both picklers have in common.

    kind: type of what is left out. references: what was left out, with its place.
    """

    kind: type[Any]
    references: dict[Any, int]

    def left_out(self, item: Any) -> Any:
        """Returns the reduction of a reference, or of an argument that was pickled on its own; None for all else."""
        if isinstance(item, self.kind):
            return _reference, (self.references.setdefault(item, len(self.references)),)
        if isinstance(item, _Alone):
            return _argument, item.told
        return None


class _Plain(_LeavesOut, pickle.Pickler):
    """For values of importable types."""

    def reducer_override(self, item: Any) -> Any:
        """See left_out; pickle's own way for all else."""
        return self.left_out(item) or NotImplemented


class _ByValue(_LeavesOut, ByValuePickler):
    """For values with functions or classes of the notebook."""

    def reducer_override(self, item: Any) -> Any:
        """See left_out; the reduction by value for all else."""
        return self.left_out(item) or super().reducer_override(item)


def _packed(value: Any, kind: type[K], plain: type[_Plain], by_value: type[_ByValue], **notes: Any) -> Packed[K]:
    """Pickle by plain pickle where that is enough, since it is ten times faster. notes: attributes of the picklers."""
    try:
        packed = _dumped(plain, value, kind, notes)
    except (pickle.PicklingError, TypeError, AttributeError):
        return _dumped(by_value, value, kind, notes)
    return packed if b"__main__" not in packed.body else _dumped(by_value, value, kind, notes)


def _dumped(pickler: type[Any], value: Any, kind: type[K], notes: dict[str, Any]) -> Packed[K]:
    stream = io.BytesIO()
    buffers: list[Content] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer as it is; returns whether this one is pickled with the rest."""
        try:
            view = buffer.raw()
        except BufferError:  # it is not contiguous, so pickle has to copy it
            return True
        if view.nbytes < SHARED_BYTES:
            return True
        buffers.append(Content(view))
        return False

    writing = pickler(stream, protocol=5, buffer_callback=take)
    vars(writing).update(notes, kind=kind, references={}, files=set())
    writing.dump(value)
    return Packed(stream.getvalue(), tuple(buffers), tuple(writing.references), frozenset(writing.files))


def _is_large_text(value: Any) -> bool:
    """Returns whether this is text or bytes that are stored by content."""
    return type(value) in (bytes, str) and len(value) >= SHARED_BYTES


def _large_arguments(values: Sequence[Any], kind: type[K]) -> dict[int, Packed[K]]:
    """Returns the large arguments by their id, each pickled on its own.

    Where two arguments share a part, it must be one object for the task, too, so they have to stay in one pickle.
    """
    different = {id(value): value for value in values if not isinstance(value, kind)}
    changeable = {number: value for number, value in different.items() if type(value) not in _ATOMS}
    candidates = {number: value for number, value in different.items() if _is_large_text(value)}
    if len(changeable) <= 1 or not _share_parts(changeable.values(), kind):
        candidates |= changeable

    alone: dict[int, Packed[K]] = {}
    for number, value in candidates.items():
        if type(value) is bytes:
            alone[number] = Packed(b"", (Content(value),))
            continue
        packed = pack(value, kind)
        if len(packed.body) >= SHARED_BYTES and not packed.references:
            alone[number] = packed
    return alone


def _joined(args: tuple[Any, ...], kwargs: dict[str, Any], alone: dict[int, Packed[K]], kind: type[K]) -> Packed[K]:
    """Pickle arguments; those that were pickled on their own are contents behind the buffers of the others."""
    behind: list[Content] = []
    begins: dict[int, int] = {}
    for number, packed in alone.items():
        begins[number] = len(behind)
        if packed.body:
            behind.append(_interned(packed.body))
        behind.extend(packed.contents)

    def stand_in(number: int, packed: Packed[K]) -> _Alone:
        return _Alone(len(behind) - begins[number], len(packed.contents) if packed.body else _Alone.RAW)

    stands = {number: stand_in(number, packed) for number, packed in alone.items()}
    left_args = tuple(stands.get(id(value), value) for value in args)
    left_kwargs = {name: stands.get(id(value), value) for name, value in kwargs.items()}
    rest = pack((left_args, left_kwargs), kind)
    files = rest.files.union(*(packed.files for packed in alone.values()))
    return Packed(rest.body, (*rest.contents, *behind), rest.references, files)


_known: weakref.WeakValueDictionary[bytes, Content] = weakref.WeakValueDictionary()


def _interned(data: bytes) -> Content:
    """Returns the one content of these bytes, which calls share while one of them lives."""
    return _known.setdefault(hashlib.blake2b(data, digest_size=16).digest(), Content(data))


class _Visits:
    """Notes the objects that a pickler meets. They are kept alive, so that no other object gets the id of one."""

    met: dict[int, Any]

    def persistent_id(self, item: Any) -> None:
        """Note an object that two arguments may share, and let it be pickled."""
        if type(item) not in _ATOMS and not isinstance(item, _CODE):
            self.met[id(item)] = item


class _VisitingPlain(_Visits, _Plain):
    """Plain pickling that notes what it meets."""


class _VisitingByValue(_Visits, _ByValue):
    """Pickling by value that notes what it meets."""


def _share_parts(values: Iterable[Any], kind: type[K]) -> bool:
    """Returns whether one object stands in two of the values, nodes and atoms aside. O(size)."""
    seen: dict[int, Any] = {}
    for value in values:
        met: dict[int, Any] = {}
        _packed(value, kind, _VisitingPlain, _VisitingByValue, met=met)
        parts = {number: item for number, item in met.items() if not isinstance(item, kind)}
        if not parts.keys().isdisjoint(seen):
            return True
        seen |= parts
    return False


# ---- reading ----


def _reference(place: int) -> Any:
    """Pickles name this for the value at a place among the inputs. A reader has its own in its stead."""
    raise pickle.UnpicklingError(f"input {place} of a call is known only where the call is read by unpack()")


def _argument(from_end: int, n_buffers: int) -> Any:
    """Pickles name this for an argument that was pickled on its own. A reader has its own in its stead."""
    raise pickle.UnpicklingError(f"content -{from_end} of a call is known only where the call is read by unpack()")


class _Reader(pickle.Unpickler):
    """Reads a pickle in which references and arguments are named. inputs, contents: see unpack."""

    inputs: Sequence[Any]
    contents: Sequence[bytes]

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns what the pickle names, with this reader's own way to references and arguments."""
        if module == __name__ and name == _reference.__name__:
            return self.inputs.__getitem__
        if module == __name__ and name == _argument.__name__:
            return self._argument
        return super().find_class(module, name)

    def _argument(self, from_end: int, n_buffers: int) -> Any:
        position = len(self.contents) - from_end
        if n_buffers == _Alone.RAW:
            return bytes(self.contents[position])
        buffers = self.contents[position + 1 : position + 1 + n_buffers]
        return pickle.loads(self.contents[position], buffers=map(bytearray, buffers))
