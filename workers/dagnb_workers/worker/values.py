"""The values that the tasks of one instance read: where they are, and their signatures.

kept       by this worker, for this reader (kept.py)
cached     signed bytes that this instance has read or made
offered    small values, which came within the offer
stored     large values, downloaded in chunks
mapped     large values in shared memory: one of the other three is a pointer to it
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

from dagnb.errors import SignatureError
from dagnb.graph.payload import Signer, decode_value
from dagnb.protocol.messages import Input, Offer
from dagnb.storage.interface import Store
from dagnb.storage.segments import MappedValue, Pointer, Segments, may_be_pointer
from dagnb_workers.worker.kept import KeptValue
from dagnb_workers.worker.library import BytesCache
from dagnb_workers.worker.retry import until_available


class Values:
    """The way to the values of one run, for one instance."""

    def __init__(self, store: Store, run: str, signer: Signer, segments: Segments) -> None:
        """Begin with an empty cache. segments: of the run."""
        self._store, self._run, self._signer, self._segments = store, run, signer, segments
        self._cache: BytesCache[tuple[int, str]] = BytesCache()  # signed values by (task, token)

    async def collect(
        self, offer: Offer, kept: Collection[int]
    ) -> tuple[dict[int, bytes | MappedValue], int]:
        """Collect the upstream values of a task, but for those that were kept. Verifies nothing.

        Returns:
            values by upstream task; a value that the store has lost is left out.
            number of bytes that were downloaded, or mapped and not at hand before.
        Raises SharedMemoryError.
        """
        # Cheapest first: values in the cache, then values that came within the offer.
        inputs = [upstream for upstream in offer.inputs if upstream.task not in kept]
        sealed: dict[int, bytes] = {}
        at_hand = set()
        for upstream in inputs:
            cached = self._cache.find((upstream.task, upstream.address.token))
            if cached is not None:
                at_hand.add(upstream.task)
                sealed[upstream.task] = cached
            elif upstream.blob is not None:
                sealed[upstream.task] = upstream.blob

        remote = [upstream for upstream in inputs if upstream.task not in sealed]
        downloads = await self._download(remote) if remote else {}
        sealed.update(downloads)
        n_bytes = sum(map(len, downloads.values()))
        values: dict[int, bytes | MappedValue] = {}
        for upstream in inputs:
            task, token = upstream.task, upstream.address.token
            if task not in sealed:
                continue
            self._cache.keep((task, token), sealed[task])
            value = await self._in_segment(task, token, sealed[task])
            if value is None:
                continue
            values[task] = value
            if isinstance(value, MappedValue) and task not in at_hand:
                n_bytes += len(value)
        return values, n_bytes

    async def _download(self, inputs: Sequence[Input]) -> dict[int, bytes]:
        """Returns what the store has of these, by task.

        One request for all, because a round trip takes as long as a short task.
        """
        wanted = [(upstream.task, upstream.address) for upstream in inputs]
        downloads = await until_available(lambda: self._store.fetch(self._run, wanted))
        values = {}
        for upstream, sealed in zip(inputs, downloads, strict=True):
            if sealed is not None:
                values[upstream.task] = sealed
        return values

    async def _in_segment(self, task: int, token: str, sealed: bytes) -> bytes | MappedValue | None:
        """Returns the value that a pointer points to, mapped; the bytes of any other value.

        None for a value whose segment is gone. Its pointer is deleted: else the store would not
        count it as lost.
        """
        if not may_be_pointer(sealed):
            return sealed
        try:
            verified = self._signer.open(self._name(task, token), sealed)
        except SignatureError:
            return sealed  # `load` verifies it, too, and then it is reported
        pointer = Pointer.unpack(verified)
        if pointer is None:
            return sealed
        segment = self._segments.map(task, token, pointer)
        if segment is None:
            await until_available(functools.partial(self._store.discard, self._run, task, token))
        return segment

    def load(
        self,
        offer: Offer,
        upstream: Sequence[int],
        collected: Sequence[bytes | MappedValue | KeptValue],
        values: list[Any],
    ) -> None:
        """Verify and unpickle the upstream values, and append them.

        One by one: after an error, their number tells which one could not be unpickled.
        Raises SignatureError, and whatever unpickling raises.
        """
        tokens = {each.task: each.address.token for each in offer.inputs}
        for task, value in zip(upstream, collected, strict=True):
            if isinstance(value, MappedValue | KeptValue):
                values.append(value.value())
                continue
            verified = self._signer.open(self._name(task, tokens[task]), value)
            values.append(decode_value(verified))

    def sealed(self, task: int, token: str, parts: Sequence[bytes | memoryview]) -> bytes:
        """Returns the parts of a pickled value, signed."""
        return self._signer.seal(self._name(task, token), *parts)

    def keep(self, task: int, token: str, sealed: bytes) -> None:
        """Remember a value that was made here, if it is not too large: it may be read here, too."""
        self._cache.keep((task, token), sealed)

    def _name(self, task: int, token: str) -> str:
        # The name is signed with the value, so that no value can be used in place of another.
        return f"value:{self._run}:{task}:{token}"
