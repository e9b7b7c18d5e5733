"""Imports that a fork server makes once, before the runs that need them.

Importing a large package takes seconds, forking a process that has imported it milliseconds. But a
task must find its process as if nothing had been imported yet, because packages change more than
sys.modules: environment variables, warning filters, finders. So an import is done in two halves:

    fork server   load("numpy")   imports it, then hides its modules and undoes what it changed
    worker        show_on_import  puts a finder on sys.meta_path that knows the hidden modules
    task          import numpy -> finder -> its loader puts the hidden modules into sys.modules,
                                  repeats what the import changed, and seeds random numbers anew

To ImportWatch the second half is an import like any other, so what it changed stays.

One call of `load` makes one hidden import. When a task imports any of its modules, this import and
those before it are shown, because a module may use those that were loaded earlier. Modules of the
standard library are not hidden: tasks meet many of them anyway, and their imports change nothing.

Unfit
-----
A package is unfit, and its fork server must be replaced by one without it, if its import

    starts a thread, leaves a child or opens a file or socket   it would be shared, or missing, in
                                                                the forked processes; threads that
                                                                a library ends at forks do no harm
    prints, or changes what cannot be repeated                  tasks that import it would miss that
    loads a module that is not installed                        the user may change it before a run
    raises                                                      a task must get the exception

A fork server is a misfit for one run if that run would import a module from another file, and it is
stale if a file that it has imported was changed since.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from dagnb_workers.surroundings import findable
from dagnb_workers.surroundings.aspects import Aspect, of_process
from dagnb_workers.surroundings.generator import Reseed, Unseeded
from dagnb_workers.surroundings.output import unnamed_file
from dagnb_workers.surroundings.surroundings import Surroundings, set_warnings

# Aspects that an import may change: the change is undone, and repeated where a task imports it.
_REPEATED = frozenset(
    {"environment variables", "warning filters", "sys.path", "sys.meta_path", "sys.path_hooks"}
)

# Aspects without a look that are compared all the same, because imports have changed them.
_COMPARED = frozenset({"umask"})

# The import of numpy 1 creates this aspect, so it always differs.
_CREATED = frozenset({"floating-point errors of numpy 1"})

_THREADS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")

_STATM = Path("/proc/self/statm")

IS_POSSIBLE = _THREADS.is_dir() and _FILES.is_dir()
"""True where the system shows threads and descriptors; elsewhere nothing is imported early."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one aspect by an import: the states before and after."""

    aspect: Aspect[Any]
    before: Any
    after: Any

    def undo(self) -> None:
        """Restore the state before the import."""
        self.aspect.restore(self.before)

    def repeat(self) -> None:
        """Make the same change to the present state."""
        self.aspect.restore(self.aspect.merge(self.aspect.keep(), self.before, self.after))


@dataclass(frozen=True, slots=True)
class HiddenImport:
    """The modules that it loaded, its changes, and new seeds for generators without a seed."""

    modules: dict[str, ModuleType]
    changes: tuple[Change, ...]
    reseeds: tuple[Reseed, ...]

    def show(self) -> None:
        """Finish the import in this process."""
        for name, module in self.modules.items():
            sys.modules.setdefault(name, module)
        for change in self.changes:
            change.repeat()

        # Each process gets numbers of its own, as if it had imported the module by itself.
        for reseed in self.reseeds:
            reseed()


