"""Resources of one worker: CPUs, memory, packages, a network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dagnb.errors import ConfigError
from dagnb.graph.brief import brief


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Resources:
    """CPUs (may be fractional) and memory (MB) of one worker; None leaves a limit to the launcher.

    requirements: packages it must have, as `requirements.parse` gives them.
    network: whether it may use one.
    """

    cpus: float | None = None
    memory_mb: int | None = None
    requirements: tuple[str, ...] = ()
    network: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        """Raises ConfigError for resources that no worker can have."""
        if self.cpus is not None and not self.cpus > 0:
            raise ConfigError(
                f"Resources(cpus={self.cpus!r}): a worker needs more than 0 CPUs. "
                "Leave it out for the default."
            )
        # Python itself needs more than a few MB, and Docker refuses less than 6.
        if self.memory_mb is not None and not self.memory_mb >= 16:
            raise ConfigError(
                f"Resources(memory_mb={self.memory_mb!r}): "
                "a worker needs at least 16 MB, in whole megabytes."
            )

    def label(self) -> str:
        """Returns a short name, different for different resources; '' for the default.

        Examples: '2cpu', '2cpu-512mb', 'net-env1f0c5a27'. Queues, containers and the history use
        it.
        """
        parts = []
        if self.cpus is not None:
            parts.append(f"{self.cpus:g}cpu")
        if self.memory_mb is not None:
            parts.append(f"{self.memory_mb}mb")
        if self.network:
            parts.append("net")
        if self.requirements:
            lines = "\n".join(self.requirements)
            parts.append("env" + hashlib.sha256(lines.encode()).hexdigest()[:8])
        return "-".join(parts)

    def over(self, asked: Resources) -> tuple[float, float]:
        """Returns the ratios of CPUs and memory to those asked for; 1 where a launcher decides."""
        cpus = self.cpus / asked.cpus if self.cpus and asked.cpus else 1.0
        memory = self.memory_mb / asked.memory_mb if self.memory_mb and asked.memory_mb else 1.0
        return cpus, memory

    @property
    def kind(self) -> str:
        """The label, or 'default' when it is empty: part of the names of containers."""
        return self.label() or "default"


DEFAULT = Resources()
