"""The SQLite file of past runs: opened for each use, waited for when it is busy, set aside when it is damaged.

Whoever forks while a connection is open gives SQLite's locks to a process that cannot release them, and its closing
there could undo what is written here. So a fork waits until no thread of this process uses the file.
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
from collections.abc import Iterator
from pathlib import Path

from dagnb.errors import HistoryError

VERSION = 3
PATIENCE_S = 5.0
"""so long a file is waited for that another process has locked"""

_FORK_S = 2.0
_TABLES = ("runs", "samples", "acts", "birth")
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_FOREIGN = ("no such table", "no such column", "already exists", "has no column")
"""what SQLite says of a sound file whose tables are not ours"""

_log = logging.getLogger(__name__)

_SCHEMA = """
create table runs (
    run text primary key, name text, planner text, platform text, state text,
    submitted_at real, makespan_s real, p50_s real, n_steps int, story text, trace blob, n_bytes int
) without rowid;
create index runs_by_time on runs (submitted_at, run, n_bytes);
create table samples (
    id integer primary key autoincrement, run text, function text, name text, resources text,
    input_bytes int, output_bytes int, load_s real, run_s real, dump_s real, ended_at real, key text
);
create index samples_by_name on samples (name, id);
create table acts (
    id integer primary key autoincrement, run text, platform text, phase text, detail text, resources text,
    n_bytes int, seconds real
);
create index acts_by_kind on acts (platform, phase, detail, id);
create table birth (mark text);
"""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on the file, which is made when missing.

    Raises HistoryError when it cannot be used, or was found to be damaged in the middle and was set aside.
    """
    with _uses.one():
        db, inode = None, 0
        try:
            db, inode = _connected(path)
            with db:
                yield db
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(_problem(path, inode, error)) from error
        finally:
            if db is not None:
                db.close()


def _problem(path: Path, inode: int, error: Exception) -> str:
    """What is wrong with the history, and the cure; a damaged file is set aside. inode: 0 before it was open."""
    if inode and _is_damaged(error):
        with contextlib.suppress(OSError):
            aside = _set_aside(path, inode)
            return f"the history in {path} is damaged: {error}. It was set aside as {aside}; the next use begins anew."
    code = _code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        cure = f"Another process has held it for {PATIENCE_S:g} s; see which with `fuser {path}`."
    elif code == sqlite3.SQLITE_FULL:
        cure = "Make room on that disk, or set DAGNB_HOME to a folder on another."
    else:
        cure = "Make that file and its folder yours to write, or move it away to begin a new one."
    return f"the history in {path} cannot be used: {error}. Runs go on without it. {cure}"


def forget(db: sqlite3.Connection) -> None:
    """Delete everything that is kept."""
    for table in _TABLES:
        db.execute(f"delete from {table}")  # noqa: S608  # names of ours
    _create_schema(db)


# ---- the file ---------------------------------------------------------------------------------------------------


def _connected(path: Path) -> tuple[sqlite3.Connection, int]:
    """A connection to a file with our tables, and the file's inode; a damaged one is set aside first."""
    while True:
        before = _inode(path)
        db = sqlite3.connect(path, timeout=PATIENCE_S)
        inode = _inode(path)
        if before not in {
            0,
            inode,
        }:  # set aside by another just now: which of both files is open is unknown
            db.close()
            continue
        try:
            _prepare(db, path)
        except (sqlite3.Error, HistoryError) as error:
            db.close()
            if _inode(path) not in {0, inode}:
                continue  # set aside meanwhile: what this connection met belongs partly to the new file
            if not _is_damaged(error):
                raise
            if before:
                aside = _set_aside(path, inode)
                _log.warning(
                    "the history in %s was damaged: %s. It was set aside as %s; a new one begins",
                    path,
                    error,
                    aside,
                )
        else:
            return db, inode


def _inode(path: Path) -> int:
    """0 where there is no file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    with contextlib.suppress(OSError):  # a file system that cannot be written to may still be read
        path.chmod(0o600)
    db.execute("pragma synchronous = normal")  # a power cut may take the last run, never the file
    version = _version(db)
    if version > VERSION:
        raise HistoryError(
            f"{path} was written by a later dagnb (its version {version}, ours {VERSION}). "
            "Upgrade dagnb, or move that file away."
        )
    if version < VERSION:
        _begin(db)


def _is_damaged(error: Exception) -> bool:
    is_foreign = isinstance(error, sqlite3.OperationalError) and any(
        said in str(error) for said in _FOREIGN
    )
    return _code(error) in _DAMAGED or is_foreign


def _code(error: Exception) -> int:
    """SQLite's number for the kind of error, which is the low byte of the whole; 0 for other errors."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _set_aside(path: Path, inode: int) -> str:
    """Rename the file with all that belongs to it, unless another process just did. Returns its new name."""
    aside = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"
    with (path.parent / f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_ino != inode:
            return "another name by another process"
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    return aside


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("pragma user_version").fetchone()[0]
    return version


def _begin(db: sqlite3.Connection) -> None:
    """Make the tables, unless somebody else just did. What was written before the first release is dropped."""
    db.execute("pragma journal_mode = wal")
    with db:
        db.execute("begin immediate")
        if (version := _version(db)) == VERSION:
            return
        for table in _TABLES if version else ():
            db.execute(f"drop table if exists {table}")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        _create_schema(db)
        db.execute(f"pragma user_version = {VERSION}")


def _create_schema(db: sqlite3.Connection) -> None:
    db.execute("insert into birth values (?)", (secrets.token_hex(8),))


# ---- forks ------------------------------------------------------------------------------------------------------


class _Uses:
    """How many threads of this process use the file just now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count as one of them; a fork that is under way is waited for."""
        with self._changed:
            self._n += 1
        try:
            yield
        finally:
            with self._changed:
                self._n -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until there are none, but not for ever, and let none begin."""
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._n, timeout=_FORK_S)

    def after_fork_here(self) -> None:
        """Let them begin again."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: no thread of the parent lives here."""
        self.__init__()  # type: ignore[misc]  # exactly that


_uses = _Uses()
os.register_at_fork(
    before=_uses.before_fork,
    after_in_parent=_uses.after_fork_here,
    after_in_child=_uses.after_fork_in_child,
)
