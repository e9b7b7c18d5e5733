"""Settings that `Docker(...)` takes and refuses, before there is an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.launchers.docker.launcher import Docker
from dagnb_workers.launchers.docker.spec import Mount
from dagnb_workers.launchers.process import usable_cpus

from dagnb import registry
from dagnb.errors import ConfigError, RequirementError
from dagnb.protocol.launcher import Launcher


def test_it_is_a_launcher_found_by_its_name_with_as_many_containers_as_usable_cpus() -> None:
    made = registry.find("launcher", "docker")()

    assert isinstance(made, Docker)
    assert isinstance(made, Launcher)
    assert (made.name, made.cap, made.by_kind) == ("docker", usable_cpus(), True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cap": 0}, "Docker(cap=0): must be a whole number, at least 1."),
        ({"memory_mb": 63}, "Docker(memory_mb=63): must be a whole number, at least 64."),
        ({"pids": 15}, "Docker(pids=15): must be a whole number, at least 16."),
        ({"tmp_mb": 0}, "Docker(tmp_mb=0): must be a whole number, at least 1."),
        ({"cpus": 0}, "Docker(cpus=0): must be a number, at least 0.01."),
        ({"cpus": -1.0}, "Docker(cpus=-1.0): must be a number, at least 0.01."),
        ({"cpus": float("nan")}, "Docker(cpus=nan): must be a number, at least 0.01."),
        ({"idle_s": -1}, "Docker(idle_s=-1): must be a number, at least 0.0."),
        ({"linger_s": float("nan")}, "Docker(linger_s=nan): must be a number, at least 0.0."),
        ({"shared_memory_mb": -1}, "Docker(shared_memory_mb=-1): must be a number, 0 or more."),
        ({"shared_memory_mb": "9"}, "Docker(shared_memory_mb='9'): must be a number, 0 or more."),
        ({"shared_memory_mb": True}, "Docker(shared_memory_mb=True): must be a number, 0 or more."),
        (
            {"shared_memory_mb": float("nan")},
            "Docker(shared_memory_mb=nan): must be a number, 0 or more.",
        ),
        ({"mounts": "/no/such/folder"}, "there is no /no/such/folder"),
        (
            {"image": "mine:1", "requirements": ["numpy"]},
            "Docker(image=..., requirements=...): an image of your own must hold its packages.",
        ),
    ],
)
def test_a_wrong_setting_is_refused_where_it_is_made(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Docker(**settings)

    assert message in str(caught.value)


def test_zero_seconds_of_rest_are_a_choice() -> None:
    made = Docker(idle_s=0, linger_s=0)

    assert (made.idle_s, made.linger_s) == (0, 0)


def test_requirements_are_lines_or_a_file_and_are_read_now(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# mine\nNumPy >= 1.26\nrequests\n")

    assert Docker(requirements=str(file)).requirements == ("numpy>=1.26", "requests")
    assert Docker(requirements=["requests", "NumPy>=1.26"]).requirements == (
        "numpy>=1.26",
        "requests",
    )
    with pytest.raises(RequirementError, match="--index-url"):
        Docker(requirements=["--index-url https://elsewhere"])


def test_mounts_and_environment_are_kept_in_one_form(tmp_path: Path) -> None:
    made = Docker(mounts=f"{tmp_path}:/data", environment={"B": "2", "A": "1"})

    kept: Any = (made.mounts, made.environment)
    assert kept == ((Mount(source=str(tmp_path), target="/data"),), (("A", "1"), ("B", "2")))
    assert made == Docker(mounts=[f"{tmp_path}:/data:ro"], environment={"A": "1", "B": "2"})
    assert hash(made) == hash(
        Docker(mounts=[f"{tmp_path}:/data:ro"], environment={"A": "1", "B": "2"})
    )


def test_the_values_of_its_variables_are_not_printed_with_it() -> None:
    assert "hunter2" not in repr(Docker(environment={"PASSWORD": "hunter2"}))
