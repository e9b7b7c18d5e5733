"""The interface of stores. Two protocols: `Blobs` moves bytes, `Coordinator` the state of runs.

Laws of every store (dagnb.testing.StoreLaws runs them):

- A step of the coordinator is atomic, and repeating it changes nothing.
- State is the truth; what `wait_*` returns is a hint: it may come late, twice or not at all.
- All times are by the store's clock.
- A value of None, a missing value and a failed task are three different things.
- All that is written has a time to live.
- Content stays as long as a run that uses it; forgetting the last such run deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dagnb.protocol.messages import (
    Address,
    Commit,
    Death,
    Demand,
    Failure,
    Observation,
    Reply,
    RunState,
    Status,
    Submission,
)
from dagnb.protocol.usage import StoreUsage

SMALL_BYTES = 16 * 1024
"""Results up to this size are part of a commit and an offer, without a round trip of their own."""

CHUNK_BYTES = 1024 * 1024 - 1024
"""Larger values and contents are cut into chunks of this size, so that a big one does not stall
the others. Every server accepts so much in one piece: 1 MiB is the least that proto-max-bulk-len
can be. With its header such a chunk has at most 1 MiB: for one byte more the allocator of Redis
takes 1.25 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One line of the list of runs.

    Times are epoch seconds of the store; finished_at is 0 while it runs.
    """

    run: str
    name: str
    state: RunState
    submitted_at: float
    finished_at: float
    n_tasks: int


class Blobs(Protocol):
    """Bytes by address. All methods raise StorageUnavailableError when the store is unreachable."""

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """Store the result of one attempt, in chunks when it is large. Raises StorageFullError.

        token: random, of this attempt. is_sink: the run returns it, so it stays after the end.
        """
        ...

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """Returns the bytes of results, None for each that is missing or incomplete.

        Small ones take one round trip together. is_sink: all of them are sinks.
        """
        ...

    async def discard(self, run: str, task: int, token: str) -> None:
        """Delete the bytes of a small result, so that it counts as lost.

        For a result that is a pointer to bytes which are gone, see dagnb.storage.segments.
        """
        ...

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """Store content under its hash, once for all runs, before the run is submitted.

        Returns the number of bytes that were sent. From then on the run is a user of the content,
        which stays as long as one of its users. ttl_s: of the run; a run that is never submitted is
        no user after that time.
        Raises StorageFullError, and RunMissingError when the run is forgotten meanwhile.
        """
        ...

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """Returns content by hash, None where it is missing or incomplete."""
        ...


class Coordinator(Protocol):
    """The steps of dagnb.protocol.machine.Machine, on shared state.

    Every method except submit, runs and forget raises RunMissingError for an unknown run.
    """

    async def submit(self, submission: Submission) -> float:
        """Put a run in the store, its sources ready. The same run twice is put once.

        Returns the moment of the submission, by the clock of the store.
        """
        ...

    async def register(
        self,
        run: str,
        instance: str,
        *,
        lease_s: float,
        want: int = 1,
        worker: tuple[str, str] | None = None,
        slim: bool = False,
        kind: str = "",
    ) -> Reply:
        """See Machine.register.

        slim: offers come without the task's record, for a worker that holds the DAG; also below.
        """
        ...

    async def complete(
        self,
        run: str,
        instance: str,
        commits: Sequence[Commit],
        *,
        want: int = 1,
        spans: bytes = b"",
        slim: bool = False,
    ) -> Reply:
        """See Machine.complete.

        One round trip, which includes the bytes of small results and spans.
        """
        ...

    async def fail(
        self,
        run: str,
        instance: str,
        failure: Failure,
        *,
        want: int = 1,
        spans: bytes = b"",
        slim: bool = False,
    ) -> Reply:
        """See Machine.fail."""
        ...

    async def lost(
        self,
        run: str,
        instance: str,
        task: int,
        missing: Sequence[int],
        *,
        want: int = 1,
        slim: bool = False,
    ) -> Reply:
        """See Machine.lost."""
        ...

    async def heartbeat(
        self, run: str, instances: Sequence[str], *, lease_s: float
    ) -> dict[str, Status]:
        """See Machine.heartbeat."""
        ...

    async def dead(self, run: str, death: Death) -> bool:
        """See Machine.dead."""
        ...

    async def give_back(self, run: str, instance: str, task: int, attempt: int) -> int:
        """See Machine.give_back."""
        ...

    async def reap(self, run: str) -> int:
        """See Machine.reap."""
        ...

    async def demand(self, run: str) -> Demand:
        """See Machine.demand."""
        ...

    async def cancel(self, run: str, reason: str) -> bool:
        """See Machine.cancel."""
        ...

    async def record(self, run: str, spans: bytes) -> None:
        """Append spans that belong to no commit.

        The sender counts as a participant: see Submission.start_s.
        """
        ...

    async def observe(self, run: str, cursor: str = "") -> Observation:
        """Returns the state of the run; with a cursor only events and errors since that look."""
        ...

    async def spans(self, run: str, begin: int = 0) -> list[bytes]:
        """Returns the chunks of spans from number `begin` on."""
        ...

    async def logs(self, run: str, tasks: Sequence[int]) -> list[str]:
        """Returns the output of the last ended attempt of each task, its tail; '' for nothing."""
        ...

    async def runs(self) -> list[RunLine]:
        """Returns the runs in this store, newest first. A run whose time is up is ended first."""
        ...

    async def forget(self, run: str) -> int:
        """Delete every key of a run, and content that no other run uses. Returns their number.

        A running one is cancelled first.
        """
        ...

    async def wait_work(self, run: str, timeout_s: float, kind: str = "") -> None:
        """Return when there may be work for this kind, the run may be over, or the time is up."""
        ...

    async def wait_demand(self, run: str, timeout_s: float) -> None:
        """Return when `demand` may want instances, the run may be over, or the time is up."""
        ...

    async def wait_end(self, run: str, timeout_s: float) -> None:
        """Return when the run may be over, or the time is up."""
        ...


class Store(Blobs, Coordinator, Protocol):
    """Blobs and coordinator behind one URL."""

    @property
    def url(self) -> str:
        """The address, without secrets."""
        ...

    async def usage(self) -> StoreUsage:
        """Returns the bytes that the runs of `runs` and their contents take up."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
