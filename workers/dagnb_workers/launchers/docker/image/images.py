"""Worker images, named by a hash of their content: built once, then found in 1 to 2 ms.

Recipe -> find: base image here? image of that hash here? -> tag
       -> ensure: pull the base -> take the lock of the tag -> build -> tag
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from dagnb.errors import ImageBuildError, LaunchError
from dagnb.graph.requirements import masked
from dagnb.storage.home import runtime_directory
from dagnb.views.wording import bytes_text, seconds_text
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image import build, offline
from dagnb_workers.launchers.docker.image.context import image_hash, write_context
from dagnb_workers.launchers.docker.image.pins import pins
from dagnb_workers.launchers.docker.image.pip_settings import (
    PipSettings,
    are_unreachable,
    pip_settings,
)

BASE_VARIABLE = "DAGNB_DOCKER_BASE"
REPOSITORY = "dagnb-worker"
LABEL = "dagnb.image"
REQUIREMENTS_LABEL = "dagnb.requirements"
BASE_LABEL = "dagnb.base"

_BASE_CHOICES = f"Docker(base=...), --base or {BASE_VARIABLE}"
"""the ways to name a base: in a notebook, on the command line, in the environment"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The recipe of a worker image.

    base: the image it is built on. requirements: the user's, as `requirements.parse` gives them.
    """

    base: str
    requirements: tuple[str, ...] = ()


def default_base() -> str:
    """Returns the base that is taken when none is named.

    $DAGNB_DOCKER_BASE, else the image that `dagnb image base` made here, else Python's own image of
    this minor version.
    """
    if named := os.environ.get(BASE_VARIABLE):
        return named
    own = offline.default_tag()
    with contextlib.suppress(LaunchError):  # without an engine, using the base raises this error
        if engine.inspected(engine.connect(), own):
            return own

    return f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def find(recipe: Recipe) -> str | None:
    """Returns the tag of the image, None if the engine does not have it. Raises LaunchError.

    Costs two requests to the engine, 1 to 2 ms.
    """
    client = engine.connect()
    with engine.answering():
        base = engine.inspected(client, recipe.base)
        if base is None:
            return None
        tag = _tag(base, recipe)
        return tag if engine.inspected(client, tag) else None


def ensure(recipe: Recipe, tell: Callable[[str], None]) -> str:
    """Returns the tag of the image, which is built if the engine does not have it.

    If several processes need the same image at once, one of them builds. tell: gets lines of
    progress.
    Raises ImageBuildError, or LaunchError when there is no engine or no base.
    """
    if present := find(recipe):
        return present
    client = engine.connect()
    with engine.answering():
        base = engine.inspected(client, recipe.base) or _pulled(client, recipe.base, tell)
        tag = _tag(base, recipe)
        with _alone(tag, tell):
            # Another process may have built it while this one waited for the lock.
            if not engine.inspected(client, tag):
                _build(client, base, tag, recipe, tell)
    return tag


def _tag(base: dict[str, Any], recipe: Recipe) -> str:
    return f"{REPOSITORY}:{image_hash(base['Id'], recipe.requirements)}"


def _pulled(client: docker.DockerClient, base: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Pull the base from its registry. Raises LaunchError."""
    tell(f"pulling base image {base}")
    try:
        for event in client.api.pull(base, stream=True, decode=True):
            if event.get("status") in {"Download complete", "Already exists"}:
                tell(f"{base}: layer {event.get('id')}: {event['status'].lower()}")
            if "error" in event:
                raise _no_base(base, event["error"])
    except docker.errors.APIError as error:
        raise _no_base(base, str(error.explanation)) from error

    image = engine.inspected(client, base)
    if image is None:
        raise _no_base(base, "the engine pulled it and has none")
    return image


def _no_base(base: str, reason: str) -> LaunchError:
    return LaunchError(
        f"the base image {base} is not here and could not be pulled: {masked(reason.strip())}. "
        f"Name one that is here with {_BASE_CHOICES}; "
        "`dagnb image base` makes one of this machine's own Python, without a registry."
    )


@contextlib.contextmanager
def _alone(tag: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process or thread of this user builds the image."""
    # Tags with the same last digit share a lock: 16 files at most, which need not be removed.
    path = runtime_directory() / f"image-{tag[-1]}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another process that builds {tag}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    client: docker.DockerClient,
    base: dict[str, Any],
    tag: str,
    recipe: Recipe,
    tell: Callable[[str], None],
) -> None:
    began, name = time.monotonic(), secrets.token_hex(8)
    # Passwords in URLs are masked, because progress, labels and errors show requirements.
    requirements = [*map(masked, recipe.requirements)]
    packages = f" with {', '.join(requirements)}" if requirements else ""
    tell(f"building {tag} on {recipe.base}{packages}")
    settings = pip_settings()
    if settings.ignored and requirements:
        tell(f"not used, because a build cannot reach them: {', '.join(settings.ignored)}")

    build.clear_stale(client)
    labels = {
        LABEL: "worker",
        REQUIREMENTS_LABEL: json.dumps(requirements),
        BASE_LABEL: recipe.base,
    }
    # One character at least: an empty PYTHONPATH counts as none.
    variables = base["Config"]["Env"] or ()
    has_path = any(re.match("PYTHONPATH=.", line) for line in variables)

    with tempfile.TemporaryFile() as context:
        write_context(context, base["Id"], name, recipe.requirements, settings, has_path=has_path)
        context.seek(0)
        # An index on this machine's loopback can be reached only from this machine's network.
        network = "host" if settings.is_local else None
        try:
            image = build.built(client, context, name, labels, network=network, tell=tell)
        except build.FailedBuildError as error:
            cure = _cure(error.output, settings)
            raise ImageBuildError(
                recipe.base, requirements, [*map(masked, error.lines)], cure
            ) from error

    # Another user of the same engine may have built the image meanwhile.
    if not engine.inspected(client, tag):
        client.api.tag(image, REPOSITORY, tag.partition(":")[2])

    build.clear(client, name)
    size = (engine.inspected(client, tag) or {}).get("Size", 0)
    tell(f"image {tag} built in {seconds_text(time.monotonic() - began)}, {bytes_text(size)}")


def _cure(output: Sequence[str], settings: PipSettings) -> str:
    """Returns the cure for the errors in pip's output."""
    text = "\n".join(output)
    if are_unreachable(output):
        return (
            "The package index could not be reached from the build: see `pip config list`, "
            "and the proxies set here."
        )
    if "ResolutionImpossible" in text:
        return f"Loosen the versions. Workers themselves need {', '.join(pins())}."
    if "No matching distribution" in text:
        cure = "Correct the name or version: `pip index versions NAME` lists what there is."
        if "(from versions: none)" in text:
            cure += " Nothing of that name was found: it is misspelt, or the index was not reached."
        if settings.ignored:
            cure += f" The build could not use {', '.join(settings.ignored)}."
        return cure
    if "this base has Python" in text:
        return f"Take a base of the same minor version as here, with {_BASE_CHOICES}."
    if "No module named pip" in text:
        return f"Take a base that has pip, with {_BASE_CHOICES}."
    if "gcc" in text or "compiler" in text:
        return (
            f"Take a version that has a wheel, or a base that has a compiler, with {_BASE_CHOICES}."
        )
    return f"Correct the requirements, or take another base with {_BASE_CHOICES}."
