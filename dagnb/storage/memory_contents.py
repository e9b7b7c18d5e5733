"""Content in the memory store: there as long as a run uses it."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryContents:
    """Content by hash, and the moment until which each run surely uses it."""

    def __init__(self) -> None:
        """Nothing, used by nobody."""
        self.data: dict[str, bytes] = {}
        self.users: dict[str, dict[str, float]] = {}

    def share(
        self, contents: Mapping[str, bytes | memoryview], run: str, now: float, until: float
    ) -> int:
        """The run uses these from now on. Returns bytes that were not there."""
        self.leave_expired(now)
        fresh = {name: bytes(data) for name, data in contents.items() if name not in self.data}
        self.data.update(fresh)
        for name in contents:
            users = self.users.setdefault(name, {})
            users[run] = max(until, users.get(run, until))
        return sum(map(len, fresh.values()))

    def renew(self, run: str, until: float) -> None:
        """The run uses what it uses until later."""
        for users in self.users.values():
            if run in users:
                users[run] = max(until, users[run])

    def find(self, name: str, now: float) -> bytes | None:
        """The bytes, None where nobody uses them any more."""
        is_used = any(until > now for until in self.users.get(name, {}).values())
        return self.data.get(name) if is_used else None

    def leave(self, run: str, now: float) -> int:
        """The run uses nothing any more. Returns how many contents went that no other run uses."""
        n_before = len(self.data)
        for users in self.users.values():
            users.pop(run, None)
        self.leave_expired(now)
        return n_before - len(self.data)

    def leave_expired(self, now: float) -> None:
        """Take away uses that have ended, and content without any."""
        left = {
            name: {run: until for run, until in users.items() if until > now}
            for name, users in self.users.items()
        }
        self.users = {name: users for name, users in left.items() if users}
        self.data = {name: data for name, data in self.data.items() if name in self.users}
