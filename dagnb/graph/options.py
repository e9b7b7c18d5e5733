"""What the user says of a task in `@task(...)`: checked when it is said, and never changed."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from dagnb.errors import ConfigError
from dagnb.graph.brief import changed
from dagnb.graph.requirements import parse, read
from dagnb.graph.resources import DEFAULT, Resources

_WITHOUT_EFFECT = ("cache", "pure")
_IO_RELATION = re.compile(r"constant|linear|affine|power:[-+]?\d+(\.\d+)?")
_NUMBERS: dict[str, Any] = {
    "retries": int,
    "timeout_s": int | float,
    "backoff_s": int | float,
    "time_s": int | float,
    "output_bytes": int,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What the user said of a task; times in seconds, sizes in bytes.

    `help(dagnb.task)` says what each of them means.
    """

    retries: int = 0
    timeout_s: float | None = None
    resources: Resources | None = None
    pure: bool = True
    cache: bool = False
    network: bool = False
    requirements: tuple[str, ...] = ()
    io: str | None = None
    time_s: float | None = None
    output_bytes: int | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, kind in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ConfigError(f"@task({name}={value!r}): must be a number, not {type(value).__name__}.")
        if self.resources is not None and not isinstance(self.resources, Resources):
            raise ConfigError(f"@task(resources={self.resources!r}): write Resources(cpus=..., memory_mb=...).")
        if self.retries < 0:
            raise ConfigError(f"@task(retries={self.retries}): must be 0 or more.")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(
                f"@task(timeout_s={self.timeout_s}): must be more than 0 seconds; leave it out for no limit."
            )
        if self.backoff_s < 0:
            raise ConfigError(f"@task(backoff_s={self.backoff_s}): must be 0 seconds or more.")
        if self.io is not None and not _IO_RELATION.fullmatch(self.io):
            raise ConfigError(f"@task(io={self.io!r}): must be 'constant', 'linear', 'affine' or 'power:EXPONENT'.")
        if self.time_s is not None and not self.time_s >= 0:
            raise ConfigError(f"@task(time_s={self.time_s}): must be 0 seconds or more; leave it out if unknown.")
        if self.output_bytes is not None and not self.output_bytes >= 0:
            raise ConfigError(f"@task(output_bytes={self.output_bytes}): must be 0 or more; leave it out if unknown.")

    __repr__ = changed

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that were given, are kept, and change nothing yet."""
        return tuple(name for name in _WITHOUT_EFFECT if getattr(self, name) != default_of(name))

    @property
    def needs(self) -> Resources:
        """What its worker must be given: the resources, with the packages and the network."""
        return _needs(self.resources or DEFAULT, self.requirements, self.network)


def default_of(option: str) -> object:
    """What an option is when nothing is said of it."""
    return next(field.default for field in fields(TaskOptions) if field.name == option)


@functools.lru_cache(maxsize=1024)
def _needs(given: Resources, requirements: tuple[str, ...], network: bool) -> Resources:
    wanted = parse((*given.requirements, *requirements))
    return replace(given, requirements=wanted, network=given.network or network)


def options_from(**options: Any) -> TaskOptions:
    """Options as a user writes them. Raises ConfigError naming an option that does not exist."""
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"@task has no option {name!r}. Known: {', '.join(known)}.")
    if options.get("retry_on") is not None:
        told = options["retry_on"]
        options["retry_on"] = (told,) if isinstance(told, type) else tuple(told)
    else:
        options.pop("retry_on", None)
    options["requirements"] = requirements_from(options.get("requirements"))
    return TaskOptions(**options)


def requirements_from(told: str | os.PathLike[str] | Iterable[str] | None) -> tuple[str, ...]:
    """Requirements as a user writes them: one, several, or the path of a file of them. Raises RequirementError."""
    if told is None:
        return ()
    if isinstance(told, os.PathLike) or (isinstance(told, str) and told.endswith(".txt")):
        return read(os.fspath(told))
    return parse((told,) if isinstance(told, str) else told)
