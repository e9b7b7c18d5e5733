"""The files of modules: a task imports what the client can import, from the same files.

The client's sys.path is not enough for that:

- A loaded module stays loaded, even if a search along the path would now find another file, or
  none. So the client sends its path, and the `places` of the modules that the path does not give.
- A fork server may have loaded a module that a user's module hides in the client, such as a
  `colorsys.py` beside the notebook. The worker forgets such modules, so that they are imported
  again.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType

from dagnb.graph.pickling.made_module import MadeModules
from dagnb.sources import Place, place_of

_KEPT = frozenset({"__main__", "__mp_main__", "dagnb", "dagnb_workers"})
"""top-level modules that each process has of its own"""

_INSTALLED = tuple(
    f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Folders of Python and its packages. Asked once, in the fork server: it takes milliseconds.

Not sources.installed_folders(), which includes each site-packages on sys.path: when one leaves the
path, a worker no longer finds its modules, so they need their places.
"""

_SITE = tuple(
    f"{folder}{os.sep}" for folder in (*site.getsitepackages(), site.getusersitepackages())
)
"""Folders of packages of this interpreter and of this user, whether they are on sys.path or not."""

_SUFFIXES = tuple(importlib.machinery.all_suffixes())


def path_of_this_process() -> tuple[str, ...]:
    """Returns sys.path; a relative entry is replaced by the folder that it meant at its first use.

    Python goes on to find modules in that folder after the current folder was changed.
    """
    return tuple(map(_resolved, _entries()))


def _entries() -> list[str]:
    """Returns the entries of sys.path that are text: Python skips all others, such as a Path."""
    entries: list[object] = [*sys.path]
    return [entry for entry in entries if isinstance(entry, str)]


def _resolved(entry: str) -> str:
    if entry == "" or os.path.isabs(entry):
        return entry
    finder = sys.path_importer_cache.get(entry)
    if not isinstance(finder, importlib.machinery.FileFinder) or _absolute(entry) == finder.path:
        return entry
    return finder.path


def places() -> dict[str, Place]:
    """Returns name -> place of the loaded modules that sys.path would give from elsewhere."""
    hidden = set(names_in(of_user(_entries())))
    elsewhere = {}
    for name, module in list(sys.modules.items()):
        place = _place(module)
        if place is None or name.partition(".")[0] in _KEPT:
            continue
        # Installed modules are not searched for: there are hundreds, and only a user's file could
        # hide them.
        if place[0].startswith(_INSTALLED) and name not in hidden:
            continue
        if _searched(name) != place[0] and (not place[0] or os.path.exists(place[0])):
            elsewhere[name] = place
    return elsewhere


def finders() -> tuple[str, ...]:
    """Returns classes on sys.meta_path that can be imported, as 'module:class'.

    Packages that are installed as editable have such finders.
    """
    entries: list[object] = [*sys.meta_path]
    names = [f"{item.__module__}:{item.__qualname__}" for item in entries if isinstance(item, type)]
    # Every worker has Python's own finders, and no worker can import those of `__main__`.
    own = ("_frozen_importlib", "importlib.", "__main__")
    return tuple(name for name in names if not name.startswith(own))


def add_finders(names: Iterable[str]) -> None:
    """Add these finders to sys.meta_path. One that cannot be imported is left out."""
    known = set(finders())
    for name in names:
        module, _, qualname = name.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            finder = getattr(importlib.import_module(module), qualname)
            if name not in known:
                sys.meta_path.append(finder)


def set_path(path: Sequence[str], places: Mapping[str, Place]) -> None:
    """Set sys.path and the places; forget loaded modules that then come from other files."""
    sys.path[:] = path
    importlib.invalidate_caches()
    if places:
        sys.meta_path.insert(0, _PlaceFinder(places))

    hidden = set(names_in(of_user(path)))
    for name in (hidden | places.keys()) & sys.modules.keys():
        if name.partition(".")[0] in _KEPT:
            continue
        place = _place(sys.modules[name])
        file = None if place is None else place[0]
        wanted = places[name][0] if name in places else _searched(name)
        if file != wanted:
            forget(name)


def is_installed(file: str) -> bool:
    """Returns whether a file lies in a folder of installed modules, the user's own included."""
    return file.startswith((*_INSTALLED, *_SITE))


def file_on(name: str, path: Sequence[str]) -> str:
    """Returns the file of a top-level module that a search along a path finds, '' without one."""
    spec = PathFinder.find_spec(name, path)
    return _absolute(spec.origin) if spec is not None and spec.origin else ""


def put_first(made: MadeModules) -> None:
    """Import modules made in memory before others of their names, which they hide in the client."""
    sys.meta_path.insert(0, made)
    for name in made.names:
        forget(name)


def forget(name: str) -> None:
    """Remove a module and its submodules from sys.modules; modules that imported them keep them."""
    for loaded in list(sys.modules):
        if loaded == name or loaded.startswith(f"{name}."):
            del sys.modules[loaded]


def _searched(name: str) -> str | None:
    """Returns the file that a search along sys.path finds; '' for a package without a file.

    None when the search finds nothing.
    """
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", ()) if parent else None
    if name in sys.builtin_module_names or FrozenImporter.find_spec(name) is not None:
        return None
    try:
        spec = PathFinder.find_spec(name, path)
    except (ImportError, OSError, ValueError):  # an entry that is no folder, or an invalid name
        return None
    if spec is None:
        return None
    return _absolute(spec.origin) if spec.has_location and spec.origin else ""


def _place(module: ModuleType | None) -> Place | None:
    """Returns the place that a module came from; None if it is built in or was made in memory."""
    place = place_of(getattr(module, "__spec__", None))
    if place is None or not place[0]:
        return place
    file, folders = place
    return (_absolute(file), folders) if file.endswith(_SUFFIXES) else None


def _absolute(path: str) -> str:
    """Returns the absolute path, or the path itself when the current folder was removed."""
    try:
        return os.path.abspath(path)
    except OSError:
        return path


def names_in(entries: Iterable[str]) -> Iterable[str]:
    """Yields the names of modules in these entries of a path, and of other files there."""
    for entry in entries:
        if os.path.isfile(entry):
            yield from (info.name for info in pkgutil.iter_modules([entry]))
            continue
        with contextlib.suppress(OSError):
            yield from (name.partition(".")[0] for name in os.listdir(entry or "."))


def of_user(path: Iterable[str]) -> list[str]:
    """Returns the entries of a path that are no folders of installed modules."""
    return [entry for entry in path if not f"{entry}{os.sep}".startswith(_INSTALLED)]


class _PlaceFinder(MetaPathFinder):
    """Finds modules at the places that they have in the client."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if fullname not in self._places:
            return None
        file, folders = self._places[fullname]
        submodules = None if folders is None else list(folders)
        if file:
            return importlib.util.spec_from_file_location(
                fullname, file, submodule_search_locations=submodules
            )
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = submodules
        return spec
