"""The SQLite file of past runs: opened for each use, waited for when busy, set aside when damaged.

    no file           -> created with our tables
    older version     -> upgraded, where the schema says how; else created again, and empty
    later version     -> HistoryError: upgrade dagnb
    locked            -> waited for PATIENCE_S, then HistoryError
    damaged           -> renamed to NAME.damaged-TIME-RANDOM, a new one begins
    cannot be written -> HistoryError; runs go on without history

A fork while a connection is open would copy SQLite's locks into a process that cannot release
them, and closing the copy there could undo what is written here. So a fork waits until no thread
of this process uses the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dagnb.errors import HistoryError
from dagnb.graph.brief import brief

# Seconds to wait for a file that another process has locked: a client must not hang at its end.
PATIENCE_S = 5.0

# Seconds that a fork waits for threads that use the file.
_FORK_S = 2.0
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
# SQLite has no code for a sound file whose tables are not ours, only these words.
_FOREIGN = ("no such table", "no such column", "already exists", "has no column")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a file. version: stored in it, and raised with every change of the tables.

    tables: their names, also those of earlier versions. script: the statements that create them.
    upgrades: version -> the statements that make the next version of it, and keep its rows.
    """

    version: int
    tables: tuple[str, ...]
    script: str
    upgrades: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    __repr__ = brief


@contextlib.contextmanager
def opened(path: Path, schema: Schema) -> Iterator[sqlite3.Connection]:
    """Opens a transaction on the file, which is created when missing.

    Raises HistoryError when it cannot be used, or turned out to be damaged and was set aside.
    """
    with _uses.counted(), contextlib.ExitStack() as using:
        inode = 0
        try:
            db, inode = _connected(path, schema, using)
            with db:
                yield db
        except (sqlite3.Error, OSError) as error:
            # A damaged file is set aside next, which waits until no connection is open.
            using.close()
            raise HistoryError(_problem(path, inode, error)) from error


def _problem(path: Path, inode: int, error: Exception) -> str:
    """Returns the problem with the history, and the cure; sets a damaged file aside.

    inode: of the file that was open, 0 if there was none.
    """
    if inode and _is_damaged(error):
        with contextlib.suppress(OSError):
            aside = _set_aside(path, inode) or "another name by another process"
            return (
                f"the history in {path} is damaged: {error}. "
                f"It was set aside as {aside}; the next use begins anew."
            )
    code = _code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        held = f"Another process has held it for {PATIENCE_S:g} s"
        cure = f"{held}; see which with `fuser {path}`."
    elif code == sqlite3.SQLITE_FULL:
        cure = "Make room on that disk, or set DAGNB_HOME to a folder on another."
    else:
        cure = "Make that file and its folder yours to write, or move it away to begin a new one."
    return f"the history in {path} cannot be used: {error}. Runs go on without it. {cure}"


# ---- the file ------------------------------------------------------------------------------------


def _connected(
    path: Path, schema: Schema, using: contextlib.ExitStack
) -> tuple[sqlite3.Connection, int]:
    """Returns a connection to a file with our tables, and its inode; sets a damaged one aside.

    using: closes the connection, then releases the lock on the file.
    """
    while True:
        with contextlib.ExitStack() as attempt:
            # The lock is exclusive where the file has to be created: of several connections that
            # switch a new file to a write-ahead log at once, each would wait for the others and
            # fail as busy.
            had_file = path.exists()
            attempt.enter_context(_locked(path, fcntl.LOCK_SH if had_file else fcntl.LOCK_EX))
            had_file = path.exists()
            db = attempt.enter_context(
                contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S))
            )
            inode = _inode(path)
            try:
                _prepare(db, path, schema)
            except sqlite3.Error as error:
                # If there was no file before, the one there now is our own empty one, which is not
                # damaged.
                if not (had_file and _is_damaged(error)):
                    raise
                damage = error
            else:
                using.push(attempt.pop_all())
                return db, inode

        aside = _set_aside(path, inode)
        if aside:
            _log.warning(
                "the history in %s was damaged: %s. It was set aside as %s; a new one begins",
                path,
                damage,
                aside,
            )


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Holds a lock on the name of the file: shared while it is used, exclusive to set it aside.

    SQLite finds the write-ahead log and its shared memory by the file's name. A connection that
    outlived a renaming would mix those of the new file with the old one: lost runs, or SIGBUS.
    """
    with contextlib.ExitStack() as held:
        # A file system that cannot be written to may still be read, and nothing is renamed there.
        with contextlib.suppress(OSError):
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, how)
        yield


def _inode(path: Path) -> int:
    """Returns the inode of the file, 0 where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _prepare(db: sqlite3.Connection, path: Path, schema: Schema) -> None:
    # A file system that cannot be written to may still be read.
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    # A power cut may lose the last run, never the file; "full" would sync at each run.
    db.execute("pragma synchronous = normal")
    version = _version(db)
    if version > schema.version:
        raise HistoryError(
            f"{path} was written by a later dagnb (its version {version}, ours {schema.version}). "
            "Upgrade dagnb, or move that file away."
        )
    if version < schema.version:
        _upgrade(db, schema)


