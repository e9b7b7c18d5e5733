"""A script that ends after an error of Docker leaves nothing that Python complains about."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.home import own_home

pytestmark = [pytest.mark.docker, pytest.mark.redis]

SCRIPT = """
from dagnb import task
from dagnb.errors import DagnbError
from dagnb_workers import Docker
for terms in ({"base": "localhost:1/never:1"}, {"image": "dagnb-test:never"}, {"cpus": 10_000}):
    try:
        task(int)("7").run(workers=Docker(**terms))
    except DagnbError as error:
        print(type(error).__name__)
"""


@pytest.mark.usefixtures("docker_engine")
def test_a_script_that_ends_after_errors_of_docker_prints_nothing_of_pythons_own() -> None:
    """There is no agent yet: the first error comes while the question to it is under way."""
    with own_home():
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", SCRIPT],
            env=os.environ,
            capture_output=True,
            text=True,
            check=True,
        )

    assert done.stdout == "LaunchError\nLaunchError\nConfigError\n"
    assert done.stderr == "dagnb: pulling base image localhost:1/never:1\n"
