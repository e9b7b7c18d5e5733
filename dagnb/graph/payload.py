"""Functions and results as signed bytes.

A function is stored once, under the hash of its bytes. A result is a pickle with its large buffers
beside it; pickling/packing.py has the arguments of calls.

Unpickling runs code, so bytes are unpickled only when they carry the signature of this user. The
signature covers the bytes and what they belong to (kind, run, task, attempt), so that one value
cannot replace another. HMAC-SHA256, truncated to 16 bytes: RFC 2104, RFC 4868.
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
from dagnb.graph.pickling.moved_names import names_moved_module, present_name
from dagnb.graph.task import Task

_MAC_BYTES = 16

# Copying so few bytes costs less than an object of hmac, which takes three times as long.
_ONE_SHOT_BYTES = 16 * 1024
_PLAIN = (int, float, str, bytes, bool, type(None))


class Signer:
    """Signs and verifies bytes with one secret key.

    what: kind and owner of the bytes, such as "value:RUN:TASK:TOKEN"; equal in seal and open.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, what: str, *parts: bytes | memoryview) -> bytes:
        """Returns the parts joined, behind their signature."""
        return b"".join((self._mac(what, parts), *parts))

    def open(self, what: str, sealed: bytes) -> memoryview:
        """Returns the bytes without their signature. Raises SignatureError when it is not ours."""
        view = memoryview(sealed)
        signature, data = view[:_MAC_BYTES], view[_MAC_BYTES:]
        # compare_digest takes equally long for every wrong signature, so its time tells nothing.
        if len(view) < _MAC_BYTES or not hmac.compare_digest(signature, self._mac(what, (data,))):
            raise SignatureError(what)
        return data

    def content_name(self, data: bytes) -> str:
        """Returns the name of shared content, 32 hex digits.

        The name is a keyed hash, so it also serves as the signature.
        """
        return self._mac("content", (data,)).hex()

    def check_content(self, name: str, data: bytes) -> bytes:
        """Returns the data if the name is that of its content. Raises SignatureError."""
        if not hmac.compare_digest(self.content_name(data), name):
            raise SignatureError(f"content {name}")
        return data

    def _mac(self, what: str, parts: Sequence[bytes | memoryview]) -> bytes:
        # The zero byte ends `what`: without it, bytes could move from the name into the data.
        name = what.encode() + b"\0"
        if sum(map(len, parts)) < _ONE_SHOT_BYTES:
            return hmac.digest(self._key, b"".join((name, *parts)), "sha256")[:_MAC_BYTES]
        mac = hmac.new(self._key, name, hashlib.sha256)
        for part in parts:
            mac.update(part)
        return mac.digest()[:_MAC_BYTES]


def encode_function(task: Task[..., Any], files: set[str] | None = None) -> bytes:
    """Pickle the function of a task and the exceptions on which it is retried.

    files: receives the names of the source files of all code that is pickled by value.
    Raises UnserialisableError naming the part that cannot be pickled.
    """
    buffer = io.BytesIO()
    pickler = ByValuePickler(buffer, protocol=5)
    pickler.files = files if files is not None else set()
    try:
        pickler.dump((task.function, task.options.retry_on))
    except Exception as error:  # pickling runs the user's code, which may raise anything
        part = blame(task.function, reason_of(error), user=task.name)
        what = "the function (or a global it uses)"
        raise UnserialisableError(task.name, what, part.reason, part.cure) from error
    return buffer.getvalue()


def decode_function(
    data: bytes,
) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
    """Returns the function and the exceptions on which it is retried."""
    pair: tuple[Callable[..., Any], tuple[type[BaseException], ...]] = pickle.loads(data)
    return pair


def encode_value(value: object, task: str, what: str = "the result") -> list[bytes | memoryview]:
    """Pickle a value. Returns parts to be joined: header, pickle, large buffers.

    The header holds the number of the other parts and their sizes: uint32, uint64 each, little
    endian. Large buffers are views of the value's own memory, not copies.
    Raises UnserialisableError naming the part that cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = _dumps(value, buffers)
    except BaseException as error:  # as above; SystemExit of user code must not end the worker
        part = blame(value, raised_text(error), root=what.removeprefix("the "))
        cure = part.result_cure if what == "the result" else part.cure
        raise UnserialisableError(task, what, part.reason, cure) from error

    views = [buffer.raw() for buffer in buffers]
    sizes = [len(body), *map(len, views)]
    return [struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes), body, *views]


def decode_value(data: bytes | memoryview) -> Any:
    """Returns the value whose parts encode_value gave, joined.

    Reads what earlier releases stored, too, although modules that their pickles name have moved.
    """
    pickled, *buffers = value_parts(data)
    # Buffers are copied, because the reader may write to its arrays, and these bytes are shared.
    try:
        return pickle.loads(pickled, buffers=map(bytearray, buffers))
    except (ModuleNotFoundError, AttributeError):
        # A second read runs the user's code again, so it is done only for pickles that name moved
        # modules. It comes second, because a reader that looks at each name is slower, and old
        # values are rare.
        pickle_bytes = bytes(pickled)
        if not names_moved_module(pickle_bytes):
            raise
        return _MovedNamesReader(io.BytesIO(pickle_bytes), buffers=map(bytearray, buffers)).load()


class _MovedNamesReader(pickle.Unpickler):
    """Reads pickles that name modules of earlier releases."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns what the pickle names, from the module where it is now."""
        return super().find_class(*present_name(module, name))


def value_parts(data: bytes | memoryview) -> list[memoryview]:
    """Split a value into its pickle and its large buffers, without unpickling anything.

    See `buffers` of pickle.loads.
    """
    view = memoryview(data)
    (n,) = struct.unpack_from("<I", view)
    sizes = struct.unpack_from(f"<{n}Q", view, 4)
    parts, begin = [], 4 + 8 * n
    for size in sizes:
        parts.append(view[begin : begin + size])
        begin += size
    return parts


def _dumps(value: object, buffers: list[pickle.PickleBuffer]) -> bytes:
    """Pickle a value, its large buffers apart."""
    # A text that holds "__main__" would be taken for a name of the notebook, and pickled twice.
    if type(value) in _PLAIN:
        return pickle.dumps(value, protocol=5)

    def dump(by_value: bool) -> bytes:
        if not by_value:
            return pickle.dumps(value, protocol=5, buffer_callback=buffers.append)

        buffers.clear()  # the plain attempt, which failed half way, has filled it
        buffer = io.BytesIO()
        pickler = ByValuePickler(buffer, protocol=5, buffer_callback=buffers.append)
        pickler.files = set()
        pickler.dump(value)
        return buffer.getvalue()

    return plain_or_by_value(dump, lambda body: body)