class EarlyImports:
    """The early imports of this process. A forked process inherits them."""

    def __init__(self) -> None:
        self.hidden: list[HiddenImport] = []
        self._surroundings, self._cpus = Surroundings(is_whole=False), 1.0
        # Entries of sys.path and top-level modules from before: workers need both, so none of these
        # modules is ever hidden.
        self._entries: tuple[str, ...] = ()
        self._own: frozenset[str] = frozenset()
        self._places: dict[str, str] = {}
        self._marks: dict[str, tuple[int, int]] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request of the agent, for JSON.

        {"enter": surroundings, "cpus": n}               sets the surroundings of later imports
        {"load": name}                                   imports it; "unfit": the reason, or ''
        {"path": [...], "places": [...], "folder": ...}  "misfit": the reason, or ''; "stale"
        """
        if "enter" in request:
            self._surroundings = Surroundings.of(request["enter"])
            self._cpus = request["cpus"]
            self._entries, self._own = tuple(sys.path), frozenset(map(_top, sys.modules))
            return {}
        if "load" in request:
            return {"unfit": self.load(request["load"]), "memory_bytes": _resident_bytes()}
        misfit = self.misfit(request["path"], request["places"], request["folder"])
        return {"misfit": misfit, "stale": self.is_stale()}

    # ---- in the fork server ----

    def load(self, name: str) -> str:
        """Import a module, then hide it. Returns '', or why this process must be replaced."""
        for each in self.hidden:
            sys.modules.update(each.modules)
        known = set(sys.modules)
        with self._entered():
            before = _State()
            unseeded = Unseeded()
            with unseeded.watched():
                problem = _imported(name)
            problem = problem or before.problem()
            changes = before.changes()
            for change in changes:
                change.undo()

        modules = self._loaded_since(known)
        problem = problem or _foreign(modules)
        if not problem:
            self._note(known, modules)
            self.hidden.append(HiddenImport(modules, changes, unseeded.reseeds))
            for each in self.hidden:
                for name_hidden in each.modules:
                    sys.modules.pop(name_hidden, None)
        gc.freeze()  # a collection in a forked process would copy the memory of all objects
        return problem

    def misfit(self, path: Sequence[str], places: Iterable[str], folder: str) -> str:
        """Returns the name of a module that a run would import from another file; '' without one.

        path: the run's sys.path. places: modules that its client has loaded from elsewhere.
        folder: its current one.
        """
        elsewhere = set(map(_top, places))
        for name, entry in self._places.items():
            if name in elsewhere or entry not in path:
                return name

        importlib.invalidate_caches()  # the user may have made a file a moment ago
        entries = [os.path.join(folder, entry) for entry in path]
        new = [entry for entry in entries if entry not in self._entries]
        for name in findable.names_in([*new, *findable.of_user(entries)]):
            if name in self._places and findable.file_on(name, entries) != _file(self._found(name)):
                return name
        return ""

    def is_stale(self) -> bool:
        """Returns whether a file that was imported, or a folder of packages, has changed since."""
        return any(_mark(file) != mark for file, mark in self._marks.items())

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        """Set variables, folder and warning filters of the runs: packages read them at import."""
        environment, folder = dict(os.environ), os.getcwd()
        self._surroundings.enter_environment(self._cpus)
        with contextlib.suppress(OSError):
            os.chdir(self._surroundings.folder or folder)
        with warnings.catch_warnings():
            if self._surroundings.warnings is not None:
                set_warnings(self._surroundings.warnings)
            yield
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()

    def _loaded_since(self, known: set[str]) -> dict[str, ModuleType]:
        """Returns the modules to hide."""
        modules = {}
        for name, module in sys.modules.items():
            top = _top(name)
            if name in known or top in self._own or top in sys.stdlib_module_names:
                continue
            modules[name] = module
        return modules

    def _note(self, known: set[str], modules: Mapping[str, ModuleType]) -> None:
        """Remember the files of an import: those of hidden modules may become stale."""
        for name in set(sys.modules) - known:
            file = _file(sys.modules[name])
            if name != _top(name) or not file:
                continue
            parents = Path(file).parents
            entry = str(parents[Path(file).name.startswith("__init__.")])
            # Packages also load top-level modules from their own folders, which no path gives.
            if entry in self._entries:
                self._places[name] = entry
        for module in modules.values():
            if file := _file(module):
                self._marks[file] = _mark(file)
        for entry in self._places.values():
            self._marks[entry] = _mark(entry)

    def _found(self, name: str) -> ModuleType | None:
        for each in self.hidden:
            if name in each.modules:
                return each.modules[name]
        return sys.modules.get(name)

    # ---- in a worker ----

    def show_on_import(self) -> None:
        """Let tasks import the hidden modules; without any, do nothing."""
        if self.hidden:
            sys.meta_path.insert(0, _HiddenFinder(self))

    def take(self, name: str) -> list[HiddenImport]:
        """Returns the imports up to the one that loaded a module; they are not hidden any more."""
        n_taken = 0
        for number, each in enumerate(self.hidden, 1):
            if name in each.modules:
                n_taken = number
        taken, self.hidden = self.hidden[:n_taken], self.hidden[n_taken:]
        return taken


EARLY = EarlyImports()
"""Those of this process."""


class _HiddenFinder(importlib.abc.MetaPathFinder):
    """Finds modules that were imported early."""

    def __init__(self, early: EarlyImports) -> None:
        self._early = early

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See MetaPathFinder.find_spec."""
        for each in self._early.hidden:
            module = each.modules.get(fullname)
            own = getattr(module, "__spec__", None)
            if module is not None and own is not None:
                # Not the name in its own spec: a module may have a second name in sys.modules.
                return _spec(fullname, own, _HiddenLoader(self._early, fullname, module, own))
        return None


def _spec(name: str, own: ModuleSpec, loader: importlib.abc.Loader) -> ModuleSpec:
    """Returns a copy of a module's own spec with another loader."""
    spec = ModuleSpec(name, loader, origin=own.origin, loader_state=own.loader_state)
    spec.submodule_search_locations = own.submodule_search_locations
    spec.cached, spec.has_location = own.cached, own.has_location
    return spec


