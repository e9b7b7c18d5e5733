"""The room on a Redis server: what takes it up.

round trip    asks
1             the list of runs, the list of contents
2             the memory of the server; INFO may be forbidden, so it is asked apart
3, ...        each run and each content, _ASKS at a time
"""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.protocol.usage import RunParts, StoreUsage, usage_of
from dagnb.storage.keys import content_key, contents_key, index_key, run_prefix
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_transport import Command

_ASKS = 1000
"""Commands in one round trip."""


async def read_usage(link: RedisConnection, namespace: str) -> StoreUsage:
    """See Store.usage. Three round trips, and one more for each _ASKS runs and contents."""
    names, hashes = await link.ask([
        ("ZRANGE", index_key(namespace), 0, -1),
        ("ZRANGE", contents_key(namespace), 0, -1),
    ])  # fmt: skip
    memory = await link.memory()
    looks: list[Command] = [
        link.step("usage", run_prefix(namespace, name.decode())) for name in names
    ]
    for name in hashes:
        key = content_key(namespace, name.decode())
        looks.append(("MEMORY", "USAGE", key, "SAMPLES", 0))
    answers: list[object] = []
    for begin in range(0, len(looks), _ASKS):
        answers += await link.ask(looks[begin : begin + _ASKS])

    runs = {}
    for name, answer in zip(names, answers, strict=False):
        # Nothing is left of a run that has expired since it was listed.
        if isinstance(answer, Sequence):
            result_bytes, record_bytes, used = answer
            runs[name.decode()] = RunParts(
                result_bytes=result_bytes,
                record_bytes=record_bytes,
                contents=frozenset(map(bytes.decode, used)),
            )
    contents = {}
    for name, size in zip(hashes, answers[len(names) :], strict=True):
        if isinstance(size, int):
            contents[name.decode()] = size
    used_bytes, limit_bytes = memory or (None, None)
    return usage_of(runs, contents, used_bytes=used_bytes, limit_bytes=limit_bytes or None)
