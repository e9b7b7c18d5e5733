"""How functions, arguments and results become bytes, and come back only when they carry our signature.

A function is stored once, under the hash of its bytes. Arguments are pickled with a reference in the place of each
node, and with large constants lifted out under their own hash, so that a value given to a thousand tasks travels
once. A result is a pickle, its large buffers out of band. Everything is signed: HMAC-SHA256, cut to 16 bytes
(RFC 2104, RFC 4868), over what it is and what it belongs to; it is verified before it is unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagnb.errors import ForeignNodeError, SignatureError, UnserialisableError
from dagnb.failure import raised_text, reason_of
from dagnb.graph.by_value import ByValuePickler
from dagnb.graph.task import Node, Task

CONSTANT_BYTES = 32 * 1024
"""Constants from this size on are stored by content, once, instead of within every call that takes them."""

_MAC_BYTES = 16
_PLAIN = (int, float, str, bytes, bool, type(None))


class Signer:
    """Signs and checks bytes with one secret. what: kind and owner of the bytes, so that they cannot be swapped."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, what: str, *parts: bytes | memoryview) -> bytes:
        """The parts joined, behind their signature."""
        return b"".join((self._mac(what, parts), *parts))

    def open(self, what: str, sealed: bytes) -> memoryview:
        """The bytes without their signature. Raises SignatureError when it is not ours."""
        view = memoryview(sealed)
        if len(view) < _MAC_BYTES or not hmac.compare_digest(view[:_MAC_BYTES], self._mac(what, (view[_MAC_BYTES:],))):
            raise SignatureError(what)
        return view[_MAC_BYTES:]

    def content_name(self, data: bytes) -> str:
        """Name of shared content, 32 hex digits: a keyed hash, so that name and signature are one."""
        return self._mac("content", (data,)).hex()

    def check_content(self, name: str, data: bytes) -> bytes:
        """The data, if it is what the name says. Raises SignatureError."""
        if not hmac.compare_digest(self.content_name(data), name):
            raise SignatureError(f"content {name}")
        return data

    def _mac(self, what: str, parts: Sequence[bytes | memoryview]) -> bytes:
        mac = hmac.new(self._key, what.encode() + b"\0", hashlib.sha256)
        for part in parts:
            mac.update(part)
        return mac.digest()[:_MAC_BYTES]


def encode_function(task: Task[..., Any], files: set[str] | None = None) -> bytes:
    """The function and the exceptions it is retried on, as bytes. Raises UnserialisableError naming what cannot go.

    files: the names of the files go there in which the code was written that goes along.
    """
    buffer = io.BytesIO()
    pickler = ByValuePickler(buffer, protocol=5)
    pickler.files = files if files is not None else set()
    try:
        pickler.dump((task.function, task.options.retry_on))
    except BaseException as error:  # pickling runs the user's code: it may raise anything, SystemExit included
        raise UnserialisableError(task.name, "the function (or a global it uses)", reason_of(error)) from error
    return buffer.getvalue()


def decode_function(data: bytes) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
    """The function and the exceptions it is retried on."""
    pair: tuple[Callable[..., Any], tuple[type[BaseException], ...]] = pickle.loads(data)
    return pair


def encode_call(
    node: Node[Any],
    name: str,
    places: Mapping[Node[Any], int],
    share: Callable[[object], str],
    files: set[str] | None = None,
) -> bytes:
    """The arguments' bytes, nodes replaced by their place among the task's upstream. files: as for encode_function.

    share: takes a large constant, gives its content hash.
    Raises UnserialisableError or ForeignNodeError naming the argument.
    """
    if not node.args and not node.kwargs:
        return b""
    try:
        return _pickle_call((node.args, node.kwargs), places, share, files if files is not None else set())
    except BaseException:  # pickling runs __reduce__ of the user's own classes; _blame names the argument
        _blame(node, name, places, share)
        raise


def decode_call(
    data: bytes | memoryview, inputs: Sequence[Any], constants: Mapping[str, bytes]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with the values of the upstream tasks in place. constants: their bytes, by content hash."""
    if not data:
        return (), {}
    unpickler = _CallUnpickler(io.BytesIO(data))
    unpickler.inputs, unpickler.constants, unpickler.made = inputs, constants, {}
    call: tuple[tuple[Any, ...], dict[str, Any]] = unpickler.load()
    return call


def encode_value(value: object, task: str, what: str = "the result") -> list[bytes | memoryview]:
    """A value as parts to be joined: header, pickle, large buffers. Raises UnserialisableError."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = _dumps(value, buffers)
    except BaseException as error:  # as above
        raise UnserialisableError(task, what, raised_text(error)) from error
    raws = [buffer.raw() for buffer in buffers]
    sizes = [len(body), *(len(raw) for raw in raws)]
    return [struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes), body, *raws]


