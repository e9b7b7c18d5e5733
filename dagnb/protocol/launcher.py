"""What a launcher must do: start instances somewhere. It decides nothing else."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from dagnb.protocol.invocation import Invocation


@runtime_checkable
class Launcher(Protocol):
    """Its dataclass fields are its settings.

    Laws (tests/contract/launcher_laws.py): any DAG finishes with any cap >= 1; after the end of the run, of whatever
    kind, no instance is left; a second launch of the same run starts no second set of instances.
    """

    @property
    def name(self) -> str:
        """The short name users choose it by."""
        ...

    @property
    def cap(self) -> int:
        """How many instances may live at a time, >= 1."""
        ...

    async def default_store(self) -> str:
        """URL of the store its workers share when the user chose none. Raises LaunchError, ConfigError."""
        ...

    async def launch(self, invocation: Invocation) -> None:
        """Start instances and return at once. Raises LaunchError when that is impossible."""
        ...

    async def stop(self, run: str) -> None:
        """End every instance of the run, now; nothing happens when there is none."""
        ...
