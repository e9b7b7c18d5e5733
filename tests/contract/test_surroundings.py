"""What docs/contract.md says is so: each cell of its table on the real launcher, and the page
itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

from tests.conformance.agent import private_agent
from tests.contract.rows import LAUNCHERS, PAGE, ROWS, Seen
from tests.contract.said import SAID, page
from tests.docker.conftest import docker_engine, offline_base  # noqa: F401  # fixtures

PROBES = Path(__file__).with_name("probes.py")
MARKS = {
    "inline": (),
    "process": (pytest.mark.redis,),
    "docker": (pytest.mark.redis, pytest.mark.docker),
}
LIMIT_S = 300
pytestmark = pytest.mark.timeout(LIMIT_S)


def cells() -> list[Any]:
    """(row, launcher) of the whole table."""
    return [
        pytest.param(launcher, row, marks=MARKS[launcher], id=f"{launcher}-{row.replace(' ', '-')}")
        for launcher in LAUNCHERS
        for row in ROWS
    ]


def looked_around(launcher: str) -> dict[str, Seen]:
    """What a client sees that has surroundings of its own, and what its tasks see. The agent has
    other surroundings.
    """
    options = ["-O", "-X", "probe=set", "-W", "ignore::FutureWarning"]
    with tempfile.TemporaryDirectory(prefix="dagnb-probes-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        told = subprocess.run(
            [sys.executable, *options, str(PROBES), launcher, folder],
            input="typed\n",
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "1234"},
            timeout=LIMIT_S,
            check=False,
        )
    found = [line for line in told.stdout.splitlines() if line.startswith("SEEN ")]
    assert found, told.stderr
    seen: dict[str, Seen] = json.loads(found[-1].removeprefix("SEEN "))
    return seen


@pytest.fixture(scope="module")
def agent() -> Iterator[None]:
    """One that another client started."""
    with private_agent():
        yield


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> dict[str, dict[str, Seen]]:
    """launcher -> row -> what was seen; a launcher's are added when the first test asks for them."""
    return {}


@pytest.fixture
def look(
    request: pytest.FixtureRequest, launcher: str, seen: dict[str, dict[str, Seen]]
) -> dict[str, Seen]:
    """Everything of this launcher, by one client."""
    if launcher not in seen:
        with pytest.MonkeyPatch.context() as patch:
            if launcher != "inline":
                request.getfixturevalue("agent")
            if launcher == "docker":
                patch.setenv(BASE_VARIABLE, request.getfixturevalue("offline_base"))
            seen[launcher] = looked_around(launcher)
    return seen[launcher]


@pytest.mark.parametrize(("launcher", "row"), cells())
def test_a_task_sees_what_the_contract_says(look: dict[str, Seen], launcher: str, row: str) -> None:
    assert ROWS[row].cell(launcher).holds(look[row]), look[row]


def test_the_page_says_what_the_rows_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -m tests.contract.said"
    )


def test_every_sentence_before_the_table_is_checked_by_a_row_or_a_test() -> None:
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py")
    )

    for said in SAID:
        assert said.checked_by, said.sentence
        for name in said.checked_by:
            assert name in ROWS or f"def {name}(" in tests, (said.sentence, name)


def test_the_table_has_forty_rows_or_more() -> None:
    assert len(ROWS) >= 40
