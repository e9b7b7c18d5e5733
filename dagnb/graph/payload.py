"""Functions and results as bytes, which come back only when they carry our signature.

A function is stored once, under the hash of its bytes. A result is a pickle, its large buffers out of band; arguments
are in packing.py. Everything is signed: HMAC-SHA256, cut to 16 bytes (RFC 2104, RFC 4868), over what it is and what it
belongs to; it is verified before it is unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

from dagnb.errors import SignatureError, UnserialisableError
from dagnb.failure import raised_text, reason_of
from dagnb.graph.pickling.blame import blame
from dagnb.graph.pickling.by_value import ByValuePickler, plain_or_by_value
from dagnb.graph.task import Task

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
        if len(view) < _MAC_BYTES or not hmac.compare_digest(
            view[:_MAC_BYTES], self._mac(what, (view[_MAC_BYTES:],))
        ):
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
    except Exception as error:  # pickling runs the user's code: it may raise anything
        found = blame(task.function, reason_of(error), user=task.name)
        what = "the function (or a global it uses)"
        raise UnserialisableError(task.name, what, found.reason, found.cure) from error
    return buffer.getvalue()


def decode_function(data: bytes) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
    """The function and the exceptions it is retried on."""
    pair: tuple[Callable[..., Any], tuple[type[BaseException], ...]] = pickle.loads(data)
    return pair


def encode_value(value: object, task: str, what: str = "the result") -> list[bytes | memoryview]:
    """A value as parts to be joined: header, pickle, large buffers. Raises UnserialisableError."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = _dumps(value, buffers)
    except BaseException as error:  # as above, SystemExit included
        found = blame(value, raised_text(error), root=what.removeprefix("the "))
        cure = found.result_cure if what == "the result" else found.cure
        raise UnserialisableError(task, what, found.reason, cure) from error
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
    """The pickle, and its large buffers apart. Of plain data no text is taken for a name of `__main__`."""
    if type(value) in _PLAIN:
        return pickle.dumps(value, protocol=5)

    def dump(by_value: bool) -> bytes:
        if not by_value:
            return pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        buffers.clear()
        buffer = io.BytesIO()
        pickler = ByValuePickler(buffer, protocol=5, buffer_callback=buffers.append)
        pickler.files = set()
        pickler.dump(value)
        return buffer.getvalue()

    return plain_or_by_value(dump, lambda body: body)