class _HiddenLoader(importlib.abc.Loader):
    """The loader of one hidden module. Its other attributes are those of the module's own."""

    def __init__(self, early: EarlyImports, name: str, module: ModuleType, own: ModuleSpec) -> None:
        self._early, self._name, self._module, self._own = early, name, module, own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See Loader.create_module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Show the module. Its code has run already."""
        # The import system has just written the copy into the module.
        module.__spec__, module.__loader__ = self._own, self._own.loader
        for each in self._early.take(self._name):
            each.show()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own.loader, name)


# ---- what an import does to the process ----


class _State:
    """The state of this process before an import."""

    def __init__(self) -> None:
        self._aspects: list[tuple[Aspect[Any], Callable[[], Any]]] = []
        for aspect in of_process(lambda name: getattr(sys, name)):
            look = aspect.keep if aspect.name in _COMPARED else aspect.look
            if look is not None and aspect.name not in _CREATED:
                self._aspects.append((aspect, look))
        # `keep` before `look`: the aspect of the environment looks at what was kept.
        self._kept = {aspect.name: aspect.keep() for aspect, _ in self._aspects}
        self._looks = [look() for _, look in self._aspects]
        self._n_threads, self._files = len(os.listdir(_THREADS)), _open_files()
        self._n_of_python = threading.active_count()

    def _changed(self) -> list[Aspect[Any]]:
        changed = []
        for (aspect, look), before in zip(self._aspects, self._looks, strict=True):
            if look() != before:
                changed.append(aspect)
        return changed

    def _has_new_thread(self) -> bool:
        """Returns whether the import started a thread that is still there after a fork.

        OpenBLAS ends its threads before each fork, and starts them again when it needs them.
        """
        if len(os.listdir(_THREADS)) == self._n_threads:
            return False
        if threading.active_count() != self._n_of_python:
            return True  # Python ends no thread for a fork

        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return len(os.listdir(_THREADS)) > self._n_threads

    def problem(self) -> str:
        """Returns what the import did that makes forks unsafe or cannot be repeated; or ''."""
        gc.collect()  # a file that only waits to be freed is no problem
        if self._has_new_thread():
            return "it starts a thread"
        if _has_child():
            return "it starts a process"
        if _open_files() != self._files:
            return "it leaves a file or a socket open"
        for aspect in self._changed():
            if aspect.name not in _REPEATED:
                return f"it changes an aspect of the process: {aspect.name}"
        return ""

    def changes(self) -> tuple[Change, ...]:
        """Returns the changes that can be undone and repeated."""
        repeated = filter(lambda aspect: aspect.name in _REPEATED, self._changed())
        kept = self._kept
        return tuple(Change(aspect, kept[aspect.name], aspect.keep()) for aspect in repeated)


def _imported(name: str) -> str:
    """Import a module. Returns '', or why it is unfit: it raised, or it printed."""
    printed = unnamed_file("dagnb-import")
    saved = [os.dup(number) for number in (1, 2)]
    problem = ""
    try:
        for number in (1, 2):
            os.dup2(printed, number)
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  # a module may raise anything, even SystemExit
        problem = f"its import raises {type(error).__name__}: {error}"
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        n_printed = os.fstat(printed).st_size
        for number, original in zip((1, 2), saved, strict=True):
            os.dup2(original, number)
        for fd in (printed, *saved):
            os.close(fd)
    return problem or ("its import prints" if n_printed else "")


def _foreign(modules: Mapping[str, Any]) -> str:
    """Returns why a module is unfit: it is the user's own, or no module; or ''."""
    for name, module in modules.items():
        if not isinstance(module, ModuleType):  # typed as one, but modules may replace themselves
            return f"it puts an object that is no module into sys.modules as {name}"
        file = _file(module)
        folders = [] if file else list(getattr(module, "__path__", ()))
        for path in (file, *folders):
            if path and not findable.is_installed(path):
                return f"it loads {name} from {path}, which is no folder of installed packages"
    return ""


def _has_child() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _open_files() -> set[tuple[str, str]]:
    """Returns number and target of each open descriptor."""
    files = set()
    for number in os.listdir(_FILES):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            files.add((number, os.readlink(_FILES / number)))
    return files


def _resident_bytes() -> int:
    """Returns the memory of this process that is in RAM."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _file(module: ModuleType | None) -> str:
    """Returns the file of a module, '' for one without."""
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location or not spec.origin:
        return ""
    return os.path.abspath(str(spec.origin))


def _mark(path: str) -> tuple[int, int]:
    """Returns what changes with a file or folder; zeros when it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _top(name: str) -> str:
    return name.partition(".")[0]
