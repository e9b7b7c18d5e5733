"""`dagnb image list` and `remove`: what dagnb made, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import docker
import docker.errors
import pytest
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image import images

from dagnb.cli import main

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture
def tags(worker_image: str, docker_engine: docker.DockerClient) -> Iterator[tuple[str, str]]:
    """An image named as dagnb names them, and one that a user made of it: it has the same labels."""
    mine, theirs = f"test{secrets.token_hex(6)}", f"users-own:{secrets.token_hex(6)}"
    container = docker_engine.api.create_container(worker_image)
    for repository, tag in ((images.REPOSITORY, mine), theirs.split(":")):
        docker_engine.api.commit(container["Id"], repository, tag)
    docker_engine.api.remove_container(container["Id"])
    yield f"{images.REPOSITORY}:{mine}", theirs
    for tag in (f"{images.REPOSITORY}:{mine}", theirs):
        if engine.inspected(docker_engine, tag):
            docker_engine.api.remove_image(tag)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; its exit code and what it printed."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["image", *arguments])
        return code, *capsys.readouterr()

    return command


def test_list_shows_what_dagnb_made_and_of_what(
    tags: tuple[str, str], offline_base: str, said: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = said("list")

    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert lines[tags[0]].endswith(f"  on {offline_base}")
    assert lines[offline_base].endswith("  a base")
    assert tags[1] not in lines


def test_remove_removes_what_is_named_and_refuses_what_dagnb_did_not_make(
    tags: tuple[str, str],
    docker_engine: docker.DockerClient,
    said: Callable[..., tuple[int, str, str]],
) -> None:
    assert said("remove", tags[0]) == (0, "1 image removed.\n", "")
    assert engine.inspected(docker_engine, tags[0]) is None

    code, _, err = said("remove", tags[1])
    assert code == 1
    assert f"unknown image of dagnb '{tags[1]}'" in err
    assert engine.inspected(docker_engine, tags[1])


def test_remove_keeps_what_a_container_uses_and_says_so(
    tags: tuple[str, str],
    docker_engine: docker.DockerClient,
    said: Callable[..., tuple[int, str, str]],
) -> None:
    container = docker_engine.api.create_container(tags[0], labels={"dagnb.test": "1"})
    try:
        code, out, err = said("remove", tags[0])
    finally:
        docker_engine.api.remove_container(container["Id"], force=True)

    assert (code, out) == (1, "0 images removed.\n")
    assert err.startswith(f"{tags[0]} stays: ")
    assert engine.inspected(docker_engine, tags[0])


def test_remove_wants_tags_or_all(
    docker_engine: docker.DockerClient, said: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = said("remove")

    assert code == 1
    assert "Give one TAG or more, or --all" in err
