"""Aspects of a process that a task can change: how to compare each, and how to restore it.

A look at an aspect gives a value that is equal to the last one if nothing changed. It is cheap,
because it is taken after every task. Single objects of the user's are compared by identity, because
their own comparison could run user code.

The state of modules (seeds of random numbers, caches, attributes set on them) is no aspect: only
the modules themselves know it.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import faulthandler
import functools
import gc
import importlib
import locale
import logging
import os
import signal
import socket
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K")


def _latest(kept: K, before: K, after: K) -> K:
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect(Generic[K]):
    """One aspect.

    look: returns a value that is equal as long as nothing changed. None: the aspect is restored
    after every task, because that is as cheap as a look, or because a look would show nothing.
    keep: returns what `restore` needs.
    merge: (kept, before, after) -> what is kept after an import changed the aspect. `before` and
    `after` are the states before and after the import; the task may have changed the first.
    """

    name: str
    look: Callable[[], Any] | None
    keep: Callable[[], K]
    restore: Callable[[K], object]
    merge: Callable[[K, K, K], K] = _latest


def _value(name: str, look: Callable[[], K], restore: Callable[[K], object]) -> Aspect[K]:
    """Returns an aspect that is one plain value."""
    return Aspect(name=name, look=look, keep=look, restore=restore)


def _unseen(name: str, keep: Callable[[], K], restore: Callable[[K], object]) -> Aspect[K]:
    """Returns an aspect without a look."""
    return Aspect(name=name, look=None, keep=keep, restore=restore)


# ---- lists ----


def _joined(kept: list[Any], before: list[Any], after: list[Any]) -> list[Any]:
    """Returns what was kept, with what the import put in front of it and behind it."""
    in_front: list[Any] = []
    behind: list[Any] = []
    target = in_front
    for item in after:
        if item in before:
            target = behind  # items after a known one are not in front
        elif target is in_front or item not in in_front:
            target.append(item)
    return [*in_front, *kept, *behind]


def _list(
    name: str, look: Callable[[], list[Any]], current: Callable[[], list[Any]]
) -> Aspect[list[Any]]:
    """Returns an aspect that is a list. look: gives a copy. current: gives the list itself."""

    def restore(kept: list[Any]) -> None:
        current()[:] = kept

    return Aspect(name=name, look=look, keep=look, restore=restore, merge=_joined)


# ---- signals ----

_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in (
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGPIPE",
        "SIGQUIT",
        "SIGTERM",
        "SIGUSR1",
        "SIGUSR2",
    )
)
"""Signals for which programs set handlers. SIGINT is left out: each call sets its handler."""

_signals = importlib.import_module("_signal")
"""The C module below `signal`, whose functions return plain numbers.

`signal` converts them to enumerations, which takes ten times as long as the look itself.
"""

_handler: Callable[[int], Any] = _signals.getsignal

set_handler: Callable[[int, Any], Any] = _signals.signal
"""Sets the handler of a signal, in the main thread. Returns the handler before."""


def _handlers() -> tuple[Any, ...]:
    return tuple(map(_handler, _SIGNALS))


def _handlers_look() -> tuple[int, ...]:
    return tuple(map(id, map(_handler, _SIGNALS)))


def _set_handlers(kept: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, kept, strict=True):
        if handler is not None and _handler(number) is not handler:
            signal.signal(number, handler)
    report_crashes()


def report_crashes() -> None:
    """Make Python write the lines that led to a crash, or that a time limit interrupted."""
    # Disabled first: enabling twice would not install the handlers again.
    faulthandler.disable()
    faulthandler.unregister(signal.SIGTERM)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGTERM, file=2, chain=True)


def report_no_end() -> None:
    """Write no report at SIGTERM in a process that a task forked: pools end processes by it."""
    faulthandler.unregister(signal.SIGTERM)


def _stop_alarm(kept: None) -> None:
    signal.alarm(0)  # stops the real-time interval timer as well: they are one


def _mask() -> set[int]:
    blocked: set[int] = _signals.pthread_sigmask(signal.SIG_BLOCK, ())
    return blocked


def _set_mask(kept: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, kept)


# ---- folder, environment, umask ----


def current_folder() -> str:
    """Returns the current folder, '' when it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _set_folder(kept: str) -> None:
    with contextlib.suppress(OSError):  # the task has removed it
        os.chdir(kept)


