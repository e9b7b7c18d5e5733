"""Restores what a task changed of its process, so that the next task does not see it.

The process has `aspects`: what a task can change and Python can restore. After each task

    restore    the aspects without a look
    look       at all others, and compare with what was seen before the first task
    restore    the aspects that look different

Changes by the import of a module stay, because the module stays loaded: the next task that imports
it does not run its code again, and would lack what that code has set up. `imports.py` tells when
such code runs; what it changed is merged into what is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dagnb_workers.surroundings.aspects import Aspect
from dagnb_workers.surroundings.imports import ImportWatch

T = TypeVar("T")

_UNKNOWN = object()
"""equal to nothing: the next look shows a change"""


class Isolation:
    """Keeps one thread as its first task found it."""

    def __init__(self, aspects: Sequence[Aspect[Any]], *, watches_imports: bool = True) -> None:
        """Begin at the first task. aspects: in the order in which they are restored."""
        self._aspects = [(aspect, aspect.look) for aspect in aspects if aspect.look is not None]
        self._looks = [look for _, look in self._aspects]
        self._unseen = [aspect for aspect in aspects if aspect.look is None]
        self._watches_imports = watches_imports
        self._kept: dict[str, Any] = {}
        self._seen: list[Any] = []
        self._undo: list[tuple[Callable[[Any], object], Any]] = []

    def around(self, task: Callable[[], T]) -> T:
        """Call the task, which must not raise, and restore what it changed. Returns its value."""
        if not self._kept:
            self._begin()
        value = task()
        for restore, kept in self._undo:
            restore(kept)
        now = [look() for look in self._looks]
        if now != self._seen:
            self._restore(now)
        return value

    def _begin(self) -> None:
        if self._watches_imports:
            sys.meta_path.insert(0, ImportWatch(self._importing))
        aspects = [*self._unseen, *(aspect for aspect, _ in self._aspects)]
        self._kept = {aspect.name: aspect.keep() for aspect in aspects}
        self._prepare_undo()
        self._seen = [look() for look in self._looks]

    def _prepare_undo(self) -> None:
        self._undo = [(aspect.restore, self._kept[aspect.name]) for aspect in self._unseen]

    def _restore(self, now: list[Any]) -> None:
        for (aspect, _), state, seen in zip(self._aspects, now, self._seen, strict=True):
            if state != seen:
                aspect.restore(self._kept[aspect.name])
                # Restoring may have made new objects, such as streams.
                self._kept[aspect.name] = aspect.keep()
        # All looks are taken again: restoring one aspect may change another, as TZ the time zone.
        self._seen = [look() for look in self._looks]

    @contextmanager
    def _importing(self) -> Iterator[None]:
        """Keep what an import changes, but not what the task changed before it."""
        begin = [look() for look in self._looks]
        before: dict[str, Any] = {}
        for (aspect, _), state, seen in zip(self._aspects, begin, self._seen, strict=True):
            before[aspect.name] = self._kept[aspect.name] if state == seen else aspect.keep()
        for aspect in self._unseen:
            before[aspect.name] = aspect.keep()

        yield

        for aspect in self._unseen:
            if (after := aspect.keep()) != before[aspect.name]:
                self._kept[aspect.name] = after
        self._prepare_undo()
        for position, (aspect, look) in enumerate(self._aspects):
            if look() == begin[position]:
                continue
            self._kept[aspect.name] = aspect.merge(
                self._kept[aspect.name], before[aspect.name], aspect.keep()
            )
            # If the task had changed the aspect as well, it must be restored after the task.
            is_clean = begin[position] == self._seen[position]
            self._seen[position] = look() if is_clean else _UNKNOWN
