"""What one worker is given: CPUs and memory."""

from __future__ import annotations

from dataclasses import dataclass

from dagnb.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Resources:
    """CPUs (may be fractional) and memory of one worker; None leaves a limit to the launcher."""

    cpus: float | None = None
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no worker can have."""
        if self.cpus is not None and not self.cpus > 0:
            raise ConfigError(
                f"Resources(cpus={self.cpus!r}): a worker needs more than 0 CPUs. Leave it out for the default."
            )
        if self.memory_mb is not None and not self.memory_mb >= 16:
            raise ConfigError(
                f"Resources(memory_mb={self.memory_mb!r}): a worker needs at least 16 MB, in whole megabytes."
            )

    def label(self) -> str:
        """A short name: '' for the default, '2cpu', '512mb', '2cpu-512mb'."""
        parts = []
        if self.cpus is not None:
            parts.append(f"{self.cpus:g}cpu")
        if self.memory_mb is not None:
            parts.append(f"{self.memory_mb}mb")
        return "-".join(parts)


DEFAULT = Resources()
