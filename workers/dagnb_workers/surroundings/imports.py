"""Tells when a module is imported for the first time: from then on it is there, and so is what its code changed.

A finder in front of all others (see importlib.abc.MetaPathFinder) lets them find the module and puts a loader around
theirs, which gives the module its own loader back before the module's code runs, as importlib.util.LazyLoader does.
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
    """Watches the imports that its own thread begins; what a module itself imports belongs to its import."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        """around: entered while the code of a module runs."""
        self._around, self._thread, self._is_within = around, threading.get_ident(), False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See MetaPathFinder.find_spec."""
        if self._is_within or threading.get_ident() != self._thread:
            return None
        spec = self._found(fullname, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec, self._run)
        return spec

    def _found(self, *asked: Any) -> ModuleSpec | None:
        for finder in tuple(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None:
                spec: ModuleSpec | None = find(*asked)
                if spec is not None:
                    return spec
        return None

    def _run(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        if (
            self._is_within or threading.get_ident() != self._thread
        ):  # asked for a spec, and imported it later
            execute(module)
            return
        self._is_within = True
        try:
            with self._around():
                execute(module)
        finally:
            self._is_within = False


class _Loader(importlib.abc.Loader):
    """The loader of one module until that is imported; whoever asks it for more asks the module's own."""

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
        self._spec.loader = module.__loader__ = self._own
        self._run(self._own.exec_module, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)
