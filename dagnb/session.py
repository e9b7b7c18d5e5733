"""The session of this process: its settings, the loop that talks to stores, the open stores.

User code is synchronous or lives in the notebook's own loop, so everything asynchronous runs on one
loop in a daemon thread. `wait` gives it a coroutine and stays interruptible.

    wait(work)    run it, return its value; an interrupt cancels it
    start(work)   run it, return a future
    later(work)   run it; only the end of the process waits for it, and only for a while
    pending()     what was given to later() and has not ended
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import dataclasses
import logging
import os
import secrets
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from dagnb import registry
from dagnb.errors import ConfigError
from dagnb.planning.planner import Planner
from dagnb.protocol.launcher import Launcher
from dagnb.protocol.usage import StoreUsage
from dagnb.storage.home import signing_key
from dagnb.storage.interface import Store
from dagnb.storage.open import MEMORY_URL, open_store
from dagnb.trace.upload import DEFAULT, Upload, strategy

T = TypeVar("T")

STORE_VARIABLE = "DAGNB_REDIS_URL"
NAMESPACE_VARIABLE = "DAGNB_NAMESPACE"
EVICTION_VARIABLE = "DAGNB_ALLOW_EVICTION"
VARIABLES = {
    STORE_VARIABLE: "URL of the store; without it a private embedded server is used",
    NAMESPACE_VARIABLE: (
        "prefix of all keys, so that several projects may share one server (default: dagnb)"
    ),
    EVICTION_VARIABLE: (
        "1 accepts a store of DAGNB_REDIS_URL that may delete keys when its memory is full "
        "(default: 0)"
    ),
    "DAGNB_HOME": "one directory for sockets, keys and state, instead of the XDG ones",
}
"""environment variable of the client -> its meaning"""

_log = logging.getLogger(__name__)

# A wait without a limit cannot be interrupted on every platform.
_INTERRUPT_CHECK_S = 0.1

# Seconds for which the end of the process waits for the history.
_PARTING_S = 5.0
_ON = frozenset(("1", "true", "yes", "on"))
_OFF = frozenset(("", "0", "false", "no", "off"))

# Seconds for which the end of the process waits for connections to close.
_CLOSING_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """A store by URL.

    allow_insecure: accept a server elsewhere without TLS or password.
    allow_eviction: accept a server that may delete results, or the state of a run, when its
      memory is full.
    """

    url: str = field(repr=False)
    namespace: str = "dagnb"
    allow_insecure: bool = False
    allow_eviction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults of the session.

    workers, planner: short name or configuration object. store: URL, Redis(...), or None.
    metrics: when workers upload their spans, see dagnb.trace.upload. percentile: how cautious plans
    are, see Problem.
    """

    workers: str | Launcher = "process"
    planner: str | Planner = "flexible"
    store: str | Redis | None = field(default=None, repr=False)
    metrics: str | Upload = DEFAULT
    percentile: float = 0.5

    def __post_init__(self) -> None:
        """Raises ConfigError for a percentile that is not between 0 and 1."""
        if not 0 < self.percentile < 1:
            raise ConfigError(
                f"percentile={self.percentile!r}: must be between 0 and 1, "
                "such as 0.9 to be cautious."
            )

    def launcher(self) -> Launcher:
        """Returns the launcher that `workers` is or names. Raises ConfigError, UnknownNameError."""
        launcher: object = self.workers
        if isinstance(launcher, str):
            launcher = registry.find("launcher", launcher)()
        if not isinstance(launcher, Launcher):
            raise ConfigError(
                f"workers={launcher!r}: give a name such as 'process', "
                "or an object such as Processes(n=4)."
            )
        if isinstance(launcher, type):  # a class has the methods of a launcher, too
            raise ConfigError(
                f"workers={launcher.__name__}: that is the class. Write {launcher.__name__}()."
            )
        return launcher

    def chosen_planner(self) -> Planner:
        """Returns the planner that `planner` is or names. Raises ConfigError, UnknownNameError."""
        planner: object = self.planner
        if isinstance(planner, str):
            planner = registry.find("planner", planner)()
        if not isinstance(planner, Planner):
            raise ConfigError(
                f"planner={planner!r}: give a name such as 'flexible', "
                "or an object such as OnePass()."
            )
        return planner

    def upload(self) -> Upload:
        """Returns the upload strategy that `metrics` is or names."""
        return strategy(self.metrics)


