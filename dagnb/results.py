"""The outcome of a run that is over: its values, or the error that says why there are none.

Unpickling a value runs the user's code, on the loop of this process. Any error of it becomes a
ValueUnreadableError that holds the pickle: a result that took hours must not be lost because of an
import error.
"""

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
    """Returns the result: a value, a tuple of values, or the structure that was asked for.

    Raises RunCancelledError; RunTimeoutError; TaskFailedError; BlobMissingError when the store has
    lost a value; VersionMismatchError when another Python made the values; ValueUnreadableError
    when one cannot be unpickled here.
    """
    if seen.state is RunState.CANCELLED:
        raise RunCancelledError(seen.run, seen.reason)
    if seen.state is RunState.DEADLINE:
        limit_s = RunDescription.read(seen.meta).deadline_s or seen.finished_at - seen.submitted_at
        raise RunTimeoutError(seen.run, limit_s, "it passed its deadline and was ended")
    description = RunDescription.read(seen.meta)
    if seen.state is RunState.FAILED:
        errors = errors_of(seen, description)
        final = [error for error in errors if error.final]
        raise task_failed(seen.run, final or errors[-1:])

    results = await values(store, seen, description.sinks)
    if description.structure:
        return _shaped(seen, description, results)
    return results[0] if description.is_single else results


def _shaped(seen: Observation, description: RunDescription, results: tuple[Any, ...]) -> Any:
    """Returns the values in the structure that was asked for, whose signature is verified.

    Raises ValueUnreadableError.
    """
    try:
        return shaped(description.structure, results)
    except BaseException as error:  # unpickling runs the user's code; SystemExit would end our loop
        names = [description.names[sink] for sink in description.sinks]
        others = dict(zip(names, results, strict=True))
        pickles = {"the structure of the results": (description.structure, ())}
        raise ValueUnreadableError(seen.run, raised_text(error), pickles, others) from error


def no_value(seen: Observation, description: RunDescription, task: str) -> KeyError:
    """Returns the error for a task without a value that can be read, with the cure."""
    done = ", ".join(description.names[sink] for sink in seen.results) or "none"
    text = f"run {seen.run} has no value of {task!r}; done of what was asked for: {done}"
    if description.names.index(task) not in description.sinks:
        text += "; only values of what was asked for are kept, so give its node to dagnb.run too"
    return KeyError(text)


async def values(store: Store, seen: Observation, sinks: Sequence[int]) -> tuple[Any, ...]:
    """Returns the values of these sinks, which are done.

    Raises BlobMissingError, SignatureError, VersionMismatchError, ValueUnreadableError.
    """
    wanted = [(sink, seen.results[sink]) for sink in sinks]
    blobs = await store.fetch(seen.run, wanted, is_sink=True)
    lost = [sink for sink, blob in zip(sinks, blobs, strict=True) if blob is None]
    if lost:
        names = RunDescription.read(seen.meta).names
        raise BlobMissingError([names[sink] for sink in lost])

    signer = Signer(session.key_for(store))
    # The description says which task is which: a forged one could swap two verified values.
    verify(seen.meta, signer, seen.run)
    pickles = []
    for (sink, address), blob in zip(wanted, blobs, strict=True):
        assert blob is not None
        pickles.append(signer.open(f"value:{seen.run}:{sink}:{address.token}", blob))
    return _unpickled(seen, sinks, pickles)


def _unpickled(
    seen: Observation, sinks: Sequence[int], opened: Sequence[memoryview]
) -> tuple[Any, ...]:
    """Returns the values in these bytes, which are verified.

    Raises ValueUnreadableError with the values that could be read.
    """
    read: dict[int, Any] = {}
    failed: dict[int, BaseException] = {}
    for sink, data in zip(sinks, opened, strict=True):
        try:
            read[sink] = decode_value(data)
        # Unpickling runs the user's code; SystemExit would end our loop.
        except BaseException as error:  # noqa: BLE001  # as above
            failed[sink] = error
    if not failed:
        return tuple(read[sink] for sink in sinks)

    names = RunDescription.read(seen.meta).names
    pickles = {}
    for sink, data in zip(sinks, opened, strict=True):
        if sink in failed:
            pickled, *buffers = value_parts(data)
            pickles[names[sink]] = (
                bytes(pickled),
                tuple(map(bytes, buffers)),
            )
    first = next(iter(failed.values()))
    others = {names[sink]: value for sink, value in read.items()}
    raise ValueUnreadableError(seen.run, raised_text(first), pickles, others) from first
