"""What became of a run that is over: its values, or the error that says why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagnb import session
from dagnb.errors import BlobMissingError, RunCancelledError, RunTimeoutError, task_failed
from dagnb.graph.payload import Signer, decode_value
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.program import verify
from dagnb.protocol.story import Story, errors_of
from dagnb.storage.interface import Store


async def outcome(store: Store, seen: Observation) -> Any:
    """The value, or a tuple of values when several nodes were asked for.

    Raises RunCancelledError, RunTimeoutError, TaskFailedError, or BlobMissingError when the store lost a value.
    """
    if seen.state is RunState.CANCELLED:
        raise RunCancelledError(seen.run, seen.reason)
    if seen.state is RunState.DEADLINE:
        limit_s = Story.read(seen.meta).deadline_s or seen.finished_at - seen.submitted_at
        raise RunTimeoutError(seen.run, limit_s, "it passed its deadline and was ended")
    story = Story.read(seen.meta)
    if seen.state is RunState.FAILED:
        final = [error for error in errors_of(seen, story) if error.final]
        raise task_failed(seen.run, final or errors_of(seen, story)[-1:])
    found = await values(store, seen, story.sinks)
    return found[0] if story.is_single else found


async def values(store: Store, seen: Observation, sinks: Sequence[int]) -> tuple[Any, ...]:
    """The values of these sinks, which are done. Raises BlobMissingError, SignatureError."""
    wanted = [(sink, seen.results[sink]) for sink in sinks]
    blobs = await store.fetch(seen.run, wanted, is_sink=True)
    gone = [sink for (sink, _), blob in zip(wanted, blobs, strict=True) if blob is None]
    if gone:
        raise BlobMissingError([Story.read(seen.meta).names[sink] for sink in gone])
    signer = Signer(session.key_for(store))
    verify(seen.meta, signer, seen.run)
    return tuple(
        decode_value(signer.open(f"value:{seen.run}:{sink}:{address.token}", blob or b""))
        for (sink, address), blob in zip(wanted, blobs, strict=True)
    )
