"""Checks the settings of `Docker(...)`, and turns them into mounts, network and store access.

What is unsafe or cannot work is refused, with the cure, before any container is created.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from dagnb.errors import ConfigError
from dagnb.storage.embedded import socket_folder, worker_url
from dagnb.storage.home import runtime_directory, state_directory
from dagnb_workers.launchers.docker.spec import INSIDE, Mount

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "")
_SOCKETS = ("docker.sock", "docker/docker.sock", "podman/podman.sock", "containerd/containerd.sock")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Entries of a mounted folder that are looked at, at most: a folder may have millions.
_MAX_ENTRIES = 1_000

# Folders of a container that a user's mount must not hide.
_OWN = (INSIDE, "/opt/dagnb", "/tmp", "/proc", "/sys", "/dev")  # noqa: S108  # of the container


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAccess:
    """Access of containers to the store.

    url: as containers see it, with credentials. network, mounts: what containers need to reach it.
    has_broker: containers see the socket of a broker, too, which gives them shared memory.
    """

    url: str
    network: str
    mounts: tuple[Mount, ...] = ()
    has_broker: bool = False


def store_access(url: str) -> StoreAccess:
    """Returns how containers reach a store. Raises ConfigError for memory://.

    A socket is mounted and needs no network. A server on this machine's loopback needs the
    machine's own network, any other server a network with a way out.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise ConfigError(
            "containers cannot share a memory:// store. Leave store= out, or give a Redis URL."
        )
    if parts.scheme != "unix":
        return StoreAccess(url=url, network="host" if parts.hostname in _LOOPBACK else "bridge")

    path, own_folder = Path(unquote(parts.path)), socket_folder(runtime_directory())
    if path.parent == own_folder:
        # The embedded server: tasks get a guest's password, and the folder holds only sockets.
        # The folder is mounted, because a server that is restarted makes a new socket.
        return StoreAccess(
            url=worker_url(url, Path(INSIDE, path.name)),
            network="none",
            mounts=(Mount(source=str(own_folder), target=INSIDE),),
            has_broker=True,
        )
    target = f"{INSIDE}/{path.name}"
    return StoreAccess(
        url=parts._replace(path=quote(target)).geturl(),
        network="none",
        mounts=(Mount(source=str(path), target=target),),
    )


def check_numbers(settings: object, least: Mapping[str, float]) -> None:
    """Raise ConfigError for a field that is no number or less than its bound in `least`.

    A field with a whole bound must be whole.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is None and name == "total_memory_mb":
            continue
        kind = int if isinstance(bound, int) else int | float
        # "not >=", because a comparison with NaN is never true. A bool is an int for Python.
        if not isinstance(value, kind) or isinstance(value, bool) or not value >= bound:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(f"Docker({name}={value!r}): must be {what}, at least {bound}.")


def check_names(settings: object, names: Iterable[str]) -> None:
    """Raise ConfigError for a field that is neither text nor None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"Docker({name}={value!r}): must be a name as text, or be left out.")


def environment_of(environment: object) -> tuple[tuple[str, str], ...]:
    """Returns variables and their values, sorted. Raises ConfigError, which shows no value."""
    if not isinstance(environment, Mapping):
        raise ConfigError(
            f"Docker(environment={environment!r}): "
            "must be a dictionary of variables, {'NAME': 'value'}."
        )
    for name, value in environment.items():
        is_name = isinstance(name, str) and _VARIABLE.fullmatch(name)
        if not is_name or not isinstance(value, str) or "\0" in value:
            raise ConfigError(
                f"Docker(environment=...): {name!r} must be a name, and its value a text."
            )
    return tuple(sorted(environment.items()))


