"""The process launcher: workers on this machine, forked for each run by a fork server.

The agent and the run's supervisor start and watch them; both outlive the notebook's kernel.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from dagnb.errors import ConfigError
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.launcher import WorkerSlot
from dagnb.storage.home import runtime_directory
from dagnb.storage.segments import ArraySegment, usual_limit
from dagnb.units import MIB
from dagnb_workers.agent.client import (
    ask_agent,
    ask_running,
    ensure_hosted,
    is_agent_gone,
    store_url,
)
from dagnb_workers.agent.host_key import HostKey
from dagnb_workers.agent.import_servers import IDLE_S
from dagnb_workers.hosting.interpreter import PythonStart, code_mark, python_path
from dagnb_workers.launchers.installed import absent
from dagnb_workers.surroundings.surroundings import Surroundings


def usable_cpus() -> int:
    """Returns the number of CPUs that this process may use, >= 1."""
    # A container or `taskset` may allow fewer than the machine has. macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SharesMemory(Protocol):
    """Settings of a launcher whose workers share large values in memory."""

    @property
    def shared_memory_mb(self) -> float | None:
        """Megabytes that a run may take; None: the usual limit."""
        ...


def check_shared_memory(settings: SharesMemory) -> None:
    """Raise ConfigError for a limit that is no number, or negative."""
    limit_mb: Any = settings.shared_memory_mb
    if limit_mb is None:
        return
    is_number = isinstance(limit_mb, int | float) and not isinstance(limit_mb, bool)
    if not is_number or not 0 <= limit_mb < math.inf:
        name = type(settings).__name__
        raise ConfigError(f"{name}(shared_memory_mb={limit_mb!r}): must be a number, 0 or more.")


def shared_bytes(limit_mb: float | None) -> int:
    """Returns bytes of shared memory that a run may take which is launched now."""
    return usual_limit() if limit_mb is None else int(limit_mb * MIB)


class PreloadWarning(UserWarning):
    """A module cannot be preloaded. Tasks import it themselves, so no run is lost."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """`n` worker processes for a run; by default as many as there are usable CPUs.

    batches: workers take several short tasks at a time; else each task is committed at once.
    shared_memory_mb: of large values of one run at most; further ones go through the store, which
        is slower. None: half of what is free when the run starts. 0: all go through the store.
    preload: modules of installed packages, such as 'sklearn.linear_model', that are imported once,
    before workers are forked; None: those that tasks imported in earlier runs from this folder; ()
    for none. A task finds its process as if they had not been imported. A module is left out, with
    a PreloadWarning if it was named here, when its import starts threads, for example.
    idle_s: seconds without a run after which the process that has imported them ends.
    """

    name: ClassVar[str] = "process"
    by_kind: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True
    n: int = field(default_factory=usable_cpus)
    batches: bool = True
    shared_memory_mb: float | None = None
    preload: Sequence[str] | None = None
    idle_s: float = IDLE_S

    def __post_init__(self) -> None:
        """Raises ConfigError for settings with which nothing could run."""
        if self.n < 1:
            raise ConfigError(f"Processes(n={self.n}): at least one worker is needed.")
        check_shared_memory(self)
        if self.idle_s < 0:
            raise ConfigError(f"Processes(idle_s={self.idle_s}): seconds cannot be negative.")
        if self.preload is not None:
            _check_modules(self.preload)
            object.__setattr__(self, "preload", tuple(self.preload))  # a list has no hash

    @property
    def cap(self) -> int:
        """Number of tasks that run at a time."""
        return self.n

    @property
    def segment_bytes(self) -> int:
        """Bytes of shared memory that a run may take which is launched now."""
        return shared_bytes(self.shared_memory_mb)

    async def default_store(self) -> str:
        """Returns the URL of the embedded server, which the agent starts when there is none."""
        return await store_url(**_host())

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """Returns a pool of so many processes; none is warm, because each run forks its own."""
        return Pool(cap=self.n, batches=self.batches, is_agent_gone=is_agent_gone())

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Raise ConfigError for packages that are missing: processes use this environment."""
        missing = absent(name for resources in needs for name in resources.requirements)
        if missing:
            raise ConfigError(
                "processes have the packages of this environment, "
                f"and {', '.join(missing)} is not among them. "
                "Install it here, or take workers='docker', which makes an image with it."
            )

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Start the fork server, from which workers are forked in milliseconds.

        Returns how many workers a run then gets without delay.
        """
        await ask_agent("ready", **_host())
        return min(n, self.n)

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Make the agent start a supervisor, which starts the workers. Raises LaunchError."""
        # Taken at the launch, in the client: the agent, which starts workers, has others.
        surroundings = Surroundings.of_this_process().to_dict()
        invocation = replace(
            invocation,
            surroundings=surroundings,
            segment_bytes=invocation.segment_bytes or self.segment_bytes,
            batches=self.batches,
        )
        answer = await ask_agent(
            "launch",
            invocation=invocation.to_json(),
            preload=self.preload,
            idle_s=self.idle_s,
            **_host(),
        )
        for name, reason in answer.get("left_out", {}).items():
            text = f"Processes(preload=...): {name} is not preloaded: {reason}. Leave it out there."
            warnings.warn(text, PreloadWarning, stacklevel=2)

    def shared_arrays(self, run: str, store: str) -> ArraySegment:
        """See SharingMemory.shared_arrays."""
        return ArraySegment(runtime_directory(), run, self.segment_bytes)

    async def stop(self, run: str) -> None:
        """Kill the run's supervisor and workers."""
        await ask_agent("stop", run=run)

    async def ensure_hosted(self, run: str) -> None:
        """See Hosting.ensure_hosted."""
        await ensure_hosted(run)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """Returns one slot for each supervisor that lives, with its workers."""
        status = await ask_running("status")
        return tuple(_slot(run, pid) for run, pid in status.get("runs", {}).items())


def _check_modules(names: Sequence[str]) -> None:
    """Raises ConfigError for modules that do not exist. Imports nothing."""
    if isinstance(names, str):
        raise ConfigError(f"Processes(preload={names!r}): a list of names is needed, not a text.")
    for name in names:
        top = name.partition(".")[0]
        with contextlib.suppress(ValueError):  # '', or a module that was made in memory
            if top in sys.modules or importlib.util.find_spec(top) is not None:
                continue
        raise ConfigError(
            f"Processes(preload=...): there is no module {name!r}. Correct its name, or install it."
        )


def _slot(run: str, pid: int) -> WorkerSlot:
    return WorkerSlot(
        name=f"pid {pid}",
        platform=Processes.name,
        state="lent",
        run=run,
        made_of=sys.executable,
    )


def _host() -> dict[str, Any]:
    """Returns the fields of a fork server that is started as this process would be started now."""
    start = PythonStart.of_this_process()
    return HostKey(Processes.name, python_path(), code_mark(), start).to_dict()