def _is_damaged(error: Exception) -> bool:
    if _code(error) in _DAMAGED:
        return True
    if not isinstance(error, sqlite3.OperationalError):
        return False
    return any(words in str(error) for words in _FOREIGN)


def _code(error: Exception) -> int:
    """Returns SQLite's number for the kind of error; 0 for other errors."""
    # Only the low byte: the other bytes distinguish many causes of the same kind.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _set_aside(path: Path, inode: int) -> str:
    """Renames the file with all that belongs to it. Returns its new name, '' if it is gone."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    aside = f"{path.name}.damaged-{stamp}-{secrets.token_hex(2)}"
    with _locked(path, fcntl.LOCK_EX):
        # Of several processes that saw the damage, only the first may rename: the second would set
        # the new file aside.
        if _inode(path) != inode:
            return ""
        # The file itself goes last: before, a new one could find the old write-ahead log.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    return aside


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("pragma user_version").fetchone()[0]
    return version


def _upgrade(db: sqlite3.Connection, schema: Schema) -> None:
    """Creates the tables, or brings older ones up to date, unless another process just did."""
    # Readers do not block the writer, and a kill leaves a readable file.
    db.execute("pragma journal_mode = wal")
    with db:
        # The write lock at once: a transaction that begins as reader would fail when it upgrades.
        db.execute("begin immediate")
        version = _version(db)
        if version == schema.version:
            return
        # executescript would commit the open transaction first.
        for statement in _statements(schema, version):
            db.execute(statement)
        db.execute(f"pragma user_version = {schema.version}")


def _statements(schema: Schema, version: int) -> list[str]:
    """Returns the statements that make the tables from those of a version; 0: there are none."""
    steps = range(version, schema.version)
    if version and all(step in schema.upgrades for step in steps):
        script = ";".join(schema.upgrades[step] for step in steps)
        return script.split(";")
    # Versions from before the first release are dropped.
    drops = [f"drop table if exists {table}" for table in schema.tables] if version else []
    return [*drops, *schema.script.split(";")]


# ---- forks ---------------------------------------------------------------------------------------


class _Uses:
    """The number of threads of this process that use the file just now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts the caller as one of them; waits for a fork that is under way."""
        with self._changed:
            self._n += 1
        try:
            yield
        finally:
            with self._changed:
                self._n -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Waits until no thread uses the file, and lets none begin."""
        self._changed.acquire()
        # With a limit: a thread that forks while it uses the file would wait for itself for ever.
        self._changed.wait_for(lambda: not self._n, timeout=_FORK_S)

    def after_fork_here(self) -> None:
        """Lets threads use the file again."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Begins anew: threads of the parent do not exist in the child."""
        self.__init__()  # type: ignore[misc]  # it resets every field


_uses = _Uses()
os.register_at_fork(
    before=_uses.before_fork,
    after_in_parent=_uses.after_fork_here,
    after_in_child=_uses.after_fork_in_child,
)
