"""Packages that a worker imports besides dagnb, in exactly the versions of this environment."""

from __future__ import annotations

import functools
from importlib import metadata

from dagnb.errors import LaunchError

NEEDED = ("cloudpickle", "hiredis", "msgpack", "redis")
"""cloudpickle must have one version on both sides; the others are known to work as installed"""


@functools.cache
def pins() -> tuple[str, ...]:
    """Returns `name==version` of each needed package, sorted. Raises LaunchError."""
    return tuple(f"{name}=={distribution(name).version}" for name in NEEDED)


def needed_distributions() -> tuple[metadata.Distribution, ...]:
    """Returns the needed packages and all that these need in turn, as installed here."""
    from packaging.requirements import Requirement  # noqa: PLC0415  # offline bases alone want it
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    installed: dict[str, metadata.Distribution] = {}
    pending = list(NEEDED)
    while pending:
        name = canonicalize_name(pending.pop())
        if name in installed:
            continue
        installed[name] = distribution(name)
        requirements = map(Requirement, installed[name].requires or ())
        # Without extras, which a worker does not use, and without the needs of other systems.
        pending += [
            requirement.name
            for requirement in requirements
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return tuple(installed[name] for name in sorted(installed))


def distribution(name: str) -> metadata.Distribution:
    """Returns the package that is installed here under the name. Raises LaunchError."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise LaunchError(
            f"{name} is not installed here, and workers need it. Run `pip install {name}`."
        ) from error
