"""What became of a run that is over: its values, or the error that says why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagnb import session
from dagnb.errors import (
    BlobMissingError,
    RunCancelledError,
    RunTimeoutError,
    ValueUnreadableError,
    task_failed,
)
from dagnb.failure import raised_text
from dagnb.graph.payload import Signer, decode_value, value_parts
from dagnb.graph.targets import shaped
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.run_description import RunDescription, errors_of, verify
from dagnb.storage.interface import Store


async def outcome(store: Store, seen: Observation) -> Any:
    """The value, a tuple of values when several nodes were asked for, or the structure in which they were given.

    Raises RunCancelledError, RunTimeoutError, TaskFailedError, BlobMissingError when the store lost a value,
    VersionMismatchError when another Python made the values, or ValueUnreadableError when one cannot be unpickled here.
    """
    if seen.state is RunState.CANCELLED:
        raise RunCancelledError(seen.run, seen.reason)
    if seen.state is RunState.DEADLINE:
        limit_s = RunDescription.read(seen.meta).deadline_s or seen.finished_at - seen.submitted_at
        raise RunTimeoutError(seen.run, limit_s, "it passed its deadline and was ended")
    description = RunDescription.read(seen.meta)
    if seen.state is RunState.FAILED:
        final = [error for error in errors_of(seen, description) if error.final]
        raise task_failed(seen.run, final or errors_of(seen, description)[-1:])
    found = await values(store, seen, description.sinks)
    if description.structure:
        return _shaped(seen, description, found)
    return found[0] if description.is_single else found


def _shaped(seen: Observation, description: RunDescription, found: tuple[Any, ...]) -> Any:
    """The values in the structure that was asked for; values() verified its signature. Raises ValueUnreadableError."""
    try:
        return shaped(description.structure, found)
    except BaseException as error:  # unpickling runs the user's code; SystemExit would end our loop
        others = {
            description.names[sink]: value
            for sink, value in zip(description.sinks, found, strict=True)
        }
        pickles = {"the structure of the results": (description.structure, ())}
        raise ValueUnreadableError(seen.run, raised_text(error), pickles, others) from error


def no_value(seen: Observation, description: RunDescription, task: str) -> KeyError:
    """The error when a task has no value that can be read, and what to do about it."""
    done = ", ".join(description.names[sink] for sink in seen.results) or "none"
    text = f"run {seen.run} has no value of {task!r}; done of what was asked for: {done}"
    if description.names.index(task) not in description.sinks:
        text += "; only values of what was asked for are kept, so give its node to dagnb.run too"
    return KeyError(text)


async def values(store: Store, seen: Observation, sinks: Sequence[int]) -> tuple[Any, ...]:
    """The values of these sinks, which are done.

    Raises BlobMissingError, SignatureError, VersionMismatchError, ValueUnreadableError.
    """
    wanted = [(sink, seen.results[sink]) for sink in sinks]
    blobs = await store.fetch(seen.run, wanted, is_sink=True)
    gone = [sink for (sink, _), blob in zip(wanted, blobs, strict=True) if blob is None]
    if gone:
        raise BlobMissingError([RunDescription.read(seen.meta).names[sink] for sink in gone])
    signer = Signer(session.key_for(store))
    verify(seen.meta, signer, seen.run)
    sealed = zip(wanted, blobs, strict=True)
    opened = [
        signer.open(f"value:{seen.run}:{sink}:{address.token}", blob or b"")
        for (sink, address), blob in sealed
    ]
    return _unpickled(seen, sinks, opened)


def _unpickled(
    seen: Observation, sinks: Sequence[int], opened: Sequence[memoryview]
) -> tuple[Any, ...]:
    """The values in these bytes, which carry our signature. Raises ValueUnreadableError with those it could read."""
    found: dict[int, Any] = {}
    failed: dict[int, BaseException] = {}
    for sink, data in zip(sinks, opened, strict=True):
        try:
            found[sink] = decode_value(data)
        except BaseException as error:  # noqa: BLE001  # unpickling runs the user's code; SystemExit would end our loop
            failed[sink] = error
    if not failed:
        return tuple(found[sink] for sink in sinks)
    names = RunDescription.read(seen.meta).names
    pickles = {}
    for sink, data in zip(sinks, opened, strict=True):
        if sink in failed:
            pickled, *buffers = value_parts(data)
            pickles[names[sink]] = (bytes(pickled), tuple(map(bytes, buffers)))
    first = next(iter(failed.values()))
    others = {names[sink]: value for sink, value in found.items()}
    raise ValueUnreadableError(seen.run, raised_text(first), pickles, others) from first