MEANINGS = {
    "workers": (
        "what runs tasks: a name such as process or docker, or an object such as Processes(n=4)"
    ),
    "planner": "what decides which worker runs which task",
    "store": (
        "where runs keep their state; not set: the embedded server, or memory for inline workers"
    ),
    "metrics": "when workers upload what they measured",
    "percentile": (
        "which percentile of the makespan planners keep short: 0.5 is the median, 0.9 is cautious"
    ),
}
"""setting -> its meaning"""
BY_CONFIGURE = "configure() in this session"
BY_OPTION = "option of the command line"

_settings = Settings()

# setting -> source of its value, where it is not the default.
_origins: dict[str, str] = {}


def settings(**changes: Any) -> Settings:
    """Returns the session's settings with some changed; None leaves one as it is.

    Raises ConfigError for an unknown name.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    known = {field.name for field in dataclasses.fields(Settings)}
    for name in given:
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}. Known: {', '.join(sorted(known))}.")
    return dataclasses.replace(_settings, **given)


def configure(**changes: Any) -> Settings:
    """Set defaults of the session, the fields of Settings. Returns the settings now in force.

    Raises ConfigError, UnknownNameError.
    """
    return configure_by(BY_CONFIGURE, **changes)


def configure_by(origin: str, **changes: Any) -> Settings:
    """Set defaults, as configure does.

    origin: the source of the values, as `%dag config` and `dagnb config` show it.
    """
    global _settings  # noqa: PLW0603  # the session is one per process, as the kernel is
    chosen = settings(**changes)
    # A wrong value should fail here, and not in the next run.
    chosen.launcher()
    chosen.chosen_planner()
    chosen.upload()
    _settings = chosen
    _origins.update({name: origin for name, value in changes.items() if value is not None})
    return chosen


def origin_of(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Returns the source of a setting: a call, an option, an environment variable, or 'default'."""
    if name in _origins:
        return _origins[name]
    if name == "store" and _settings.store is None and environ.get(STORE_VARIABLE):
        return f"environment variable {STORE_VARIABLE}"
    return "default"


# ---- the loop ----

_loop: asyncio.AbstractEventLoop | None = None

# Guards the start of the loop, and the warnings that were logged.
_lock = threading.Lock()


def loop() -> asyncio.AbstractEventLoop:
    """Returns the loop of this process, started when it is first needed."""
    global _loop  # noqa: PLW0603  # as above
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="dagnb", daemon=True).start()
        return _loop


# In a forked process, the loop, stores and pending futures of its parent.
_parents: list[object] = []


def _part_from_parent() -> None:
    """Begin anew in a forked process, which has the memory of the loop but not its thread.

    The child must not close what its parent has open: they share sockets and the loop's epoll set,
    so the parent's connections would receive nothing any more. Therefore the old loop is never
    freed, not even when the interpreter ends.
    """
    global _loop, _lock  # noqa: PLW0603  # as above
    _parents.append((_loop, dict(_stores), set(_later)))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_parents))  # a reference that is never dropped
    _loop = None
    _lock = threading.Lock()  # another thread may have held the old one at the fork
    _stores.clear()
    _later.clear()


os.register_at_fork(after_in_child=_part_from_parent)


