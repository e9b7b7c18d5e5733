"""The expert who knows calls: a notebook runs the same call on the same inputs again and again, and it takes as long.

Sizes often do not tell: part(0.2) and part(0.5) read equally many bytes. It speaks only of calls that were seen, and is
compared with the others on those alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from dagnb.graph.brief import brief
from dagnb.prediction.batch import Point
from dagnb.prediction.experts import middle
from dagnb.prediction.scaling import Scaling

VALUES = 4
"""runs remembered of a call"""
KEYS = 2_000
"""calls remembered of a function"""
RECENT = 0.7
"""what a value weighs of the next newer one"""
HEAD_START = 0.5
"""discounted loss that it may have more than the others before they are asked instead"""
WORST = 3.0


@dataclass(frozen=True, slots=True)
class Calls:
    """seen: key -> one typical task of each run, newest last; the call that was made last is last.

    loss: discounted misses; otherwise: those of the other experts on the same tasks.
    """

    seen: Mapping[str, tuple[Point, ...]] = field(default_factory=lambda: MappingProxyType({}))
    loss: float = 0.0
    otherwise: float = 0.0

    __repr__ = brief

    @property
    def is_trusted(self) -> bool:
        """Whether it was better than the others so far, or nobody knows."""
        return self.loss <= self.otherwise + HEAD_START

    def of(self, key: str) -> tuple[Point, ...]:
        """What equal calls gave, oldest first."""
        return self.seen.get(key, ()) if key else ()

    def missed(self, task: Point, scale: Scaling) -> float | None:
        """What it would have missed this task by; None for a call never seen."""
        before = self.of(task.key)
        return (
            task.y + scale.gain(task.cpus, task.memory_mb) - usual(before, scale)
            if before
            else None
        )

    def scored(self, tasks: Sequence[Point], share: float, keep: float) -> Calls:
        """With the misses of one more run, each worth a share; keep: of what was before."""
        both = [(t.again, t.missed) for t in tasks if t.again is not None and t.missed is not None]
        if not both:
            return self
        own, other = (
            share * sum(min(WORST, abs(miss)) for miss in side) for side in zip(*both, strict=True)
        )
        return replace(self, loss=keep * self.loss + own, otherwise=keep * self.otherwise + other)

    def learnt(self, tasks: Sequence[Point]) -> Calls:
        """With the calls of one more run; a call made several times counts once, as usual there. O(tasks + KEYS)."""
        run: dict[str, list[Point]] = {}
        for task in tasks:
            if task.key:
                run.setdefault(task.key, []).append(task)
        if not run:
            return self
        found = {key: points for key, points in self.seen.items() if key not in run}
        for key in sorted(run):
            typical = sorted(run[key], key=_by_value)[len(run[key]) // 2]
            found[key] = (*self.of(key), typical)[-VALUES:]
        for key in list(found)[: max(0, len(found) - KEYS)]:
            del found[key]
        return replace(self, seen=MappingProxyType(found))

    def emptied(self) -> Calls:
        """Only how good it was."""
        return replace(self, seen=MappingProxyType({}))


def usual(seen: Sequence[Point], scale: Scaling) -> float:
    """The middle of what equal calls gave, the newer the weightier, at the scale's origin. O(VALUES)."""
    n = len(seen)
    return middle(
        [(p.y + scale.gain(p.cpus, p.memory_mb), RECENT ** (n - 1 - i)) for i, p in enumerate(seen)]
    )


def _by_value(task: Point) -> tuple[float, ...]:
    return task.y, task.n_bytes, task.cpus or 0.0, task.memory_mb or 0.0
