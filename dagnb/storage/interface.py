"""What a store must do. Two protocols: `Blobs` moves bytes, `Coordinator` moves the state of runs.

Laws of every store (dagnb.testing.StoreLaws runs them):
- A step of the coordinator is atomic, and repeating it changes nothing.
- State is the truth; what `wait_*` returns is a hint: it may come late, twice or not at all.
- Time is the store's own.
- A value of None, a missing value and a failed task are three different things.
- Whatever is written has a time to live.
- Content is there as long as a run uses it that is there; forgetting the last of them gives its room back.
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

SMALL_BYTES = 16 * 1024
"""Results up to this size ride along with a commit and with an offer."""

CHUNK_BYTES = 1024 * 1024 - 1024
"""Larger values and contents are cut into chunks of this size, so that a big one does not stall the others. Every
server takes so much in one piece: 1 MiB is the least that proto-max-bulk-len can be. And with its header such a chunk
is no more than 1 MiB: the allocator of Redis gives 1.25 MiB for a byte more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One line of the list of runs. Times are epoch seconds of the store; finished_at is 0 while it runs."""

    run: str
    name: str
    state: RunState
    submitted_at: float
    finished_at: float
    n_tasks: int


class Blobs(Protocol):
    """Bytes by address. All methods raise StorageUnavailableError when the store is out of reach."""

    async def store(
        self, run: str, task: int, token: str, data: bytes | memoryview, *, is_sink: bool
    ) -> Address:
        """Put the result of one attempt, in chunks when it is large. Raises StorageFullError."""
        ...

    async def fetch(
        self, run: str, wanted: Sequence[tuple[int, Address]], *, is_sink: bool = False
    ) -> list[bytes | None]:
        """The bytes of results, None for each that is missing or torn; small ones in one round trip together."""
        ...

    async def share(
        self, contents: Mapping[str, bytes | memoryview], *, run: str, ttl_s: float
    ) -> int:
        """Put content under its hash, once for all runs, before the run is submitted. Returns bytes that travelled.

        From then on the run uses it: it is there as long as one of its runs is there, and goes with the last of them.
        ttl_s: of the run; until it is submitted its use ends by itself.
        Raises StorageFullError, and RunMissingError when the run is forgotten meanwhile.
        """
        ...

    async def content(self, hashes: Sequence[str]) -> list[bytes | None]:
        """Content by hash, None where missing or torn."""
        ...


class Coordinator(Protocol):
    """The steps of dagnb.protocol.machine.Machine, on shared state. Raises RunMissingError for an unknown run."""

    async def submit(self, submission: Submission) -> float:
        """Put a run in the store, its sources ready; the same run twice is put once. Returns the store's time."""
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
        """See Machine.register. slim: offers come without the task's record, for who holds the DAG; also below."""
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
        """See Machine.complete; the bytes of small results and the spans ride along: one round trip."""
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
        """Append spans that belong to no commit. Whoever does so takes part in the run: see Submission.start_s."""
        ...

    async def observe(self, run: str, cursor: str = "") -> Observation:
        """`attach`: everything there is to see; with the cursor of an earlier look what is newer: see Observation."""
        ...

    async def spans(self, run: str, begin: int = 0) -> list[bytes]:
        """The chunks of spans from number `begin` on."""
        ...

    async def logs(self, run: str, tasks: Sequence[int]) -> list[str]:
        """What each of these tasks printed in its last ended attempt, the tail of it; '' for nothing."""
        ...

    async def runs(self) -> list[RunLine]:
        """The runs this store knows, newest first; those whose time is up have ended, whoever worked for them."""
        ...

    async def forget(self, run: str) -> int:
        """Delete every key of a run; a running one is cancelled first. Returns how many keys went.

        Content goes along that no other run uses.
        """
        ...

    async def wait_work(self, run: str, timeout_s: float, kind: str = "") -> None:
        """Return when there may be work for an instance of this kind, or the run may be over, or the time is up."""
        ...

    async def wait_demand(self, run: str, timeout_s: float) -> None:
        """Return when `demand` may want instances of a kind, or the run may be over, or the time is up."""
        ...

    async def wait_end(self, run: str, timeout_s: float) -> None:
        """Return when the run may be over, or the time is up."""
        ...


class Store(Blobs, Coordinator, Protocol):
    """Both, behind one URL."""

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
