"""Puts back what a task changed of its process, so that it is not met by the next task of the same worker.

What importing a module changed stays, as the module does: the next task that imports it runs none of its code.
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
"""equal to nothing: a look will show a change"""


class Isolation:
    """Keeps one thread as its first task found it."""

    def __init__(self, aspects: Sequence[Aspect[Any]], *, watches_imports: bool = True) -> None:
        """aspects: in the order in which they are put back."""
        self._aspects = [(aspect, aspect.look) for aspect in aspects if aspect.look is not None]
        self._looks = [look for _, look in self._aspects]
        self._unseen = [aspect for aspect in aspects if aspect.look is None]
        self._watches_imports = watches_imports
        self._kept: dict[str, Any] = {}
        self._seen: list[Any] = []
        self._undo: list[tuple[Callable[[Any], object], Any]] = []

    def around(self, task: Callable[[], T]) -> T:
        """Call the task, which must not raise, and put back what it changed. Gives its value."""
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
        self._kept = {
            aspect.name: aspect.keep()
            for aspect in (*self._unseen, *(one for one, _ in self._aspects))
        }
        self._undo = [(aspect.restore, self._kept[aspect.name]) for aspect in self._unseen]
        self._seen = [look() for look in self._looks]

    def _restore(self, now: list[Any]) -> None:
        for (aspect, _), found, seen in zip(self._aspects, now, self._seen, strict=True):
            if found != seen:
                aspect.restore(self._kept[aspect.name])
                self._kept[aspect.name] = aspect.keep()
        self._seen = [look() for look in self._looks]

    @contextmanager
    def _importing(self) -> Iterator[None]:
        """Keep what an import changes, and only that: the task may have changed something before."""
        begin = [look() for look in self._looks]
        before = {
            aspect.name: self._kept[aspect.name] if found == seen else aspect.keep()
            for (aspect, _), found, seen in zip(self._aspects, begin, self._seen, strict=True)
        }
        before |= {aspect.name: aspect.keep() for aspect in self._unseen}
        yield
        for aspect in self._unseen:
            if (after := aspect.keep()) != before[aspect.name]:
                self._kept[aspect.name] = after
        self._undo = [(aspect.restore, self._kept[aspect.name]) for aspect in self._unseen]
        for at, ((aspect, look), found) in enumerate(zip(self._aspects, begin, strict=True)):
            if look() == found:
                continue
            self._kept[aspect.name] = aspect.merge(
                self._kept[aspect.name], before[aspect.name], aspect.keep()
            )
            self._seen[at] = look() if found == self._seen[at] else _UNKNOWN
