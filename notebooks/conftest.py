"""What tutorials need of this machine: a home of their own each, and an engine for the one that is about containers.

The fourth shows plans of functions nobody ran before, so no history of the user's may be read. Without an engine the
cells about containers are skipped with the reason, and fail where CI=true, as tests do.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import pytest

from dagnb.errors import LaunchError
from tests.home import own_home

NEED_ENGINE = {"03_docker_workers.ipynb"}
BUILD_S = 600
"""so long a cell may take that pulls a base image and builds upon it"""


@functools.cache
def missing_engine() -> str:
    """Why there is no engine, or no base image for workers; "" when all is there.

    Where no base image is named, one is made of the Python of this machine, as the tests of Docker do: a machine
    without a registry can run the tutorial, too.
    """
    from dagnb_workers.launchers.docker import engine
    from dagnb_workers.launchers.docker.image import offline
    from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

    try:
        client = engine.connect()
        if not os.environ.get(BASE_VARIABLE):
            tag = f"{offline.REPOSITORY}:test-{offline.mark()}"
            os.environ[BASE_VARIABLE] = (
                tag if engine.inspected(client, tag) else offline.make_base(tag)
            )
    except LaunchError as error:
        return str(error)
    return ""


_homes: dict[Path, contextlib.ExitStack] = {}
"""the one of the tutorial that is being run"""


def _leave() -> None:
    for home in _homes.values():
        home.close()
    _homes.clear()


def pytest_sessionfinish() -> None:
    """After the last cell."""
    _leave()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cells that build images may take longer than tests."""
    for item in items:
        if item.path.name in NEED_ENGINE:
            item.add_marker(pytest.mark.timeout(BUILD_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a kernel is started for a cell: the first of each tutorial finds an empty home."""
    if _homes.get(item.path) is None:
        _leave()
        _homes[item.path] = contextlib.ExitStack()
        _homes[item.path].enter_context(own_home())
    if item.path.name in NEED_ENGINE and (reason := missing_engine()):
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
