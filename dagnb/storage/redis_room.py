"""The room on a Redis server: what takes it up, and what is deleted when there is none.

A server that is full refuses values. Then runs that are over give up what only a running run needs:
their functions, sources and large arguments, and the records of their tasks; the run that ended
first gives up first. Their results, errors, output and traces stay for their time to live, and
a run that goes on loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.protocol.usage import RunParts, StoreUsage, usage_of
from dagnb.storage.keys import content_key, contents_key, index_key, run_prefix
from dagnb.storage.redis_blobs import RedisBlobs
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_transport import Command

_ASKS = 1000
"""Commands in one round trip."""


async def read_usage(link: RedisConnection, namespace: str) -> StoreUsage:
    """See Store.usage. Two round trips, and one for each _ASKS runs and contents.

    The memory of the server is asked apart, because INFO may be forbidden.
    """
    names, hashes = await link.ask([
        ("ZRANGE", index_key(namespace), 0, -1),
        ("SMEMBERS", contents_key(namespace)),
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


async def make_room(blobs: RedisBlobs, n_bytes: int) -> int:
    """Evict from runs that are over until a value of so many bytes fits. Returns bytes freed.

    Evicts nothing for a value that is larger than the server's memory. Three round trips, and up to
    three for each portion of runs, which is twice as large as the one before.
    """
    link, namespace = blobs.link, blobs.namespace
    used_bytes, limit_bytes = await link.memory() or (0, 0)
    if limit_bytes:
        if n_bytes > limit_bytes:
            return 0
        n_bytes = used_bytes + n_bytes - limit_bytes
    over = await _over(link, namespace)
    freed, begin, n_runs = 0, 0, 1
    while begin < len(over) and freed < n_bytes:
        portion = over[begin : begin + n_runs]
        commands = [link.step("evict", run_prefix(namespace, run)) for run in portion]
        uses: list[tuple[str, str]] = []
        for run, (n_freed, names) in zip(portion, await link.ask(commands), strict=True):
            freed += n_freed
            uses += [(run, name.decode()) for name in names]
        freed += sum(await blobs.leave(uses, at_once=True))
        begin, n_runs = begin + n_runs, 2 * n_runs
    return freed


async def _over(link: RedisConnection, namespace: str) -> list[str]:
    """Returns the runs that are over, the one that ended first before the others."""
    (names,) = await link.ask([("ZRANGE", index_key(namespace), 0, -1)])
    looks: list[Command] = [
        ("HGET", run_prefix(namespace, name.decode()) + "m", "finished_at") for name in names
    ]
    answers = await link.ask(looks) if looks else []
    ended = []
    for name, answer in zip(names, answers, strict=True):
        # '0' while the run goes on; nothing is left of one that has expired.
        if float(answer or 0):
            ended.append((float(answer), name.decode()))
    return [run for _, run in sorted(ended)]
