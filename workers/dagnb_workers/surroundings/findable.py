"""Files that modules come from: a task imports what the client can import, from the same file, no more and no less.

sys.path decides that, but not alone. A module that is loaded stays what it is, wherever it was found: before the path
was changed, or by a path to its file. And a fork server has modules loaded that the user's own ones hide in the client.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
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
"""found once, in the fork server: it takes milliseconds. Not sources.installed_folders(), which counts in any
site-packages that is on sys.path: one that leaves it takes its modules out of a worker's reach"""

_SUFFIXES = tuple(importlib.machinery.all_suffixes())


def path_of_this_process() -> tuple[str, ...]:
    """sys.path. A relative entry that was used before the current folder was changed still means what it meant then."""
    return tuple(map(_meant, _entries()))


def _entries() -> list[str]:
    """The entries of sys.path that Python takes; whatever else was put there, such as a Path, it passes over."""
    entries: list[object] = [*sys.path]
    return [entry for entry in entries if isinstance(entry, str)]


def _meant(entry: str) -> str:
    finder = sys.path_importer_cache.get(entry)
    if (
        entry == ""
        or os.path.isabs(entry)
        or not isinstance(finder, importlib.machinery.FileFinder)
    ):
        return entry
    return entry if _absolute(entry) == finder.path else finder.path


def places() -> dict[str, Place]:
    """Modules that are loaded from a place which a search along sys.path would not give, each with its place."""
    hidden = set(_names_in(_of_user(_entries())))
    found = {}
    for name, module in list(sys.modules.items()):
        place = _place(module)
        if place is None or name.partition(".")[0] in _KEPT:
            continue
        if place[0].startswith(_INSTALLED) and name not in hidden:
            continue
        if _searched(name) != place[0] and (not place[0] or os.path.exists(place[0])):
            found[name] = place
    return found


def finders() -> tuple[str, ...]:
    """Classes on sys.meta_path that can be imported, 'module:class': so packages are installed in the editable way."""
    found: list[object] = [*sys.meta_path]
    names = [f"{each.__module__}:{each.__qualname__}" for each in found if isinstance(each, type)]
    return tuple(
        name
        for name in names
        if not name.startswith(("_frozen_importlib", "importlib.", "__main__"))
    )


def add_finders(names: Iterable[str]) -> None:
    """Have these finders as well. One that cannot be imported is left out: its modules are then not found."""
    known = set(finders())
    for name in names:
        module, _, qualname = name.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            finder = getattr(importlib.import_module(module), qualname)
            if name not in known:
                sys.meta_path.append(finder)


def set_path(path: Sequence[str], places: Mapping[str, Place]) -> None:
    """Have this sys.path, and these modules at these places; forget loaded modules that then come from elsewhere."""
    sys.path[:] = path
    importlib.invalidate_caches()
    if places:
        sys.meta_path.insert(0, _PlaceFinder(places))
    hidden = set(_names_in(_of_user(path)))
    for name in (hidden | places.keys()) & sys.modules.keys():
        if name.partition(".")[0] in _KEPT:
            continue
        place = _place(sys.modules[name])
        file = None if place is None else place[0]
        if file != (places[name][0] if name in places else _searched(name)):
            forget(name)


def put_first(made: MadeModules) -> None:
    """Have modules made in memory imported from what travelled, as they hide others of their names in the client."""
    sys.meta_path.insert(0, made)
    for name in made.names:
        forget(name)


def forget(name: str) -> None:
    """Take a module and those within it out of sys.modules; whoever imported them keeps them."""
    for loaded in list(sys.modules):
        if loaded == name or loaded.startswith(f"{name}."):
            del sys.modules[loaded]


def _searched(name: str) -> str | None:
    """The file that a search along the path would give, '' for a package without one; None for no file at all."""
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", ()) if parent else None
    if name in sys.builtin_module_names or FrozenImporter.find_spec(name) is not None:
        return None
    try:
        spec = PathFinder.find_spec(name, path)
    except (ImportError, OSError, ValueError):  # an entry that is no folder, a name that is none
        return None
    if spec is None:
        return None
    return _absolute(spec.origin) if spec.has_location and spec.origin else ""


def _place(module: ModuleType | None) -> Place | None:
    """Where a module was imported from; None for what is built in, or was made in memory."""
    place = place_of(getattr(module, "__spec__", None))
    if place is None or not place[0]:
        return place
    file, folders = place
    return (_absolute(file), folders) if file.endswith(_SUFFIXES) else None


def _absolute(path: str) -> str:
    """The absolute path; as it is when it is relative to a current folder that was removed."""
    try:
        return os.path.abspath(path)
    except OSError:
        return path


def _names_in(entries: Iterable[str]) -> Iterable[str]:
    """Names of what could be imported from these entries of a path, and some that could not."""
    for entry in entries:
        if os.path.isfile(entry):
            yield from (info.name for info in pkgutil.iter_modules([entry]))
            continue
        with contextlib.suppress(OSError):
            yield from (name.partition(".")[0] for name in os.listdir(entry or "."))


def _of_user(path: Iterable[str]) -> list[str]:
    return [entry for entry in path if not f"{entry}{os.sep}".startswith(_INSTALLED)]


class _PlaceFinder(MetaPathFinder):
    """Finds modules at the places where the client has them."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if fullname not in self._places:
            return None
        file, folders = self._places[fullname]
        inside = None if folders is None else list(folders)
        if file:
            return importlib.util.spec_from_file_location(
                fullname, file, submodule_search_locations=inside
            )
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = inside
        return spec
