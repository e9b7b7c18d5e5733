"""The interface of launchers, which start instances somewhere and decide nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import Invocation


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSlot:
    """A process or container where workers run, or could at once.

    name: as its platform lists it. what: the platform's word for it.
    state: 'starting', 'idle' (warm), 'lent' (at work for a run), 'ending', or 'elsewhere' (another
        interpreter or version of dagnb has it, and knows its state).
    made_of: its image, or its program. age_s: seconds since it was made.
    n_lent: number of times it was lent to a run. last_run: the run it was lent to last, also
        after it has come back.
    labels: (name, value) that its platform lists with it.
    """

    name: str
    platform: str
    state: str
    run: str = ""
    worker: str = ""
    cpus: float | None = None
    memory_mb: int | None = None
    made_of: str = ""
    age_s: float | None = None
    n_lent: int = 0
    last_run: str = ""
    what: str = "process"
    labels: tuple[tuple[str, str], ...] = ()

    __repr__ = brief


@runtime_checkable
class Launcher(Protocol):
    """Starts workers on one platform; its dataclass fields are its settings.

    Optional parts: the attribute `shares_files`, see below, `SharingMemory` and `Hosting`.

    Laws (dagnb.testing.LauncherLaws): any DAG finishes with any cap >= 1; after the end of the run,
    of whatever kind, no instance is left; a second launch of the same run starts no second set of
    instances.
    """

    @property
    def name(self) -> str:
        """The short name by which users choose it."""
        ...

    @property
    def cap(self) -> int:
        """The most instances at a time, >= 1."""
        ...

    @property
    def by_kind(self) -> bool:
        """True when an instance serves tasks of one kind of resources only, else any task."""
        ...

    async def default_store(self) -> str:
        """Returns the URL of the store that its workers share when the user chose none.

        Raises LaunchError, ConfigError.
        """
        ...

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """Returns the workers that a planner may count on for these needs. Starts nothing."""
        ...

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Do what takes long and can be done before the run, such as making images.

        tell: shows a short line of progress. Raises ConfigError when workers with such resources
        cannot be had, LaunchError when it goes wrong.
        """
        ...

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Make `n` workers with these resources ready to start at once, within the cap.

        Returns how many are ready.
        """
        ...

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Start instances and return at once. needs: resources of the plan's steps.

        Raises LaunchError when it is impossible.
        """
        ...

    async def stop(self, run: str) -> None:
        """End every instance of the run, now. Without any, do nothing."""
        ...

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """Returns the processes or containers of its workers. Starts nothing."""
        ...


def shares_files(launcher: Launcher) -> bool:
    """Returns whether its workers see the client's files at the same paths.

    A launcher says so by an attribute of that name. Without it, an archive of the user's modules is
    sent with the run, which is slower but works everywhere.
    """
    return bool(getattr(launcher, "shares_files", False))


class SharedArrays(Protocol):
    """Arrays that the client gives to tasks of one run, in memory that it shares with workers."""

    @property
    def limit_bytes(self) -> int:
        """Bytes of shared memory that the run may take."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays written so far."""
        ...

    def write(self, memory: memoryview) -> str:
        """Copy the memory of an array. Returns its name in this run.

        Returns '' for a small array, or when there is no room: then it belongs into the store.
        """
        ...

    def close(self) -> dict[str, bytes]:
        """Returns the place of each array by name, for Invocation.arrays. Then writes no more."""
        ...

    def remove(self) -> None:
        """Remove them, because the run was not launched."""
        ...


@runtime_checkable
class SharingMemory(Launcher, Protocol):
    """A launcher whose workers share the memory of this machine with the client.

    Optional: without it, workers read all arguments from the store.
    """

    def shared_arrays(self, run: str, store: str) -> SharedArrays:
        """Returns a place for arrays of a run that is launched next. Writes nothing yet.

        store: URL of the store of the run.
        """
        ...


@runtime_checkable
class Hosting(Launcher, Protocol):
    """A launcher whose workers have hosts on this machine, which may all be killed at once.

    Optional: a platform that restarts its workers by itself needs none of it.
    """

    async def ensure_hosted(self, run: str) -> None:
        """Start the hosts of a run again that was launched here, is not over, and has lost them.

        Every client that waits calls it about once a second: it must cost next to nothing while
        all is well, and must not ask the store. Raises LaunchError when they cannot be started.
        """
        ...
