"""Detects when the code of a module runs because it is imported for the first time.

A finder in front of all others (see importlib.abc.MetaPathFinder) lets them find the module, and
wraps the loader that they give. Before the module's code runs, the wrapper restores the module's
own loader, as importlib.util.LazyLoader does.

    import x -> ImportWatch.find_spec -> finders behind it -> spec, its loader wrapped
             -> _Loader.exec_module -> around: own loader's exec_module
"""

from __future__ import annotations

import importlib.abc
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class ImportWatch(importlib.abc.MetaPathFinder):
    """Watches imports that its thread begins. An import within another counts as a part of that."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        """Watch the present thread. around: makes the context in which a module's code runs."""
        self._around, self._thread, self._is_within = around, threading.get_ident(), False

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
        try:
            with self._around():
                execute(module)
        finally:
            self._is_within = False


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
