"""When a worker uploads its spans: four strategies, each a configuration class with a short name.

Spans ride with a round trip that the worker makes anyway; where none is due in time, with one command of their own.
None of them loses anything when a worker leaves by itself: at the end of a run, of whatever kind, when it is dismissed
from a container, or when the store was out of reach for less than a minute. What a worker loses that ends without a
word (kill -9, out of memory, a time limit it does not heed, a lost machine) is promised by each class. Tasks lose
nothing: only what is known of their times. While a task's function runs, nothing is sent.

Text is what travels to workers and what people type: at_exit, each_task, every:2.5, when_full:64.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any

from dagnb.errors import ConfigError

DEFAULT = "each_task"

MOST_HELD = 10_000
"""so many spans are uploaded with the next round trip whatever the strategy, so that memory is bounded"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtExit:
    """Once, when the worker leaves. The fewest bytes beside the work, nothing to see of it meanwhile.

    A worker that ends without a word loses all its spans (up to MOST_HELD); those of others are not touched.
    """

    @property
    def text(self) -> str:
        """at_exit"""
        return "at_exit"

    def wait_s(self, n: int, age_s: float) -> float:
        """So long n >= 1 spans, the oldest of them age_s old, may still be held: for ever."""
        return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class EachTask:
    """With every commit: a task is done and its spans are there in one atomic step.

    The span of the commit itself is known only afterwards: it goes with the next commit, or at once when the worker
    finds nothing to do. A worker that ends without a word loses that one, and the spans of the task in hand.
    """

    @property
    def text(self) -> str:
        """each_task"""
        return "each_task"

    def wait_s(self, n: int, age_s: float) -> float:
        """As AtExit.wait_s: they go at once."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """With the first commit after so many seconds; a worker that waits for work does not wait longer with them.

    A worker that ends without a word loses the spans of so many seconds before its last commit, and those since: of the
    task in hand, or of its rest.
    """

    seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no time."""
        if not _is_a(self.seconds, int | float) or not 0 < self.seconds < math.inf:
            raise ConfigError(
                f"Every(seconds={self.seconds!r}): more than 0 seconds; EachTask() uploads at once."
            )

    @property
    def text(self) -> str:
        """every:1"""
        return f"every:{self.seconds!r}".removesuffix(".0")

    def wait_s(self, n: int, age_s: float) -> float:
        """As AtExit.wait_s: until the oldest is so old."""
        return max(0.0, self.seconds - age_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenFull:
    """With the first commit that finds so many held. Few uploads under load, however long that takes.

    A worker that ends without a word loses so many at most, and those of the task in hand.
    """

    n: int = 64

    def __post_init__(self) -> None:
        """Refuse what is no number of spans."""
        if not _is_a(self.n, int) or not 1 <= self.n <= MOST_HELD:
            raise ConfigError(
                f"WhenFull(n={self.n!r}): a whole number from 1 to {MOST_HELD:,}; AtExit() holds longer."
            )

    @property
    def text(self) -> str:
        """when_full:64"""
        return f"when_full:{self.n}"

    def wait_s(self, n: int, age_s: float) -> float:
        """As AtExit.wait_s: they go when they are so many, else for ever."""
        return 0.0 if n >= self.n else math.inf


Upload = AtExit | EachTask | Every | WhenFull

_KNOWN = ("at_exit", "each_task", "every", "when_full")
_USAGE = "Give 'at_exit', 'each_task', 'every:SECONDS', 'when_full:NUMBER', or an object such as Every(seconds=2.5)."


def strategy(chosen: object) -> Upload:
    """The strategy meant: 'at_exit', 'each_task', 'every:2.5', 'when_full:64' or an object. Raises ConfigError."""
    match chosen:
        case str():
            return _read(chosen)
        case AtExit() | EachTask() | Every() | WhenFull():
            return chosen
    if isinstance(chosen, type) and issubclass(chosen, Upload):
        raise ConfigError(
            f"metrics={chosen.__name__}: that is the class. Write {chosen.__name__}()."
        )
    raise ConfigError(f"metrics={chosen!r}: no way to upload spans. {_USAGE}")


def _read(text: str) -> Upload:
    name, colon, value = text.partition(":")
    if name in {"at_exit", "each_task"} and not colon:
        return AtExit() if name == "at_exit" else EachTask()
    try:
        if name == "every":
            return Every(seconds=float(value)) if colon else Every()
        if name == "when_full":
            return WhenFull(n=int(value)) if colon else WhenFull()
    except ValueError:
        raise ConfigError(f"metrics={text!r}: {value!r} is no number. {_USAGE}") from None
    if name in _KNOWN:
        raise ConfigError(f"metrics={text!r}: {name} takes no number. Write {name!r}.")
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0] + colon + value!r}?" if near else ""
    raise ConfigError(f"metrics={text!r}: unknown way to upload spans.{hint} {_USAGE}")


def _is_a(value: object, kind: Any) -> bool:
    """Whether it is a number of this kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)
