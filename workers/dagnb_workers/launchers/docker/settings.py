"""From what a user may say of containers to what they are: mounts, network, the store. Refuses what is unsafe."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from dagnb.errors import ConfigError
from dagnb.storage.embedded import socket_folder, worker_url
from dagnb.storage.home import runtime_directory, state_directory
from dagnb_workers.launchers.docker.spec import INSIDE, Mount

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "")
_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")


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
        raise ConfigError("containers cannot share a memory:// store. Leave store= out, or give a Redis URL.")
    if parts.scheme != "unix":
        return StorePlace(url=url, network="host" if parts.hostname in _LOOPBACK else "bridge")
    path, own = Path(unquote(parts.path)), socket_folder(runtime_directory())
    if path.parent == own:
        inside = worker_url(url, Path(INSIDE, path.name))
        return StorePlace(url=inside, network="none", mounts=(Mount(source=str(own), target=INSIDE),))
    target = f"{INSIDE}/{path.name}"
    inside = parts._replace(path=quote(target)).geturl()
    return StorePlace(url=inside, network="none", mounts=(Mount(source=str(path), target=target),))


def mounts_of(told: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[Mount, ...]:
    """'data', 'data:/data', 'out:/out:rw' -> mounts; where no target is said, at the same path as here."""
    several = (told,) if isinstance(told, str | os.PathLike) else tuple(told)
    return tuple(_mount(os.fspath(one)) for one in several)


def _mount(told: str) -> Mount:
    source, *rest = told.split(":")
    mode = rest.pop() if rest and rest[-1] in ("ro", "rw") else "ro"
    path = Path(source).expanduser().resolve()
    target = rest.pop() if rest else str(path)
    if rest or not source or not target.startswith("/") or target == "/":
        raise ConfigError(f"Docker(mounts=[{told!r}]): write 'folder', 'folder:/where' or 'folder:/where:rw'.")
    if not path.exists():
        raise ConfigError(f"Docker(mounts=[{told!r}]): there is no {path}. Make it first, or correct the path.")
    closed = [Path(socket).resolve() for socket in _SOCKETS] + [runtime_directory(), state_directory()]
    if any(place == path or place.is_relative_to(path) or path.is_relative_to(place) for place in closed):
        raise ConfigError(
            f"Docker(mounts=[{told!r}]): {path} holds the engine's socket or dagnb's own keys; a task that sees those "
            "can do whatever you can. Mount a narrower folder."
        )
    return Mount(source=str(path), target=target, is_writable=mode == "rw")
