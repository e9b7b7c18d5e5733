"""From what a user may say of containers to what they are: mounts, network, the store. Refuses what is unsafe."""

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
_MOST_ENTRIES = 1_000
_OURS = (INSIDE, "/opt/dagnb", "/tmp", "/proc", "/sys", "/dev")  # noqa: S108  # of the container


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """How containers reach the store. url: with credentials, as seen inside; network: what that needs."""

    url: str
    network: str
    mounts: tuple[Mount, ...] = ()


def store_place(url: str) -> StorePlace:
    """A socket is mounted and needs no network; a server on this machine's loopback needs the machine's own network."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise ConfigError(
            "containers cannot share a memory:// store. Leave store= out, or give a Redis URL."
        )
    if parts.scheme != "unix":
        return StorePlace(url=url, network="host" if parts.hostname in _LOOPBACK else "bridge")
    path, own = Path(unquote(parts.path)), socket_folder(runtime_directory())
    if path.parent == own:
        inside = worker_url(url, Path(INSIDE, path.name))
        return StorePlace(
            url=inside, network="none", mounts=(Mount(source=str(own), target=INSIDE),)
        )
    target = f"{INSIDE}/{path.name}"
    inside = parts._replace(path=quote(target)).geturl()
    return StorePlace(url=inside, network="none", mounts=(Mount(source=str(path), target=target),))


def check_numbers(settings: object, least: Mapping[str, float]) -> None:
    """Raise ConfigError for a field that is no number, a fraction where `least` is whole, or less than it."""
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is None and name == "total_memory_mb":
            continue
        kind = int if isinstance(bound, int) else int | float
        if not isinstance(value, kind) or isinstance(value, bool) or not value >= bound:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(f"Docker({name}={value!r}): must be {what}, at least {bound}.")


def check_names(settings: object, names: Iterable[str]) -> None:
    """Raise ConfigError for a field that is neither text nor None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"Docker({name}={value!r}): must be the name of one, or be left out.")


def environment_of(told: object) -> tuple[tuple[str, str], ...]:
    """Variables and their values, sorted. Raises ConfigError."""
    if not isinstance(told, Mapping):
        raise ConfigError(
            f"Docker(environment={told!r}): must be a dictionary of variables, {{'NAME': 'value'}}."
        )
    for name, value in told.items():
        if (
            not isinstance(name, str)
            or not _VARIABLE.fullmatch(name)
            or not isinstance(value, str)
            or "\0" in value
        ):
            raise ConfigError(
                f"Docker(environment=...): {name!r} must be a name, and its value a text."
            )
    return tuple(sorted(told.items()))


def mounts_of(told: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[Mount, ...]:
    """'data', 'data:/data', 'out:/out:rw' -> mounts; where no target is said, at the same path as here."""
    if isinstance(told, Mapping) or not isinstance(told, str | os.PathLike | Iterable):
        raise ConfigError(
            f"Docker(mounts={told!r}): write a list, as ['folder:/where', 'out:/out:rw']."
        )
    several = (told,) if isinstance(told, str | os.PathLike) else tuple(told)
    mounts = tuple(_mount(os.fspath(one)) for one in several)
    targets = [mount.target for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise ConfigError(
                f"Docker(mounts=...): two of them are mounted at {target}. Give one another place."
            )
    return mounts


def check_writable(mounts: Iterable[Mount], user: str) -> None:
    """Raise ConfigError for a mount granted for writing in which this user of containers, 'uid:gid', can write nothing.

    What lies directly in a folder counts, too: a task may be meant to write to one of its files or subfolders.
    """
    uid, gid = map(int, user.split(":"))
    for mount in mounts:
        source = Path(mount.source)
        if not mount.is_writable or any(
            _may_write(path, uid, gid) for path in _with_content(source)
        ):
            continue
        facts, here = source.stat(), shlex.quote(mount.source)
        whole = stat.S_IMODE(facts.st_mode)
        raise ConfigError(
            f"Docker(mounts=...): tasks run as uid {uid}, gid {gid} and cannot write to {source}, which belongs to uid "
            f"{facts.st_uid}, gid {facts.st_gid} with mode {whole:03o}. Let them with `chmod o+rwx {here}` or "
            f"`chown {uid}:{gid} {here}`, or leave ':rw' out."
        )


def _with_content(source: Path) -> Iterator[Path]:
    yield source
    if source.is_dir():
        with contextlib.suppress(OSError):
            yield from islice(source.iterdir(), _MOST_ENTRIES)


def _may_write(path: Path, uid: int, gid: int) -> bool:
    """By owner, group and mode; for this process's own user the system is asked, which knows of access lists."""
    if uid == os.getuid():
        return os.access(path, os.W_OK)
    try:
        facts = path.stat()
    except OSError:
        return False
    shift = 6 if facts.st_uid == uid else 3 if facts.st_gid == gid else 0
    wanted = (
        0o3 if stat.S_ISDIR(facts.st_mode) else 0o2
    )  # nothing is made in a folder that cannot be entered
    return facts.st_mode >> shift & wanted == wanted


def _engine_sockets() -> list[Path]:
    named = os.environ.get("DOCKER_HOST", "")
    runtimes = (Path("/run"), Path("/var/run"), Path(f"/run/user/{os.getuid()}"))
    known = [runtime / socket for runtime in runtimes for socket in _SOCKETS]
    return [
        path.resolve()
        for path in [*known, Path(named.removeprefix("unix://") or "/run/docker.sock")]
    ]


def _mount(told: str) -> Mount:
    source, *rest = told.split(":")
    mode = rest.pop() if rest and rest[-1] in ("ro", "rw") else "ro"
    path = Path(source).expanduser().resolve()
    target = rest.pop() if rest else str(path)
    if rest or not source or not target.startswith("/") or target == "/":
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): write 'folder', 'folder:/where' or 'folder:/where:rw'."
        )
    if str(path).encode(errors="replace") != os.fsencode(path):
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): the engine takes no path that is not UTF-8. Rename the folder."
        )
    if not path.exists():
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): there is no {path}. Make it first, or correct the path."
        )
    if any(Path(target) == Path(ours) or Path(target).is_relative_to(ours) for ours in _OURS):
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): {target} is the container's own. Mount it elsewhere, as /data."
        )
    closed = [*_engine_sockets(), runtime_directory(), state_directory()]
    if any(
        place == path or place.is_relative_to(path) or path.is_relative_to(place)
        for place in closed
    ):
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): {path} holds the engine's socket or dagnb's own keys; a task that sees those "
            "can do whatever you can. Mount a narrower folder."
        )
    return Mount(source=str(path), target=target, is_writable=mode == "rw")
