"""What tutorials need of this machine: one that is about containers runs where an engine answers.

Without one its cells are skipped with the reason, and fail where CI=true, as tests do.
"""

from __future__ import annotations

import functools
import os

import pytest

from dagnb.errors import LaunchError

NEED_ENGINE = {"03_docker_workers.ipynb"}
BUILD_S = 600
"""so long a cell may take that pulls a base image and builds upon it"""


@functools.cache
def missing_engine() -> str:
    """Why no engine answers; "" when one does."""
    from dagnb_workers.launchers.docker import engine

    try:
        engine.connect()
    except LaunchError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cells that build images may take longer than tests."""
    for item in items:
        if item.path.name in NEED_ENGINE:
            item.add_marker(pytest.mark.timeout(BUILD_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a kernel is started for a cell."""
    if item.path.name in NEED_ENGINE and (reason := missing_engine()):
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
