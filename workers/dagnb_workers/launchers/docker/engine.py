"""The Docker engine of this process: one client, made when first asked for."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import requests
import urllib3.exceptions

from dagnb.errors import LaunchError
from dagnb.failure import reason_of

VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""what says where the engine is"""

TIMEOUT_S = 60
"""an engine that says nothing for so long is given up; builds and pulls wait longer"""

_SOCKET = "/var/run/docker.sock"
_CONNECTIONS = 32
"""kept open for threads that ask at the same time"""

_lock = [threading.Lock()]
os.register_at_fork(
    after_in_child=lambda: _lock.__setitem__(0, threading.Lock())
)  # another thread may have held it


def connect() -> docker.DockerClient:
    """The client of the engine that the environment names. Any thread may use it; a forked process gets its own.

    Raises LaunchError, saying why, when no engine answers. Costs some milliseconds the first time.
    """
    with _lock[0]:
        return _client(os.getpid(), *(os.environ.get(name, "") for name in VARIABLES))


@functools.cache
def _client(*_identity: object) -> docker.DockerClient:
    host = _host()
    try:
        client = docker.from_env(timeout=TIMEOUT_S, max_pool_size=_CONNECTIONS)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LaunchError(_told(host, error)) from error
    # To a socket leads no proxy: looking through the environment for one would double the cost of a question.
    client.api.trust_env = not host.startswith("unix:")
    return client


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Errors of the engine inside become LaunchError: it is gone, or it refused."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise LaunchError(_told(_host(), error)) from error
    except docker.errors.DockerException as error:
        raise LaunchError(
            f"the Docker engine refused: {reason_of(error)}. `docker info` tells how it is."
        ) from error


def _host() -> str:
    return os.environ.get(VARIABLES[0]) or f"unix://{_SOCKET}"


def inspected(client: docker.DockerClient, image: str) -> dict[str, Any] | None:
    """What the engine knows of an image; None when it is not there. Raises LaunchError for what cannot be a name."""
    try:
        found: dict[str, Any] = client.api.inspect_image(image)  # type: ignore[no-untyped-call]  # types-docker has none
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise LaunchError(
            f"{image!r} names no image: {error.explanation}. Write it as 'python:3.12-slim'."
        ) from error
    return found


def require(image: str) -> None:
    """Raise LaunchError, before a container is tried, when the engine has no such image."""
    with answering():
        if inspected(connect(), image) is None:
            raise LaunchError(
                f"the engine has no image {image!r}. Fetch it with `docker pull {image}`, correct the name, "
                "or leave image= out: dagnb then builds one."
            )


def is_here() -> bool:
    """Whether the engine is reached by a socket, so that it sees the folders of this machine."""
    return _host().startswith("unix:")


def _told(host: str, error: BaseException) -> str:
    """Why no engine answers at this address, and the cure."""
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        me = getpass.getuser()
        return (
            f"{me} may not use the Docker engine at {host}. Let root run `usermod -aG docker {me}` and log in again, "
            "or use a rootless engine and set DOCKER_HOST to its socket."
        )
    is_absent = any(isinstance(cause, FileNotFoundError) for cause in causes)
    if is_absent and not (shutil.which("dockerd") or shutil.which("docker")):
        return (
            f"no Docker engine is installed here: there is no {host}. "
            "Install one (on Debian: `apt-get install docker.io`), or set DOCKER_HOST to one elsewhere, "
            "or take workers='process'."
        )
    if is_absent or any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return (
            f"the Docker engine at {host} is not running. Start it (`systemctl start docker`, or Docker Desktop), "
            "or set DOCKER_HOST to another, or take workers='process'."
        )
    return (
        f"no Docker engine answers at {host}: {reason_of(error)}. "
        "`docker version` tells more; DOCKER_HOST says where it is."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and the errors they carry as arguments, as requests does."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        linked = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [part for part in linked if isinstance(part, BaseException)]


def size() -> tuple[int, int]:
    """CPUs and megabytes of memory of the machine the engine is on; asked once. Raises LaunchError."""
    return _size(*(os.environ.get(name, "") for name in VARIABLES))


@functools.cache
def _size(*where: str) -> tuple[int, int]:
    client = connect()
    try:
        told = client.info()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LaunchError(_told(where[0] or f"unix://{_SOCKET}", error)) from error
    return int(told["NCPU"]), int(told["MemTotal"]) >> 20
