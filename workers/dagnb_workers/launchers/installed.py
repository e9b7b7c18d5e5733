"""Which packages this interpreter has, for workers that share it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement


def absent(requirements: Iterable[str]) -> tuple[str, ...]:
    """Those of the requirements that are not met here, each once."""
    return tuple(dict.fromkeys(line for line in requirements if not _is_met(Requirement(line))))


def _is_met(wanted: Requirement) -> bool:
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    try:
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
