"""A script that ends after an error of Docker leaves nothing that Python complains about."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.redis]

SCRIPT = """
from dagnb import task
from dagnb.errors import DagnbError
from dagnb_workers import Docker
for terms in ({"image": "dagnb-test:never"}, {"cpus": 10_000}):
    try:
        task(int)("7").run(workers=Docker(**terms))
    except DagnbError as error:
        print(type(error).__name__)
"""


@pytest.mark.usefixtures("yard")
def test_a_script_that_ends_after_errors_of_docker_prints_nothing_of_pythons_own() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT], env=os.environ, capture_output=True, text=True, check=True
    )

    assert done.stdout == "LaunchError\nConfigError\n"
    assert done.stderr == ""
