"""Options of a task, as `@task(...)` takes them: checked when they are given, and immutable."""

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

# Options that are accepted, and have no effect before a later release.
_WITHOUT_EFFECT = ("cache",)
_IO_RELATION = re.compile(r"constant|linear|affine|power:[-+]?\d+(\.\d+)?")
_SWITCHES = ("pure", "cache", "network")

# Far beyond any use, and exact as a number of the store's Lua scripts.
_MOST_RETRIES = 1_000_000
_NUMBERS: dict[str, Any] = {
    "retries": int,
    "timeout_s": int | float,
    "backoff_s": int | float,
    "time_s": int | float,
    "output_bytes": int,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of a task; times in seconds, sizes in bytes.

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
        """Raises ConfigError for a value that makes no sense."""
        self._check_kinds()
        if self.resources is not None and not isinstance(self.resources, Resources):
            raise ConfigError(
                f"@task(resources={self.resources!r}): write Resources(cpus=..., memory_mb=...)."
            )
        if not 0 <= self.retries <= _MOST_RETRIES:
            raise ConfigError(f"@task(retries={self.retries}): must be 0 to {_MOST_RETRIES:,}.")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(
                f"@task(timeout_s={self.timeout_s}): must be more than 0 seconds; "
                "leave it out for no limit."
            )
        if self.backoff_s < 0:
            raise ConfigError(f"@task(backoff_s={self.backoff_s}): must be 0 seconds or more.")
        if self.io is not None and not _IO_RELATION.fullmatch(self.io):
            raise ConfigError(
                f"@task(io={self.io!r}): "
                "must be 'constant', 'linear', 'affine' or 'power:EXPONENT'."
            )
        if self.time_s is not None and not self.time_s >= 0:
            raise ConfigError(
                f"@task(time_s={self.time_s}): must be 0 seconds or more; leave it out if unknown."
            )
        if self.output_bytes is not None and not self.output_bytes >= 0:
            raise ConfigError(
                f"@task(output_bytes={self.output_bytes}): must be 0 or more; "
                "leave it out if unknown."
            )

    def _check_kinds(self) -> None:
        """Raises ConfigError for what is no number, or no bool, where there must be one."""
        for name, kind in _NUMBERS.items():
            value = getattr(self, name)
            # None is no value of retries, whose default is a number.
            if value is None and default_of(name) is None:
                continue
            # True is an int, and retries=True is surely a mistake.
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(
                    f"@task({name}={value!r}): must be a number, not {type(value).__name__}."
                )

        for name in _SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ConfigError(f"@task({name}={value!r}): must be True or False.")

    __repr__ = changed

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Names of the options that were given and change nothing yet."""
        return tuple(name for name in _WITHOUT_EFFECT if getattr(self, name) != default_of(name))

    @property
    def needs(self) -> Resources:
        """The resources that its worker must have, with the packages and the network."""
        return _needs(self.resources or DEFAULT, self.requirements, self.network)


LONGEST_BACK_OFF_S = 60.0
"""no wait between two attempts is longer"""


def back_off_bound_s(backoff_s: float, attempt: int) -> float:
    """Returns the most seconds that the next attempt waits after this one, from 1, has failed.

    The bound doubles with each attempt, and the wait is a random part of it ("full jitter"): tasks
    that failed together, for example at an overloaded service, do not retry together.
    Source: Brooker 2015, "Exponential Backoff And Jitter".
    """
    return min(LONGEST_BACK_OFF_S, backoff_s * 2.0 ** min(attempt - 1, _DOUBLINGS))


# More would overflow; any back-off of a microsecond has come to the longest by then.
_DOUBLINGS = 30


def default_of(option: str) -> object:
    """Returns the value of an option that is not given."""
    return next(field.default for field in fields(TaskOptions) if field.name == option)


@functools.lru_cache(maxsize=1024)
def _needs(given: Resources, requirements: tuple[str, ...], network: bool) -> Resources:
    wanted = parse((*given.requirements, *requirements))
    return replace(given, requirements=wanted, network=given.network or network)


def options_from(current: TaskOptions | None = None, /, **options: Any) -> TaskOptions:
    """Returns options with those that a user wrote. current: the others; None for the defaults.

    Raises ConfigError, also for an option that does not exist; RequirementError.
    """
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"@task has no option {name!r}. Known: {', '.join(known)}.")
    if "retry_on" in options:
        given = options["retry_on"]
        options["retry_on"] = default_of("retry_on") if given is None else _exception_types(given)
    if "requirements" in options:
        options["requirements"] = requirements_from(options["requirements"])
    return replace(current or TaskOptions(), **options)


def _exception_types(given: object) -> tuple[type[BaseException], ...]:
    """Returns the types of `retry_on`, one or several.

    Raises ConfigError for anything else, such as the name of a type.
    """
    kinds: tuple[Any, ...] = (given,)
    if isinstance(given, Iterable) and not isinstance(given, str | type):
        kinds = tuple(given)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigError(
                f"@task(retry_on={given!r}): {kind!r} is no type of exception. "
                "Write retry_on=OSError, or a tuple."
            )
    return kinds


def requirements_from(given: Any) -> tuple[str, ...]:
    """Returns requirements that a user wrote: one, several, or the path of a file of them.

    Raises RequirementError for a line that is no requirement, ConfigError for what is no text.
    """
    if given is None:
        return ()
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given.endswith(".txt")):
        return read(os.fspath(given))

    lines: list[Any] = [given]
    if isinstance(given, Iterable) and not isinstance(given, str):
        lines = list(given)
    if not all(isinstance(line, str) for line in lines):
        raise ConfigError(
            f"@task(requirements={given!r}): write 'pandas>=2', a list of such texts, "
            "or the path of a requirements.txt."
        )
    return parse(lines)