def start(work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Run a coroutine on the loop; returns at once."""
    return asyncio.run_coroutine_threadsafe(work, loop())


Pending: TypeAlias = frozenset[concurrent.futures.Future[Any]]
"""coroutines given to later() that had not ended at one moment"""

_later: set[concurrent.futures.Future[Any]] = set()


def later(work: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine on the loop; only the end of the process waits for it, for _PARTING_S."""
    # Registered anew, so that it runs before what was registered earlier: the stores close last.
    if not _later:
        atexit.unregister(_finish_later)
        atexit.register(_finish_later)
    future = start(work)
    _later.add(future)
    future.add_done_callback(_later.discard)


def pending() -> Pending:
    """Returns the coroutines given to later() that have not ended."""
    return frozenset(_later)


def wait_for(coroutines: Pending, timeout_s: float) -> None:
    """Wait for coroutines that were given to later(), at most timeout_s."""
    concurrent.futures.wait(coroutines, timeout=timeout_s)


def wait_for_pending(timeout_s: float) -> None:
    """Wait for all coroutines given to later(), at most timeout_s."""
    wait_for(pending(), timeout_s)


def _finish_later() -> None:
    wait_for_pending(_PARTING_S)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop and wait for it; an interrupt cancels it and is raised here."""
    future = start(work)
    try:
        while not concurrent.futures.wait((future,), timeout=_INTERRUPT_CHECK_S).done:
            pass
    except KeyboardInterrupt:
        future.cancel()
        raise
    return future.result()


# ---- warnings ----

_warned: set[str] = set()


def warn_once(error: Exception) -> None:
    """Log an error that stops nothing: once in a process, however often it occurs."""
    # Planning and the record of the previous run may meet the same error, in two threads.
    with _lock:
        is_new = str(error) not in _warned
        _warned.add(str(error))
    if is_new:
        _log.warning("%s", error)


# ---- interrupts ----

# Jupyter interrupts a kernel and asks it to shut down milliseconds later; 1 s if busy.
_SHUTDOWN_NOTICE_S = 1.0

_shutdown: threading.Event | None = None


def use_shutdown_event(event: threading.Event | None) -> None:
    """Set the event that tells that this process is asked to shut down; None: there is none."""
    global _shutdown  # noqa: PLW0603  # one per process, as the session is
    _shutdown = event


def shutdown_follows() -> bool:
    """Returns whether the interrupt that was just received announces the end of this process.

    Waits a moment for the answer if there is an event for it. A second interrupt ends that wait: it
    comes from the user.
    """
    if _shutdown is None:
        return False
    try:
        return _shutdown.wait(_SHUTDOWN_NOTICE_S)
    except KeyboardInterrupt:
        return _shutdown.is_set()


async def shutdown_follows_soon() -> bool:
    """Returns as shutdown_follows, in a running loop, where interrupts are CancelledError."""
    if _shutdown is None:
        return False
    try:
        return await asyncio.to_thread(_shutdown.wait, _SHUTDOWN_NOTICE_S)
    except asyncio.CancelledError:
        return _shutdown.is_set()


# ---- stores ----

_stores: dict[tuple[str, str], Store] = {}
_memory_key = secrets.token_bytes(32)  # such a store ends with the process


async def store_for(chosen: Settings, launcher: Launcher) -> tuple[Store, Redis]:
    """Returns the open store of a run, and the terms by which workers open it, too.

    The URL in the terms holds the credentials.
    """
    terms = chosen.store
    if terms is None:
        terms = os.environ.get(STORE_VARIABLE) or await launcher.default_store()
    if isinstance(terms, str):
        terms = terms_of(terms)
    return await reopened(terms), terms


def terms_of(url: str, environ: Mapping[str, str] = os.environ) -> Redis:
    """Returns the terms of a store given as a URL alone: the environment holds the others.

    Raises ConfigError.
    """
    namespace = environ.get(NAMESPACE_VARIABLE) or "dagnb"
    return Redis(
        url=url,
        namespace=namespace,
        allow_eviction=_is_on(EVICTION_VARIABLE, environ),
    )


def _is_on(variable: str, environ: Mapping[str, str]) -> bool:
    value = environ.get(variable, "").strip().lower()
    if value in _ON:
        return True
    if value in _OFF:
        return False
    raise ConfigError(f"{variable}={value!r}: must be 1 or 0.")


def usage(chosen: Settings) -> StoreUsage:
    """Returns the bytes that the store holds, in all and of each run.

    Raises StorageError, LaunchError.
    """

    async def read() -> StoreUsage:
        store, _ = await store_for(chosen, chosen.launcher())
        return await store.usage()

    return wait(read())


def _close_stores() -> None:
    """Close all stores at the end of the process; else Python warns of each open connection.

    A thread that asks the store after that, such as that of a live view, opens another connection.
    """
    if not _stores or _loop is None or not _loop.is_running():
        return
    closing = [start(store.close()) for store in _stores.values()]
    concurrent.futures.wait(closing, timeout=_CLOSING_S)


# Runs after everything that is registered later, so after the last records for the history.
atexit.register(_close_stores)


async def reopened(terms: Redis) -> Store:
    """Returns the store of these terms; one that is open is shared."""
    key = (terms.url, terms.namespace)
    if key not in _stores:
        _stores[key] = await open_store(
            terms.url,
            namespace=terms.namespace,
            allow_insecure=terms.allow_insecure,
            allow_eviction=terms.allow_eviction,
        )
    return _stores[key]


def key_for(store: Store) -> bytes:
    """Returns the 32 bytes that sign for this user on this store."""
    return _memory_key if store.url == MEMORY_URL else signing_key(store.url)
