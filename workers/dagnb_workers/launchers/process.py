"""Workers as processes on this machine, forked for each run from a server that holds only imports.

The agent and the supervisor of the run do the work; they outlive the notebook's kernel.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from dagnb.errors import ConfigError
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.launcher import WorkerSlot
from dagnb_workers.agent.client import ask_agent, ask_running, ensure_hosted, store_url
from dagnb_workers.agent.hosts import HostKey
from dagnb_workers.hosting.code_state import code_mark, interpreter
from dagnb_workers.hosting.interpreter import PythonStart
from dagnb_workers.launchers.installed import absent
from dagnb_workers.surroundings.surroundings import Surroundings


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Processes:
    """`n` worker processes for a run; as many as there are usable CPUs when not said."""

    name: ClassVar[str] = "process"
    by_kind: ClassVar[bool] = False
    shares_files: ClassVar[bool] = True
    n: int = field(default_factory=usable_cpus)

    def __post_init__(self) -> None:
        """Refuse a launcher that could run nothing."""
        if self.n < 1:
            raise ConfigError(f"Processes(n={self.n}): at least one worker is needed.")

    @property
    def cap(self) -> int:
        """How many tasks run at a time."""
        return self.n

    async def default_store(self) -> str:
        """URL of the embedded server, which the agent starts when there is none."""
        return await store_url(**_host())

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """The processes, which are forked anew for each run."""
        return Pool(cap=self.n)

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Processes have what the kernel's environment has. Raises ConfigError naming packages that are not there."""
        missing = absent(
            requirement for resources in needs for requirement in resources.requirements
        )
        if missing:
            raise ConfigError(
                f"processes have the packages of this environment, and {', '.join(missing)} is not among them. "
                "Install it here, or take workers='docker', which makes an image with it."
            )

    async def prewarm(self, resources: Resources, n: int) -> int:
        """Have the fork server ready; workers are forked from it in milliseconds."""
        await ask_agent("ready", **_host())
        return min(n, self.n)

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Have the agent start a supervisor for the run, which starts the workers. Raises LaunchError."""
        around = Surroundings.of_this_process().to_dict()
        told = replace(invocation, surroundings=around)
        await ask_agent("launch", invocation=told.to_json(), **_host())

    async def stop(self, run: str) -> None:
        """Kill the run's supervisor and workers."""
        await ask_agent("stop", run=run)

    async def ensure_hosted(self, run: str) -> None:
        """See Hosting.ensure_hosted."""
        await ensure_hosted(run)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """The supervisors that live, each with its workers."""
        told = (await ask_running("status")).get("runs", {})
        return tuple(
            WorkerSlot(
                name=f"pid {pid}", platform=self.name, state="lent", run=run, made_of=sys.executable
            )
            for run, pid in told.items()
        )


def _host() -> dict[str, Any]:
    """Which fork server is meant: one that was started as this process was, and as it would be started now."""
    return HostKey(
        Processes.name, interpreter(), code_mark(), PythonStart.of_this_process()
    ).to_dict()