def mounts_of(
    mounts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> tuple[Mount, ...]:
    """Returns the mounts for 'data', 'data:/data' or 'out:/out:rw'. Raises ConfigError.

    Without a target, a folder is mounted at the path that it has here.
    """
    if isinstance(mounts, Mapping) or not isinstance(mounts, str | os.PathLike | Iterable):
        raise ConfigError(
            f"Docker(mounts={mounts!r}): write a list, as ['folder:/where', 'out:/out:rw']."
        )
    several = (mounts,) if isinstance(mounts, str | os.PathLike) else tuple(mounts)
    checked = tuple(_mount(os.fspath(text)) for text in several)
    targets = [mount.target for mount in checked]
    for target in targets:
        if targets.count(target) > 1:
            raise ConfigError(
                f"Docker(mounts=...): two of them are mounted at {target}. Give one another place."
            )
    return checked


def check_writable(mounts: Iterable[Mount], user: str) -> None:
    """Raise ConfigError for a writable mount in which a container's user can write nothing.

    user: 'uid:gid'. One writable file or subfolder directly in the folder is enough: the task may
    be meant to write only there.
    """
    uid, gid = map(int, user.split(":"))
    for mount in mounts:
        if not mount.is_writable:
            continue
        source = Path(mount.source)
        if any(_may_write(path, uid, gid) for path in _with_entries(source)):
            continue
        status, quoted = source.stat(), shlex.quote(mount.source)
        raise ConfigError(
            f"Docker(mounts=...): tasks run as uid {uid}, gid {gid} and cannot write to {source}, "
            f"which belongs to uid {status.st_uid}, gid {status.st_gid} "
            f"with mode {stat.S_IMODE(status.st_mode):03o}. Let them with `chmod o+rwx {quoted}` "
            f"or `chown {uid}:{gid} {quoted}`, or leave ':rw' out."
        )


def _with_entries(source: Path) -> Iterator[Path]:
    yield source
    if source.is_dir():
        with contextlib.suppress(OSError):
            yield from islice(source.iterdir(), _MAX_ENTRIES)


def _may_write(path: Path, uid: int, gid: int) -> bool:
    """Returns whether a user may write to a path, by owner, group and mode."""
    if uid == os.getuid():
        return os.access(path, os.W_OK)  # which also considers access control lists
    try:
        status = path.stat()
    except OSError:
        return False

    mode = status.st_mode  # the lowest bits are those of others
    if status.st_uid == uid:
        mode >>= 6
    elif status.st_gid == gid:
        mode >>= 3
    # To create a file in a folder, one must be able to enter it, too.
    needed = 0o3 if stat.S_ISDIR(status.st_mode) else 0o2
    return mode & needed == needed


def _engine_sockets() -> list[Path]:
    named = os.environ.get("DOCKER_HOST", "").removeprefix("unix://")
    sockets = [Path(named or "/run/docker.sock").resolve()]
    for folder in (Path("/run"), Path("/var/run"), Path(f"/run/user/{os.getuid()}")):
        sockets += [(folder / socket).resolve() for socket in _SOCKETS]
    return sockets


def _mount(text: str) -> Mount:
    source, *rest = text.split(":")
    mode = rest.pop() if rest and rest[-1] in ("ro", "rw") else "ro"
    path = Path(source).expanduser().resolve()
    target = rest.pop() if rest else str(path)
    where = f"Docker(mounts=[{text!r}])"
    if rest or not source or not target.startswith("/") or target == "/":
        raise ConfigError(f"{where}: write 'folder', 'folder:/where' or 'folder:/where:rw'.")
    if str(path).encode(errors="replace") != os.fsencode(path):
        raise ConfigError(
            f"{where}: the engine takes no path that is not UTF-8. Rename the folder."
        )
    if not path.exists():
        raise ConfigError(f"{where}: there is no {path}. Make it first, or correct the path.")
    if any(Path(target).is_relative_to(own) for own in _OWN):
        raise ConfigError(
            f"{where}: {target} is the container's own. Mount it elsewhere, as /data."
        )
    # No mount may be one of these, hold one of them, or be below one of them.
    for secret in (*_engine_sockets(), runtime_directory(), state_directory()):
        if secret.is_relative_to(path) or path.is_relative_to(secret):
            raise ConfigError(
                f"{where}: {path} holds the engine's socket or dagnb's own keys; "
                "a task that sees those can do whatever you can. Mount a narrower folder."
            )
    return Mount(
        source=str(path),
        target=target,
        is_writable=mode == "rw",
    )
