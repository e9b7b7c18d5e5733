"""Finds requirements that this interpreter does not meet, for workers that share it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement


def absent(requirements: Iterable[str]) -> tuple[str, ...]:
    """Returns those of the requirements that are not met here, each once, in their order."""
    distinct = dict.fromkeys(requirements)
    return tuple(line for line in distinct if not _is_met(Requirement(line)))


def _is_met(wanted: Requirement) -> bool:
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True  # meant for other versions or systems
    try:
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