_IS_GLIBC = "CS_GNU_LIBC_VERSION" in os.confstr_names
_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)


class _Environment:
    """The variables as the C library has them: a look takes a fiftieth of reading os.environ.

    environ -> [ pointer to "A=1" | pointer to "B=2" | ... | NULL ]
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            library._NSGetEnviron.restype = ctypes.POINTER(ctypes.c_void_p)
            self._first = library._NSGetEnviron().contents
        else:
            self._first = ctypes.c_void_p.in_dll(library, "environ")
        self._address: int | None = None
        self._n = 0

    def look(self) -> object:
        """Returns the array's entries that were there at the last `keep`, its end included.

        With glibc the pointers are enough: glibc never overwrites a variable, and never reuses its
        memory for another one.
        """
        address = self._first.value
        # Another array may be shorter than the one before, so it must not be read.
        if address is None or address != self._address:
            return object()  # equal to nothing, which shows a change
        if _IS_GLIBC:
            return ctypes.string_at(address, self._n * _POINTER_BYTES)
        return (ctypes.c_char_p * self._n).from_address(address)[:]

    def keep(self) -> dict[str, str]:
        """Returns all variables, and remembers their array for `look`."""
        self._address, self._n = self._first.value, 1
        while self._address is not None and self._at(self._n - 1) is not None:
            self._n += 1
        return dict(os.environ)

    def restore(self, kept: dict[str, str]) -> None:
        """Set and unset variables, also those that only the C library knows."""
        for name in list(os.environ):
            if name not in kept:
                del os.environ[name]

        self.keep()
        lines: list[bytes | None] = []
        if self._address is not None:
            lines = (ctypes.c_char_p * (self._n - 1)).from_address(self._address)[:]
        for line in lines:
            name = os.fsdecode(line or b"").partition("=")[0]
            if name and name not in kept:
                os.unsetenv(name)

        for name, value in kept.items():
            os.environ[name] = value

    def _at(self, number: int) -> int | None:
        assert self._address is not None
        return ctypes.c_void_p.from_address(self._address + number * _POINTER_BYTES).value

    @staticmethod
    def merge(
        kept: dict[str, str], before: dict[str, str], after: dict[str, str]
    ) -> dict[str, str]:
        """Returns what was kept, with what the import changed."""
        merged = dict(kept)
        for name in before:
            if name not in after:
                merged.pop(name, None)
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        return merged | changed


def _set_environ(kept: Any) -> None:
    os.environ = kept  # noqa: B003  # its variables are put back one by one afterwards


def current_umask() -> int:
    """Returns the umask. Reading it means setting it, for a moment to the strictest one."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# ---- standard streams ----

_STREAMS = ("stdin", "stdout", "stderr")


class _Streams:
    """sys.stdin, sys.stdout and sys.stderr."""

    def __init__(self, opened: Callable[[str], Any]) -> None:
        """Keep `opened`, which returns a new stream for a name, on its descriptor."""
        self._opened = opened

    @staticmethod
    def look() -> tuple[Any, ...]:
        """Returns identities of the streams, and whether one of them is closed."""
        first, second, third = sys.stdin, sys.stdout, sys.stderr
        try:
            closed = first.closed or second.closed or third.closed
        except Exception:  # noqa: BLE001  # a stream was detached, or is of a user's class
            closed = True
        return id(first), id(second), id(third), bool(closed)

    @staticmethod
    def keep() -> tuple[Any, ...]:
        """Returns the streams themselves."""
        return sys.stdin, sys.stdout, sys.stderr

    def restore(self, kept: tuple[Any, ...]) -> None:
        """Flush what the task wrote, then open new streams."""
        for stream in (sys.stdout, sys.stderr, *kept[1:]):
            # A stream of a user's class may raise anything.
            with contextlib.suppress(Exception):
                stream.flush()
        # New streams, because objects of the task may hold the old ones, and close them when freed.
        for name in _STREAMS:
            stream = self._opened(name)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _descriptors() -> Aspect[tuple[int, ...]]:
    @functools.cache
    def keep() -> tuple[int, ...]:
        # Copies are made once: a descriptor's number does not show what a task has opened as it.
        return tuple(map(os.dup, range(3)))

    def restore(kept: tuple[int, ...]) -> None:
        for number, original in enumerate(kept):
            os.dup2(original, number)

    return _unseen("descriptors 0, 1 and 2", keep, restore)


