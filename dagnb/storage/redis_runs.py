"""The list of runs: which of them a server holds, and how each stands."""

from __future__ import annotations

from dagnb.protocol.messages import RunState
from dagnb.storage.interface import RunLine
from dagnb.storage.keys import index_key, run_prefix
from dagnb.storage.redis_link import RedisConnection
from dagnb.storage.redis_wire import line_of

_FIELDS = ("state", "submitted_at", "finished_at", "n_tasks", "meta")
_ENDS = ("start_by", "deadline_at")


class RedisRuns:
    """The runs of one namespace."""

    def __init__(self, link: RedisConnection, namespace: str) -> None:
        """A list on an open link."""
        self._link = link
        self._namespace = namespace

    async def note(self, run: str, now: float, ttl_s: float) -> None:
        """Note the run in the list, for twice its time to live: heartbeats and the end of a run renew that."""
        key, ttl_ms = index_key(self._namespace), int(ttl_s * 2000)
        await self._link.ask([
            ("ZADD", key, "GT", now + 2 * ttl_s, run),
            ("ZREMRANGEBYSCORE", key, "-inf", now),
            ("PEXPIRE", key, ttl_ms, "NX"),
            ("PEXPIRE", key, ttl_ms, "GT"),
        ])  # fmt: skip

    async def remove(self, *runs: str | bytes) -> None:
        """Take runs off the list."""
        if runs:
            await self._link.ask([("ZREM", index_key(self._namespace), *runs)])

    async def lines(self) -> tuple[list[RunLine], list[str]]:
        """Newest first; and those that go on and have a moment at which they end. Runs that expired leave the list."""
        (names,) = await self._link.ask([("ZRANGE", index_key(self._namespace), 0, -1)])
        keys = [run_prefix(self._namespace, name.decode()) + "m" for name in names]
        answers = (
            await self._link.ask([("HMGET", key, *_FIELDS, *_ENDS) for key in keys]) if keys else []
        )

        lines, limited, gone = [], [], []
        for name, answer in zip(names, answers, strict=True):
            if answer[0] is None:
                gone.append(name)
                continue
            line = line_of(name.decode(), *answer[: len(_FIELDS)])
            lines.append(line)
            has_end = any(moment is not None for moment in answer[len(_FIELDS) :])
            if line.state is RunState.RUNNING and has_end:
                limited.append(line.run)
        await self.remove(*gone)
        return sorted(lines, key=lambda line: -line.submitted_at), limited
