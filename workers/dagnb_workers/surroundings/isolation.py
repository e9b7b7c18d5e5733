"""Restores what a task changed of its process, so that the next task does not see it.

The process has `aspects`: what a task can change and Python can restore. After each task

    restore    the aspects without a look
    look       at all others, and compare with what was seen before the first task
    restore    the aspects that look different

Changes by the import of a module stay, because the module stays loaded: the next task that imports
it does not run its code again, and would lack what that code has set up. `ImportWatch` tells when
such code runs; what it changed is merged into what is kept.

Imports
-------
`ImportWatch` is a finder in front of all others (see importlib.abc.MetaPathFinder). It lets them
find the module, and wraps the loader that they give. Before the module's code runs, the wrapper
restores the module's own loader, as importlib.util.LazyLoader does.

    import x -> ImportWatch.find_spec -> finders behind it -> spec, its loader wrapped
             -> _Loader.exec_module -> around: own loader's exec_module
"""

from __future__ import annotations

import importlib.abc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

from dagnb_workers.surroundings.aspects import Aspect

Around = Callable[[], AbstractContextManager[None]]
"""makes the context in which a module's code runs"""

Note = Callable[[str, str, float], None]
"""notes an import: the module's name and file, and how many seconds its code ran"""


def _note_nothing(name: str, file: str, seconds: float) -> None:
    """Note no import."""


@dataclass(slots=True)
class ImportTime:
    """The seconds for which code of imported modules ran, in all so far, also where it raised."""

    seconds: float = 0.0


class ImportWatch(importlib.abc.MetaPathFinder):
    """Watches imports that its thread begins. An import within another counts as a part of that."""

    def __init__(
        self,
        around: Around,
        note: Note = _note_nothing,
        time_spent: ImportTime | None = None,
    ) -> None:
        """Watch the present thread.

        note: called after each import that did not raise. time_spent: to which imports are added.
        """
        self._around, self._thread, self._is_within = around, threading.get_ident(), False
        self._note = note
        self._time_spent = ImportTime() if time_spent is None else time_spent

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See MetaPathFinder.find_spec."""
        if self._is_elsewhere():
            return None
        spec = self._find(fullname, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec, self._run)
        return spec

    def _is_elsewhere(self) -> bool:
        return self._is_within or threading.get_ident() != self._thread

    def _find(self, *arguments: Any) -> ModuleSpec | None:
        # A copy, because a finder may change the list.
        for finder in tuple(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None:
                spec: ModuleSpec | None = find(*arguments)
                if spec is not None:
                    return spec
        return None

    def _run(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        # User code may have got this spec by find_spec, and may load it in another thread.
        if self._is_elsewhere():
            execute(module)
            return
        self._is_within = True
        begin_s = time.monotonic()
        try:
            with self._around():
                execute(module)
        finally:
            self._is_within = False
            seconds = time.monotonic() - begin_s
            self._time_spent.seconds += seconds
        file = getattr(getattr(module, "__spec__", None), "origin", None)
        self._note(module.__name__, file or "", seconds)


class _Loader(importlib.abc.Loader):
    """The loader of one module until its code runs. Its other attributes are those of `_own`."""

    def __init__(
        self, spec: ModuleSpec, run: Callable[[Callable[[ModuleType], None], ModuleType], None]
    ) -> None:
        self._spec, self._own, self._run = spec, spec.loader, run

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See Loader.create_module."""
        assert self._own is not None
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See Loader.exec_module."""
        assert self._own is not None
        # Before the module's code runs, which may ask for its loader, as importlib.resources does.
        self._spec.loader = module.__loader__ = self._own
        self._run(self._own.exec_module, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


T = TypeVar("T")

_UNKNOWN = object()
"""equal to nothing: the next look shows a change"""


class Isolation:
    """Keeps one thread as its first task found it."""

    def __init__(
        self,
        aspects: Sequence[Aspect[Any]],
        *,
        watches_imports: bool = True,
        note: Note = _note_nothing,
        import_time: ImportTime | None = None,
    ) -> None:
        """Begin at the first task. aspects: in the order in which they are restored.

        note, import_time: see ImportWatch. Imports before the first task count, too: reading a
        function imports the modules that it uses.
        """
        self._aspects = [(aspect, aspect.look) for aspect in aspects if aspect.look is not None]
        self._looks = [look for _, look in self._aspects]
        self._unseen = [aspect for aspect in aspects if aspect.look is None]
        self._kept: dict[str, Any] = {}
        self._seen: list[Any] = []
        self._undo: list[tuple[Callable[[Any], object], Any]] = []
        self._watch: ImportWatch | None = None
        if watches_imports:
            self._watch = ImportWatch(self._importing, note, import_time)
            sys.meta_path.insert(0, self._watch)

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
        if self._watch is not None:
            # In front of finders that were added since.
            with suppress(ValueError):  # the user's code has removed it
                sys.meta_path.remove(self._watch)
            sys.meta_path.insert(0, self._watch)
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
        if not self._kept:  # before the first task, where everything is kept
            yield
            return
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