# ---- of Python ----

_HOOKS = (
    (sys, "excepthook"),
    (sys, "unraisablehook"),
    (sys, "displayhook"),
    (threading, "excepthook"),
    (warnings, "showwarning"),
    (warnings, "formatwarning"),
    (builtins, "print"),
    (builtins, "open"),
    (builtins, "input"),
    (builtins, "__import__"),
)


def _hooks() -> tuple[Any, ...]:
    return tuple(getattr(module, name) for module, name in _HOOKS)


def _hooks_look() -> tuple[int, ...]:
    # The list is written out, because a loop over _HOOKS takes longer.
    return (
        id(sys.excepthook),
        id(sys.unraisablehook),
        id(sys.displayhook),
        id(threading.excepthook),
        id(warnings.showwarning),
        id(warnings.formatwarning),
        id(builtins.print),
        id(builtins.open),
        id(builtins.input),
        id(builtins.__import__),
    )


def _set_hooks(kept: tuple[Any, ...]) -> None:
    for (module, name), hook in zip(_HOOKS, kept, strict=True):
        setattr(module, name, hook)


def _filters() -> list[Any]:
    return list(warnings.filters)


def _set_filters(kept: list[Any]) -> None:
    warnings.filters[:] = kept  # type: ignore[index]  # typed as a sequence
    # Leaving the block makes modules forget what earlier filters decided.
    with warnings.catch_warnings():
        pass


_root = logging.getLogger()


def _logging() -> tuple[int, int, list[Any], list[Any]]:
    return _root.level, _root.manager.disable, _root.handlers[:], _root.filters[:]


def _set_logging(kept: tuple[int, int, list[Any], list[Any]]) -> None:
    level, disabled, handlers, filters = kept
    _root.setLevel(level)
    logging.disable(disabled)
    _root.handlers[:], _root.filters[:] = handlers, filters


def _zone() -> tuple[Any, ...]:
    return time.tzname, time.timezone, time.altzone


def _set_zone(kept: tuple[Any, ...]) -> None:
    time.tzset()  # reads TZ, a variable of the environment, which is put back before


def _locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def _set_locale(kept: str) -> None:
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, kept)


def _traces() -> tuple[Any, Any]:
    return sys.gettrace(), sys.getprofile()


def _set_traces(kept: tuple[Any, Any]) -> None:
    sys.settrace(kept[0])
    sys.setprofile(kept[1])


def _settings() -> tuple[Any, ...]:
    return (
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.get_int_max_str_digits(),
        gc.isenabled(),
        gc.get_threshold(),
        socket.getdefaulttimeout(),
        tracemalloc.is_tracing(),
        faulthandler.is_enabled(),
    )


def _set_settings(kept: tuple[Any, ...]) -> None:
    depth, interval_s, digits, collects, threshold, timeout_s, traces, _ = kept
    sys.setrecursionlimit(depth)
    sys.setswitchinterval(interval_s)
    sys.set_int_max_str_digits(digits)
    (gc.enable if collects else gc.disable)()
    gc.set_threshold(*threshold)
    socket.setdefaulttimeout(timeout_s)
    if not traces:
        tracemalloc.stop()
    report_crashes()


def _nothing() -> None:
    """Keep nothing: the aspect is always restored to the same state."""


def _cancel_dump(kept: None) -> None:
    faulthandler.cancel_dump_traceback_later()


def _policy() -> asyncio.AbstractEventLoopPolicy | None:
    """Returns the policy; None for Python's own, as a new one lacks the loop that a task left."""
    policy = asyncio.get_event_loop_policy()
    if type(policy).__module__.startswith("asyncio."):
        return None
    return policy


def _loop_of_process() -> Aspect[Any]:
    # From Python 3.14 on, asking for the policy warns that policies are going to be removed.
    if sys.version_info >= (3, 14):
        return _LOOP
    return _unseen("event loop policy, current loop", _policy, asyncio.set_event_loop_policy)


