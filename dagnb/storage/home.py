"""The directories of dagnb on this machine: for all that outlives a process.

    runtime   sockets and locks     $DAGNB_HOME/run,   $XDG_RUNTIME_DIR/dagnb, <tempdir>/dagnb-<uid>
    state     signing keys          $DAGNB_HOME/state, $XDG_STATE_HOME/dagnb, ~/.local/state/dagnb
    data      history of runs       $DAGNB_HOME/data,  $XDG_DATA_HOME/dagnb,  ~/.local/share/dagnb

All are the user's alone: mode 0700, and the owner is checked at every use. Otherwise another user
of the machine could plant a socket that takes our passwords, or read a key that signs code.
DAGNB_HOME moves them; each session of tests has its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dagnb.errors import ConfigError

SOCKET_PATH_BYTES = 100
"""Some kernels refuse a longer path of a unix socket (sun_path is 104 or 108 bytes)."""

KEY_BYTES = 32

_LONGEST_NAME = len("/store/redis.sock")


def runtime_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the private directory of sockets and locks, made when missing: see runtime_path."""
    return private_directory(runtime_path(environ))


def runtime_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the path of the private directory of sockets and locks. Makes nothing.

    A path that is unfit for a unix socket is replaced by a short one below the temporary directory.
    Its name is a hash of that path, so every process of the user finds the same one. Raises
    ConfigError if that is too long, too.
    """
    wanted = _wanted_runtime_directory(environ)
    if _fits_a_socket(wanted):
        return wanted
    name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
    short = Path(tempfile.gettempdir(), f"dagnb-{os.getuid()}-{name}")
    if not _fits_a_socket(short):
        raise ConfigError(
            f"no room for a unix socket: {wanted} and {short} are longer than "
            f"{SOCKET_PATH_BYTES} bytes. Set DAGNB_HOME to a short path."
        )
    return short


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the private directory of signing keys, made when missing."""
    return private_directory(_place(environ, "state", "XDG_STATE_HOME", ".local/state"))


def data_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the private directory of the history, made when missing."""
    return private_directory(_place(environ, "data", "XDG_DATA_HOME", ".local/share"))


def private_directory(path: Path) -> Path:
    """Returns the directory, made with mode 0700 when missing.

    Raises ConfigError when another user has access to it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A directory that exists already is checked below, even if another process has just made
        # it.
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made: {error}. Set DAGNB_HOME to a directory of yours."
        ) from error
    # lstat: a link that another user planted is no directory of ours, whatever it points to.
    stats = path.lstat()
    if not stat.S_ISDIR(stats.st_mode):
        raise ConfigError(
            f"{path} is not a directory of its own. Remove it, or set DAGNB_HOME to another place."
        )
    if stats.st_uid != os.getuid():
        raise ConfigError(
            f"{path} belongs to uid {stats.st_uid}, not to you ({os.getuid()}). "
            "Set DAGNB_HOME to a directory of yours."
        )
    if mode := stat.S_IMODE(stats.st_mode) & 0o077:
        raise ConfigError(
            f"{path} is open to others (mode bits {mode:03o}). "
            f"Close it with: chmod 700 {shlex.quote(str(path))}"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path} cannot be written to (mode {stat.S_IMODE(stats.st_mode):03o}, "
            "or a read-only file system). "
            "Make it writable, or set DAGNB_HOME to a directory of yours."
        )
    return path


def signing_key(store_url: str, environ: Mapping[str, str] = os.environ) -> bytes:
    """Returns the 32 bytes that sign code and values in this store.

    There is one key per user and store, made at the first use. Raises ConfigError if its file is
    damaged, not private, or out of reach.
    """
    path = state_directory(environ) / f"key-{_store_name(store_url)}"
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read_key(path)
        # Two processes may plant a key at once: the first one wins, and both read its key.
        _plant_key(path)
        return _read_key(path)
    except OSError as error:
        raise ConfigError(
            f"the key file {path} cannot be used: {error}. "
            "Remove what is there, or set DAGNB_HOME to another place."
        ) from error


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically, mode 0600: a reader never sees a part of the content."""
    draft = _draft(path, content)
    draft.replace(path)


def _place(environ: Mapping[str, str], name: str, variable: str, usual: str) -> Path:
    """Returns one of the directories, as the environment names it."""
    if home := environ.get("DAGNB_HOME"):
        return _absolute(home) / name
    if folder := environ.get(variable):
        return Path(folder) / "dagnb"
    try:
        return Path.home() / usual / "dagnb"
    except RuntimeError as error:
        raise ConfigError(
            f"{error}: this user has no home directory. Set DAGNB_HOME to a directory."
        ) from error


def _absolute(home: str) -> Path:
    # Absolute now: a task may change the current folder, and must still find the same directory.
    try:
        return Path(home).absolute()
    except OSError as error:
        raise ConfigError(
            f"DAGNB_HOME is {home!r}, within the current folder, which was removed. "
            "Set it to an absolute path, or go to a folder that exists with os.chdir(...)."
        ) from error


def _wanted_runtime_directory(environ: Mapping[str, str]) -> Path:
    if home := environ.get("DAGNB_HOME"):
        return _absolute(home) / "run"
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "dagnb"
    return Path(tempfile.gettempdir(), f"dagnb-{os.getuid()}")


def _fits_a_socket(directory: Path) -> bool:
    """Returns whether the socket's path is short enough, and text that is fit for settings."""
    # A line break, or bytes that are no UTF-8, would get into URLs and the server's settings.
    return (
        str(directory).isprintable()
        and len(os.fsencode(directory)) + _LONGEST_NAME < SOCKET_PATH_BYTES
    )


def _store_name(store_url: str) -> str:
    """Returns a name for the store that does not depend on user and password."""
    # An embedded server has a new password at each start, and must keep its key.
    parts = urlsplit(store_url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _plant_key(path: Path) -> None:
    """Link a finished file into place. A process that comes second keeps the first one's key."""
    draft = _draft(path, secrets.token_bytes(KEY_BYTES))
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        stats = os.fstat(file.fileno())
        key = file.read()
    if stats.st_uid != os.getuid() or stats.st_mode & 0o077:
        raise ConfigError(
            f"the key file {path} is not yours alone. Remove it: a new key is made at the next run."
        )
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"the key file {path} is damaged. Remove it: a new key is made at the next run."
        )
    return key


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    return draft


def write_output(file: Path, text: str, *, make_folder: bool = False) -> str:
    """Write a file that the user asked for. Returns its URI. Raises ConfigError.

    make_folder: make its folder first, where it is missing.
    """
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file.absolute().as_uri()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{str(file)!r} cannot be written: {reason}. "
            "Name a file in a folder that exists and that you may write to."
        ) from error
