"""The bytes that a store holds: of each run, of contents that runs share, and in all.

    result      values of tasks: those of sinks, and of others while the run goes on
    own         functions, large arguments and sources that no other run uses
    shared      those that other runs use, too: they stay when this run is forgotten
    record      everything else: the tasks as data, their states, events, spans, errors, output

Large values in shared memory (dagnb.storage.segments) are not in the store, only their pointers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass

from dagnb.graph.brief import brief


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """Bytes of one run, see the module's text."""

    result_bytes: int
    own_bytes: int
    shared_bytes: int
    record_bytes: int

    @property
    def freed_bytes(self) -> int:
        """The bytes that forgetting this run alone gives back."""
        return self.result_bytes + self.own_bytes + self.record_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUsage:
    """Bytes of a store.

    used_bytes: in all, those of other programs included; None where the server does not say it.
    limit_bytes: the most that the store takes, None for no limit. runs: by run.
    shared_bytes: contents that several runs use, each counted once.
    unused_bytes: contents that none of these runs uses; a run that is being submitted may use them.
    """

    used_bytes: int | None
    limit_bytes: int | None
    runs: Mapping[str, RunUsage]
    shared_bytes: int
    unused_bytes: int

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """Bytes of one run, as a store counts them. contents: hashes of those that it uses."""

    result_bytes: int
    record_bytes: int
    contents: Set[str]

    __repr__ = brief


def usage_of(
    runs: Mapping[str, RunParts],
    contents: Mapping[str, int],
    *,
    used_bytes: int | None,
    limit_bytes: int | None,
) -> StoreUsage:
    """Returns the bytes of each run and of the store. contents: hash -> bytes."""
    n_users = Counter(name for parts in runs.values() for name in parts.contents)
    by_run = {}
    for run, parts in runs.items():
        own_bytes = shared_bytes = 0
        for name in parts.contents:
            if n_users[name] == 1:
                own_bytes += contents.get(name, 0)
            else:
                shared_bytes += contents.get(name, 0)
        by_run[run] = RunUsage(
            result_bytes=parts.result_bytes,
            own_bytes=own_bytes,
            shared_bytes=shared_bytes,
            record_bytes=parts.record_bytes,
        )
    return StoreUsage(
        used_bytes=used_bytes,
        limit_bytes=limit_bytes,
        runs=by_run,
        shared_bytes=sum(size for name, size in contents.items() if n_users[name] > 1),
        unused_bytes=sum(size for name, size in contents.items() if not n_users[name]),
    )