def _forget_loop(kept: None) -> None:
    asyncio.set_event_loop(None)  # as in a thread that ran no task yet


_LOOP = _unseen("current event loop", _nothing, _forget_loop)


# ---- of libraries that a task may have imported ----


def _from_loaded(module: str, name: str) -> Any:
    """Returns an attribute of a module, None where the module is not, or not yet, imported."""
    loaded = sys.modules.get(module)
    return None if loaded is None else vars(loaded).get(name)


def _floats() -> Any:
    """Returns the treatment of overflow and the like by numpy 1.

    numpy 2 has a context variable for it, of which each task has its own.
    """
    look = _from_loaded("numpy", "geterrobj")
    return None if look is None else list(look())  # a copy, because numpy returns its own list


def _set_floats(kept: Any) -> None:
    numpy = sys.modules["numpy"]
    if kept is not None:
        numpy.seterrobj(kept[:])
    else:
        # The task imported numpy: these are its defaults, by the documentation of seterr.
        numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


def _start_method() -> Any:
    look = _from_loaded("multiprocessing", "get_start_method")
    return None if look is None else look(allow_none=True)


def _set_start_method(kept: str | None) -> None:
    sys.modules["multiprocessing"].set_start_method(kept, force=True)


# ---- all of them ----

_EACH_THREAD: tuple[Aspect[Any], ...] = (
    _value("blocked signals", _mask, _set_mask),
    _value("trace and profile functions", _traces, _set_traces),
    _value("floating-point errors of numpy 1", _floats, _set_floats),
)
"""aspects that are separate in each thread"""


def of_process(opened: Callable[[str], Any]) -> tuple[Aspect[Any], ...]:
    """Returns all aspects of a process that runs one task at a time, in the order of restoring.

    The order matters: alarms stop first, so that none rings while the rest is restored; descriptors
    come before the streams on them, and variables before the time zone, which TZ sets.

    opened: returns a new standard stream for a name, on its descriptor.
    """
    streams, environment = _Streams(opened), _Environment()
    return (
        _unseen("alarm, real-time interval timer", _nothing, _stop_alarm),
        Aspect(name="signal handlers", look=_handlers_look, keep=_handlers, restore=_set_handlers),
        *_EACH_THREAD,
        _descriptors(),
        Aspect(
            name="standard streams",
            look=streams.look,
            keep=streams.keep,
            restore=streams.restore,
        ),
        _value("current folder", current_folder, _set_folder),
        Aspect(
            name="os.environ itself",
            look=lambda: id(os.environ),
            keep=lambda: os.environ,
            restore=_set_environ,
        ),
        Aspect(
            name="environment variables",
            look=environment.look,
            keep=environment.keep,
            restore=environment.restore,
            merge=environment.merge,
        ),
        _unseen("umask", current_umask, os.umask),
        _value("locale", _locale, _set_locale),
        _value("time zone", _zone, _set_zone),
        _list("sys.path", lambda: sys.path[:], lambda: sys.path),
        _list("sys.argv", lambda: sys.argv[:], lambda: sys.argv),
        _list("sys.meta_path", lambda: sys.meta_path[:], lambda: sys.meta_path),
        _list("sys.path_hooks", lambda: sys.path_hooks[:], lambda: sys.path_hooks),
        Aspect(
            name="warning filters",
            look=_filters,
            keep=_filters,
            restore=_set_filters,
            merge=_joined,
        ),
        _value("logging: root logger, logging.disable", _logging, _set_logging),
        Aspect(
            name="hooks of sys, threading and warnings; print, open, input, import",
            look=_hooks_look,
            keep=_hooks,
            restore=_set_hooks,
        ),
        _value(
            "settings of the interpreter (limits, garbage collection, ...)",
            _settings,
            _set_settings,
        ),
        _unseen("dumps of faulthandler to come", _nothing, _cancel_dump),
        _loop_of_process(),
        _value("start method of multiprocessing", _start_method, _set_start_method),
    )


def of_thread() -> tuple[Aspect[Any], ...]:
    """Returns the aspects of a thread that shares its process with others."""
    return *_EACH_THREAD, _LOOP