def decode_value(data: bytes | memoryview) -> Any:
    """The value whose parts encode_value gave, joined."""
    pickled, *buffers = value_parts(data)
    return pickle.loads(pickled, buffers=[bytearray(part) for part in buffers])


def value_parts(data: bytes | memoryview) -> list[memoryview]:
    """The pickle of a value, then its large buffers: see `buffers` of pickle.loads. Nothing is unpickled."""
    view = memoryview(data)
    (n,) = struct.unpack_from("<I", view)
    sizes = struct.unpack_from(f"<{n}Q", view, 4)
    parts, at = [], 4 + 8 * n
    for size in sizes:
        parts.append(view[at : at + size])
        at += size
    return parts


def _dumps(value: object, buffers: list[pickle.PickleBuffer]) -> bytes:
    """Plain pickle where it is enough (ten times faster), cloudpickle for what lives in __main__ or has no name."""
    try:
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except (pickle.PicklingError, TypeError, AttributeError):
        data = b"__main__"
    if type(value) in _PLAIN or b"__main__" not in data:
        return data
    buffers.clear()
    buffer = io.BytesIO()
    pickler = ByValuePickler(buffer, protocol=5, buffer_callback=buffers.append)
    pickler.files = set()
    pickler.dump(value)
    return buffer.getvalue()


def _pickle_call(
    call: object, places: Mapping[Node[Any], int], share: Callable[[object], str], files: set[str]
) -> bytes:
    """As _dumps, with nodes and large constants as persistent references."""
    try:
        data = _pickled(_CallPickler, call, places=places, share=share)
    except (pickle.PicklingError, TypeError, AttributeError):
        data = b"__main__"
    return (
        data if b"__main__" not in data else _pickled(_CloudCallPickler, call, places=places, share=share, files=files)
    )


def _pickled(kind: type[Any], call: object, **terms: Any) -> bytes:
    buffer = io.BytesIO()
    pickler = kind(buffer, protocol=5)
    vars(pickler).update(terms, met={})
    pickler.dump(call)
    return buffer.getvalue()


class _References:
    places: Mapping[Node[Any], int]
    share: Callable[[object], str]
    met: dict[int, tuple[object, int]]

    def persistent_id(self, item: object) -> int | str | None:
        """A place for a node, "hash#number" for a large constant, None for all else.

        The number tells objects of equal content apart: a task may change one of them in place.
        """
        if isinstance(item, Node):
            try:
                return self.places[item]
            except KeyError:
                raise ForeignNodeError(item.task.name, "?", "an object") from None
        size = len(item) if isinstance(item, bytes | str | bytearray) else getattr(item, "nbytes", 0)
        if not isinstance(size, int) or size < CONSTANT_BYTES:
            return None
        _, number = self.met.setdefault(id(item), (item, len(self.met)))
        return f"{self.share(item)}#{number}"


class _CallPickler(_References, pickle.Pickler):
    """For arguments of importable types."""


class _CloudCallPickler(_References, ByValuePickler):
    """For arguments with functions or classes of the notebook."""


class _CallUnpickler(pickle.Unpickler):
    inputs: Sequence[Any]
    constants: Mapping[str, bytes]
    made: dict[str, Any]

    def persistent_load(self, reference: Any) -> Any:
        """The value for a place, or the object of that number with that content."""
        if isinstance(reference, int):
            return self.inputs[reference]
        if reference not in self.made:
            self.made[reference] = decode_value(self.constants[reference.partition("#")[0]])
        return self.made[reference]


def _blame(node: Node[Any], name: str, places: Mapping[Node[Any], int], share: Callable[[object], str]) -> None:
    """Raise an error that names the argument which cannot travel."""
    signature = node.task.signature
    bound: dict[Any, Any] = {**dict(enumerate(node.args)), **node.kwargs}
    if signature is not None:
        bound = signature.bind(*node.args, **node.kwargs).arguments
    for argument, value in bound.items():
        try:
            _pickle_call(value, places, share, set())
        except ForeignNodeError as error:
            raise ForeignNodeError(name, f"'{argument}'", f"a {type(value).__name__}") from error
        except BaseException as error:  # as above
            what = f"argument '{argument}' ({type(value).__name__})"
            raise UnserialisableError(name, what, reason_of(error)) from error
