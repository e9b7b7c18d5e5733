"""Images of workers: named by the hash of what is in them, so that each is built once and found in a millisecond."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An image of workers: the image it is built on, and the user's requirements as `requirements.parse` gives them."""

    base: str
    requirements: tuple[str, ...] = ()


def default_base() -> str:
    """$DAGNB_DOCKER_BASE, else what `dagnb image base` made here, else Python's own image of this minor version."""
    if told := os.environ.get(BASE_VARIABLE):
        return told
    own = offline.default_tag()
    with contextlib.suppress(LaunchError):
        if engine.inspected(engine.connect(), own):
            return own
    return f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def find(recipe: Recipe) -> str | None:
    """The tag of the image if it is there. Two questions to the engine, 1 to 2 ms. Raises LaunchError."""
    client = engine.connect()
    with engine.answering():
        base = engine.inspected(client, recipe.base)
        if base is None:
            return None
        tag = _tag(base, recipe)
        return tag if engine.inspected(client, tag) else None


def ensure(recipe: Recipe, tell: Callable[[str], None]) -> str:
    """The tag of the image, built when it is not there; `tell` gets lines on what takes so long.

    Of processes that want the same image at once, one builds. Raises ImageBuildError, or LaunchError when there is no
    engine or no base.
    """
    if found := find(recipe):
        return found
    client = engine.connect()
    with engine.answering():
        base = engine.inspected(client, recipe.base) or _pulled(client, recipe.base, tell)
        tag = _tag(base, recipe)
        with _alone(tag, tell):
            if not engine.inspected(client, tag):
                _build(client, base, tag, recipe, tell)
    return tag


def _tag(base: dict[str, Any], recipe: Recipe) -> str:
    return f"{REPOSITORY}:{image_hash(base['Id'], recipe.requirements)}"


def _pulled(client: docker.DockerClient, base: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """The base, fetched from its registry. Raises LaunchError."""
    tell(f"pulling base image {base}")
    try:
        for event in client.api.pull(base, stream=True, decode=True):
            if event.get("status") in {"Download complete", "Already exists"}:
                tell(f"{base}: layer {event.get('id')}: {event['status'].lower()}")
            if "error" in event:
                raise _no_base(base, event["error"])
    except docker.errors.APIError as error:
        raise _no_base(base, str(error.explanation)) from error
    found = engine.inspected(client, base)
    if found is None:
        raise _no_base(base, "the engine pulled it and has none")
    return found


def _no_base(base: str, reason: str) -> LaunchError:
    return LaunchError(
        f"the base image {base} is not here and could not be pulled: {masked(reason.strip())}. "
        f"Name one that is here with --base or {BASE_VARIABLE}; "
        "`dagnb image base` makes one of this machine's own Python, without a registry."
    )


@contextlib.contextmanager
def _alone(tag: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process or thread of this user builds the image."""
    path = (
        runtime_directory() / f"image-{tag[-1]}.lock"
    )  # 16 files at most, which nobody has to remove
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
    wanted = [*map(masked, recipe.requirements)]
    tell(f"building {tag} on {recipe.base}" + (f" with {', '.join(wanted)}" if wanted else ""))
    settings = pip_settings()
    if settings.ignored and wanted:
        tell(f"not in reach of a build, so not used: {', '.join(settings.ignored)}")
    build.clear_stale(client)
    labels = {LABEL: "worker", REQUIREMENTS_LABEL: json.dumps(wanted), BASE_LABEL: recipe.base}
    has_path = any(
        line.startswith("PYTHONPATH=") and line != "PYTHONPATH="
        for line in base["Config"]["Env"] or ()
    )
    with tempfile.TemporaryFile() as context:
        write_context(context, base["Id"], name, recipe.requirements, settings, has_path=has_path)
        context.seek(0)
        network = "host" if settings.is_local else None
        try:
            image = build.built(client, context, name, labels, network=network, tell=tell)
        except build.FailedBuildError as error:
            cure = _cure(error.output, settings)
            raise ImageBuildError(recipe.base, wanted, [*map(masked, error.lines)], cure) from error
    if not engine.inspected(client, tag):  # another user of the same engine may have been faster
        client.api.tag(image, REPOSITORY, tag.partition(":")[2])
    build.clear(client, name)
    size = (engine.inspected(client, tag) or {}).get("Size", 0)
    tell(f"image {tag} built in {seconds_text(time.monotonic() - began)}, {bytes_text(size)}")


def _cure(output: Sequence[str], settings: PipSettings) -> str:
    """What the user can do about what pip said."""
    said = "\n".join(output)
    if are_unreachable(output):
        return "The package index could not be reached from the build: see `pip config list`, and the proxies set here."
    if "ResolutionImpossible" in said:
        return f"Loosen the versions. Workers themselves need {', '.join(pins())}."
    if "No matching distribution" in said:
        unused = (
            f" The build could not use {', '.join(settings.ignored)}." if settings.ignored else ""
        )
        unknown = (
            " Nothing of that name was found: either it is misspelt, or the index was not reached."
        )
        hint = unknown if "(from versions: none)" in said else ""
        return f"Correct the name or version: `pip index versions NAME` lists what there is.{hint}{unused}"
    if "this base has Python" in said:
        return f"Take a base of the same minor version as here, with --base or {BASE_VARIABLE}."
    if "No module named pip" in said:
        return f"Take a base that has pip, with --base or {BASE_VARIABLE}."
    if "gcc" in said or "compiler" in said:
        return f"Take a version that has a wheel, or a base that has a compiler, with --base or {BASE_VARIABLE}."
    return f"Correct the requirements, or take another base with --base or {BASE_VARIABLE}."
