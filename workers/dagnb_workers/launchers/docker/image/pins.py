"""What a worker imports besides dagnb itself: packages of exactly the versions installed here."""

from __future__ import annotations

import functools
from importlib import metadata

from dagnb.errors import LaunchError

NEEDED = ("cloudpickle", "hiredis", "msgpack", "redis")
"""cloudpickle must be the same on both sides; the others are what dagnb was tried with here"""


@functools.cache
def pins() -> tuple[str, ...]:
    """One `name==version` a needed package, sorted. Raises LaunchError when one is not installed here."""
    return tuple(f"{name}=={distribution(name).version}" for name in NEEDED)


def needed_distributions() -> tuple[metadata.Distribution, ...]:
    """The needed packages and all that they need in turn, as installed here."""
    from packaging.requirements import Requirement  # noqa: PLC0415  # offline bases alone want it
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    found: dict[str, metadata.Distribution] = {}
    waiting = list(NEEDED)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = distribution(name)
        wanted = map(Requirement, found[name].requires or ())
        waiting += [
            need.name
            for need in wanted
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return tuple(found[name] for name in sorted(found))


def distribution(name: str) -> metadata.Distribution:
    """What is installed here under the name. Raises LaunchError."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise LaunchError(
            f"{name} is not installed here, and workers need it. Run `pip install {name}`."
        ) from error
