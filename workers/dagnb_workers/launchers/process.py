"""Workers as processes on this machine, forked for each run from a server that holds only imports.

The agent and the supervisor of the run do the work; they outlive the notebook's kernel.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import ClassVar

from dagnb.errors import ConfigError
from dagnb.protocol.invocation import Invocation
from dagnb_workers.agent_client import ask_agent, store_url
from dagnb_workers.code import code_mark


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Processes:
    """`n` worker processes for a run; as many as there are usable CPUs when not said."""

    name: ClassVar[str] = "process"
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
        return await store_url()

    async def launch(self, invocation: Invocation) -> None:
        """Have the agent start a supervisor for the run, which starts the workers. Raises LaunchError."""
        await ask_agent(
            "launch",
            invocation=invocation.to_json(),
            python=sys.executable,
            code=code_mark(),
            environment=dict(os.environ),
        )

    async def stop(self, run: str) -> None:
        """Kill the run's supervisor and workers."""
        await ask_agent("stop", run=run)
