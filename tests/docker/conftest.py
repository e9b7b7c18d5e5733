"""An engine, a base image made of this machine's Python, and an image of workers on it; once for
all tests.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import docker
import docker.errors
import pytest
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image import images, offline
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

from dagnb.errors import LaunchError
from tests.conftest import missing_service
from tests.docker.index import Index, serving
from tests.docker.made_containers import Containers, a_yard

_REPOSITORY = "dagnb-base"
_STALE_S = 86_400.0


@pytest.fixture(scope="session")
def docker_engine() -> docker.DockerClient:
    """The client of an engine that answers; without one, tests skip at home and fail where CI=true."""
    try:
        return engine.connect()
    except LaunchError as error:
        missing_service(str(error))
        raise


@pytest.fixture(scope="session")
def offline_base(docker_engine: docker.DockerClient) -> str:
    """The tag of a base image made here; one of the same Python, pins and code is taken again.

    Those of others go when they are a day old: until then, tests of another environment may be
    using them.
    """
    tag = f"{_REPOSITORY}:test-{offline.mark()}"
    if engine.inspected(docker_engine, tag):
        return tag
    for found in docker_engine.api.images(name=_REPOSITORY):
        if found["Created"] > time.time() - _STALE_S:
            continue
        for stale in found["RepoTags"] or ():
            if stale.startswith(f"{_REPOSITORY}:test-"):
                with contextlib.suppress(docker.errors.APIError):
                    docker_engine.api.remove_image(stale)
    return offline.make_base(tag)


@pytest.fixture(scope="session")
def worker_image(offline_base: str) -> str:
    """The tag of an image of workers without further requirements. It is kept: its name is the hash
    of its content.
    """
    return images.ensure(images.Recipe(base=offline_base), lambda line: None)


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """A package index of this session: https with an authority of its own, user and password, on
    this machine only.
    """
    with serving(tmp_path_factory.mktemp("index")) as index:
        yield index


@pytest.fixture
def yard(
    offline_base: str, worker_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Containers]:
    """A yard of the test's own, with images on the base without a registry."""
    monkeypatch.setenv(BASE_VARIABLE, offline_base)
    with a_yard() as made:
        yield made
