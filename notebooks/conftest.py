"""What tutorials need of this machine: one that is about containers runs where an engine answers.

Without one its cells are skipped with the reason, and fail where CI=true, as tests do.
"""

from __future__ import annotations

import functools
import os

import pytest

from dagnb.errors import LaunchError

NEED_ENGINE = {"03_docker_workers.ipynb"}


@functools.cache
def missing_engine() -> str:
    """Why no engine answers; "" when one does."""
    from dagnb_workers.launchers.docker import engine

    try:
        engine.connect()
    except LaunchError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a kernel is started for a cell."""
    if item.path.name in NEED_ENGINE and (reason := missing_engine()):
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
