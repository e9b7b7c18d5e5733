"""The connection of this process to the Docker engine: one client, and errors with their cures."""

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

# Variables that say where the engine is.
VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")

# Seconds without an answer after which a request to the engine fails; builds and pulls wait longer.
TIMEOUT_S = 60

_SOCKET = "/var/run/docker.sock"

# Connections that are kept open, because several threads use the engine at a time.
_CONNECTIONS = 32

_lock = [threading.Lock()]
# The lock is replaced in a forked child: another thread of the parent may hold it during the fork.
os.register_at_fork(after_in_child=lambda: _lock.__setitem__(0, threading.Lock()))


def connect() -> docker.DockerClient:
    """Returns the client of the engine that the environment names.

    Any thread may use it; a forked process gets its own. Raises LaunchError with the reason when no
    engine answers. Costs some milliseconds the first time.
    """
    with _lock[0]:
        return _client(os.getpid(), *_variables())


@functools.cache
def _client(*_identity: object) -> docker.DockerClient:
    address = _address()
    try:
        client = docker.from_env(timeout=TIMEOUT_S, max_pool_size=_CONNECTIONS)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LaunchError(_no_answer(address, error)) from error
    # A socket needs no proxy, and looking for one in the environment doubles a request's time.
    client.api.trust_env = not address.startswith("unix:")
    return client


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn errors of the engine inside the block into LaunchError: no answer, or a refusal."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise LaunchError(_no_answer(_address(), error)) from error
    except docker.errors.DockerException as error:
        raise LaunchError(
            f"the Docker engine refused: {reason_of(error)}. `docker info` shows its state."
        ) from error


def inspected(client: docker.DockerClient, image: str) -> dict[str, Any] | None:
    """Returns the engine's facts about an image; None when it is not there.

    Raises LaunchError for a text that cannot name an image.
    """
    try:
        # types-docker has no types for it
        facts: dict[str, Any] = client.api.inspect_image(image)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise LaunchError(
            f"{image!r} names no image: {error.explanation}. Write it as 'python:3.12-slim'."
        ) from error
    return facts


def require(image: str) -> None:
    """Raise LaunchError, before a container is tried, when the engine has no such image."""
    with answering():
        if inspected(connect(), image) is None:
            raise LaunchError(
                f"the engine has no image {image!r}. Fetch it with `docker pull {image}`, "
                "correct the name, or leave image= out: dagnb then builds one."
            )


def is_here() -> bool:
    """Returns whether the engine has a Unix socket, so that it sees this machine's folders."""
    return _address().startswith("unix:")


def size() -> tuple[int, int]:
    """Returns CPUs and megabytes of memory of the engine's machine. Raises LaunchError.

    The engine is asked once; later calls return the same answer.
    """
    return _size(*_variables())


@functools.cache
def _size(*_identity: str) -> tuple[int, int]:
    client = connect()
    try:
        info = client.info()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LaunchError(_no_answer(_address(), error)) from error
    return int(info["NCPU"]), int(info["MemTotal"]) >> 20


def _variables() -> tuple[str, ...]:
    return tuple(os.environ.get(name, "") for name in VARIABLES)


def _address() -> str:
    return os.environ.get(VARIABLES[0]) or f"unix://{_SOCKET}"


def _no_answer(address: str, error: BaseException) -> str:
    """Returns why no engine answers at this address, and the cure."""
    # The SDK wraps the reason in several exceptions; the class of the innermost gives the cure.
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        me = getpass.getuser()
        return (
            f"{me} may not use the Docker engine at {address}. "
            f"Let root run `usermod -aG docker {me}` and log in again, "
            "or use a rootless engine and set DOCKER_HOST to its socket."
        )
    is_absent = any(isinstance(cause, FileNotFoundError) for cause in causes)
    if is_absent and not (shutil.which("dockerd") or shutil.which("docker")):
        return (
            f"no Docker engine is installed here: there is no {address}. "
            "Install one (on Debian: `apt-get install docker.io`), "
            "or set DOCKER_HOST to one elsewhere, or take workers='process'."
        )
    if is_absent or any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return (
            f"the Docker engine at {address} is not running. "
            "Start it (`systemctl start docker`, or Docker Desktop), "
            "or set DOCKER_HOST to another, or take workers='process'."
        )
    return (
        f"no Docker engine answers at {address}: {reason_of(error)}. "
        "`docker version` tells more; DOCKER_HOST says where it is."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields the error, its causes and contexts, and errors among its arguments (requests)."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:  # errors may refer to each other
            continue
        seen.add(id(cause))
        yield cause
        linked = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [part for part in linked if isinstance(part, BaseException)]
