"""Four strategies for the upload of spans, each a configuration class with a short text form.

    text           uploads                                     a worker that is killed loses
    at_exit        once, when the worker leaves                all its spans, 10,000 at most
    each_task      with each commit                            the spans of its current task
    every:2.5      with the first commit after 2.5 s           the spans of the last 2.5 s
    when_full:64   with the first commit with 64 or more held  64 spans at most

Spans are sent with a round trip that the worker makes anyway; if none is due in time, a command of
their own is sent. While a task's function runs, nothing is sent.

A worker that leaves by itself loses nothing: at the end of a run, when it is dismissed from a
container, or when the store is unreachable for less than a minute. A worker that is killed (kill
-9, out of memory, a time limit it ignores, a lost machine) loses spans, never results of tasks.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dagnb.errors import ConfigError

DEFAULT = "each_task"

MOST_HELD = 10_000
"""Spans that a worker holds at most before every strategy uploads them: memory stays bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtExit:
    """Uploads once, when the worker leaves.

    The smallest overhead; a run cannot be watched. A worker that is killed loses all its spans, up
    to MOST_HELD.
    """

    @property
    def text(self) -> str:
        """The text 'at_exit'."""
        return "at_exit"

    def wait_s(self, n: int, age_s: float) -> float:
        """Returns the seconds for which n >= 1 spans may still be held: infinity.

        age_s: of the oldest span.
        """
        return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class EachTask:
    """Uploads with each commit: a task is done and its spans are stored in one atomic step.

    The span of the commit itself is known only afterwards. It is sent with the next commit, or at
    once if the worker has nothing to do. A worker that is killed loses that one, and the spans of
    its current task.
    """

    @property
    def text(self) -> str:
        """The text 'each_task'."""
        return "each_task"

    def wait_s(self, n: int, age_s: float) -> float:
        """Returns the seconds for which n >= 1 spans may still be held: none."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Uploads with the first commit after so many seconds; without commits, after those seconds.

    A worker that is killed loses the spans of that many seconds before its last commit, and those
    since.
    """

    seconds: float = 1.0

    def __post_init__(self) -> None:
        """Raises ConfigError unless `seconds` is finite and more than 0."""
        if not _is_a(self.seconds, int | float) or not 0 < self.seconds < math.inf:
            raise ConfigError(
                f"Every(seconds={self.seconds!r}): give more than 0 seconds; "
                "EachTask() uploads at once."
            )

    @property
    def text(self) -> str:
        """The text, such as 'every:1'."""
        return f"every:{self.seconds!r}".removesuffix(".0")

    def wait_s(self, n: int, age_s: float) -> float:
        """Returns the seconds until the oldest of n >= 1 spans, age_s old now, is due."""
        return max(0.0, self.seconds - age_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenFull:
    """Uploads with the first commit when the worker holds n spans or more.

    Few uploads under load. A worker that is killed loses n spans at most, and those of its current
    task.
    """

    n: int = 64

    def __post_init__(self) -> None:
        """Raises ConfigError unless `n` is a whole number from 1 to MOST_HELD."""
        if not _is_a(self.n, int) or not 1 <= self.n <= MOST_HELD:
            raise ConfigError(
                f"WhenFull(n={self.n!r}): give a whole number from 1 to {MOST_HELD:,}; "
                "AtExit() holds spans longer."
            )

    @property
    def text(self) -> str:
        """The text, such as 'when_full:64'."""
        return f"when_full:{self.n}"

    def wait_s(self, n: int, age_s: float) -> float:
        """Returns the seconds for which n >= 1 spans may still be held: none, or infinity."""
        return 0.0 if n >= self.n else math.inf


Upload = AtExit | EachTask | Every | WhenFull

_KNOWN: dict[str, Callable[[], Upload]] = {
    "at_exit": AtExit,
    "each_task": EachTask,
    "every": Every,
    "when_full": WhenFull,
}
_USAGE = (
    "Give 'at_exit', 'each_task', 'every:SECONDS', 'when_full:NUMBER', "
    "or an object such as Every(seconds=2.5)."
)


def strategy(chosen: object) -> Upload:
    """Returns the strategy of a text such as 'every:2.5', or of an object. Raises ConfigError."""
    match chosen:
        case str():
            return _read(chosen)
        case AtExit() | EachTask() | Every() | WhenFull():
            return chosen
    if isinstance(chosen, type) and issubclass(chosen, Upload):
        raise ConfigError(
            f"metrics={chosen.__name__}: that is the class. Write {chosen.__name__}()."
        )
    raise ConfigError(f"metrics={chosen!r} is not a way to upload spans. {_USAGE}")


def _read(text: str) -> Upload:
    name, colon, value = text.partition(":")
    if not colon and name in _KNOWN:
        return _KNOWN[name]()
    try:
        if name == "every":
            return Every(seconds=float(value))
        if name == "when_full":
            return WhenFull(n=int(value))
    except ValueError:
        raise ConfigError(f"metrics={text!r}: {value!r} is not a number. {_USAGE}") from None
    if name in _KNOWN:
        raise ConfigError(f"metrics={text!r}: {name} takes no number. Write {name!r}.")
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0] + colon + value!r}?" if near else ""
    raise ConfigError(f"metrics={text!r}: unknown way to upload spans.{hint} {_USAGE}")


def _is_a(value: object, kind: Any) -> bool:
    # True is an int in Python, but no sensible number here.
    return isinstance(value, kind) and not isinstance(value, bool)
