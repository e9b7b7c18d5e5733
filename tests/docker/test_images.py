"""Images of workers: built once, found again, nothing left in them of how they were built. Real
builds throughout.
"""

from __future__ import annotations

import gc
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image import images
from dagnb_workers.launchers.docker.image.context import BUILD_LABEL
from dagnb_workers.launchers.docker.image.images import Recipe

from dagnb.errors import ImageBuildError, LaunchError
from dagnb.graph.requirements import parse
from tests.conftest import missing_service
from tests.docker.index import Index

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
]  # a build may be the first, on a machine that is busy

PYTHON = "/opt/dagnb/env/bin/python"
PROXY = {
    "HTTP_PROXY": "http://proxy-user-77aa:proxy-password-31bb@127.0.0.1:9",
    "NO_PROXY": "no-proxy-4c4c.example",
}
ENSURE = """
import functools, os, secrets, sys
from dagnb_workers.launchers.docker.image.images import Recipe, ensure
if "BUILD" in os.environ:
    secrets.token_hex = lambda n: os.environ["BUILD"]
tell = functools.partial(print, file=sys.stderr, flush=True)
print(ensure(Recipe(base=sys.argv[1], requirements=tuple(sys.argv[2:])), tell))
"""


def printed_in(image: str, code: str) -> str:
    """What the code prints in a container as workers have it: no network, nothing writable."""
    client = engine.connect()
    told = client.containers.run(
        image,
        [code],
        entrypoint=[PYTHON, "-P", "-c"],
        remove=True,
        read_only=True,
        network_mode="none",
    )
    return str(told.decode()).strip()


def ensuring(base: str, *requirements: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that wants this image."""
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, base, *requirements],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def no_news(line: str) -> None:
    """What `ensure` tells when it has to do anything."""
    pytest.fail(f"told: {line}")


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that two processes wanted at once."""

    recipe: Recipe
    tags: tuple[str, ...]
    told: tuple[str, ...]
    version: str


@pytest.fixture(scope="module")
def built(offline_base: str, package_index: Index) -> Iterator[Built]:
    """Two packages of an index that wants a password and a certificate, with proxies around."""
    version = f"1.{secrets.randbelow(10**9)}"  # nobody has this image yet
    package_index.add("dagnb_probe_one", version)
    package_index.add("dagnb_probe_two", version)
    package_index.add("dagnb_probe_two", "0.1")
    recipe = Recipe(
        base=offline_base,
        requirements=parse([f"dagnb_probe_one=={version}", "dagnb_probe_two>0.2"]),
    )
    settings = {
        "PIP_INDEX_URL": package_index.url,
        "PIP_CERT": str(package_index.authority),
        **PROXY,
    }
    both = [ensuring(offline_base, *recipe.requirements, **settings) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    tags = tuple(out.strip() for out, _ in said)
    yield Built(recipe=recipe, tags=tags, told=tuple(err for _, err in said), version=version)
    for tag in set(tags):
        engine.connect().api.remove_image(tag, force=True)


def test_two_processes_that_want_an_image_at_once_get_the_same_one_built_by_either(
    built: Built,
) -> None:
    first, second = built.tags
    assert first == second
    assert re.fullmatch(r"dagnb-worker:[0-9a-f]{16}", first)
    assert sum(f"image {first} built in" in told for told in built.told) == 1


def test_the_builder_tells_which_packages_come_and_masks_nothing_it_need_not(built: Built) -> None:
    (told,) = [told for told in built.told if "built in" in told]

    assert f"building {built.tags[0]} on {built.recipe.base} with " in told
    assert f"Collecting dagnb-probe-one=={built.version}\n" in told
    assert "Installing collected packages: dagnb-probe-" in told
    assert "Looking in indexes" not in told


def test_packages_that_the_base_lacks_can_be_imported(built: Built) -> None:
    code = "import dagnb_probe_one as a, dagnb_probe_two as b, cloudpickle; print(a.VERSION, b.VERSION)"

    assert printed_in(built.tags[0], code) == f"{built.version} {built.version}"


def test_an_image_that_is_there_is_found_without_a_build(built: Built) -> None:
    assert images.ensure(built.recipe, no_news) == built.tags[0] == images.find(built.recipe)

    took_s = []
    for _ in range(20):
        began = time.perf_counter()
        images.ensure(built.recipe, no_news)
        took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.05  # 2 to 4 ms where the machine is not busy


def test_order_comments_and_spelling_of_lines_make_no_other_image_and_a_version_does(
    built: Built,
) -> None:
    one, two = built.recipe.requirements
    again = parse([f"{two}  # why", "", one.replace("-", "_").upper()])
    other = parse([one, "dagnb_probe_two>0.3"])

    assert images.find(Recipe(base=built.recipe.base, requirements=again)) == built.tags[0]
    assert images.find(Recipe(base=built.recipe.base, requirements=other)) is None


def test_nothing_of_index_proxy_and_authority_is_left_in_any_layer_or_setting(
    built: Built, package_index: Index, docker_engine: docker.DockerClient
) -> None:
    needles = {
        **package_index.secrets,
        **{value: value.encode() for value in ("proxy-user-77aa", "no-proxy-4c4c")},
    }
    needles["settings"] = b"/opt/dagnb/build/"
    api = docker_engine.api

    said = json.dumps(
        [api.history(built.tags[0]), engine.inspected(docker_engine, built.tags[0])]
    ).encode()
    found = {name for name, needle in needles.items() if needle in said and name != "settings"}
    tail = b""
    for chunk in api.get_image(
        built.tags[0]
    ):  # every layer, uncompressed: also what a later layer hides
        found |= {name for name, needle in needles.items() if needle in tail + chunk}
        tail = chunk[-200:]

    assert found <= {
        "settings"
    }  # the program that reads them is part of the image and knows where they were


def test_no_stage_is_left_of_a_build(built: Built, docker_engine: docker.DockerClient) -> None:
    found = engine.inspected(docker_engine, built.tags[0])
    assert found is not None
    build = found["Config"]["Labels"][BUILD_LABEL]

    of_build = {"label": f"{BUILD_LABEL}={build}"}
    assert docker_engine.api.images(filters={**of_build, "dangling": True}) == []
    assert docker_engine.api.containers(all=True, filters=of_build) == []


def test_two_packages_of_the_users_own_index_by_the_command(
    offline_base: str, tmp_path: Path
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("tabulate  # tables\nhumanize>=4\n")
    command = [
        sys.executable,
        "-m",
        "dagnb",
        "image",
        "build",
        "-r",
        str(file),
        "--base",
        offline_base,
    ]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    first = run()
    if first.returncode and (
        "could not be reached" in first.stderr or "(from versions: none)" in first.stderr
    ):
        missing_service(f"no package index in reach of a build: {first.stderr}")
    second = run()

    tag = first.stdout.strip()
    assert first.returncode == 0, first.stderr
    assert second.stdout == first.stdout
    assert re.fullmatch(
        rf"image {tag} was there already; looking took \d+(\.\d+)? ms\n", second.stderr
    )
    code = "import tabulate, humanize; print(humanize.naturalsize(10**6), tabulate.tabulate([[1]], tablefmt='plain'))"
    assert printed_in(tag, code) == "1.0 MB 1"


def test_a_requirement_that_does_not_exist_is_told_in_pips_own_words(
    offline_base: str,
    package_index: Index,
    docker_engine: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package_index.add("dagnb_probe_three", "1.0")
    monkeypatch.setenv("PIP_INDEX_URL", package_index.url)
    monkeypatch.setenv("PIP_CERT", str(package_index.authority))
    recipe = Recipe(base=offline_base, requirements=("dagnb-probe-three==9.9",))

    with pytest.raises(ImageBuildError) as failed:
        images.ensure(recipe, lambda line: None)

    error = failed.value
    assert error.lines[-1] == "ERROR: No matching distribution found for dagnb-probe-three==9.9"
    assert "(from versions: 1.0)" in str(error)
    assert f"on {offline_base} with dagnb-probe-three==9.9 could not be built" in str(error)
    assert "Correct the name or version" in error.cure
    assert "index-password" not in str(error)
    assert images.find(recipe) is None


def test_another_cloudpickle_than_the_notebooks_is_refused_with_the_reason(
    offline_base: str,
) -> None:
    with pytest.raises(ImageBuildError) as failed:
        images.ensure(Recipe(base=offline_base, requirements=("cloudpickle<3",)), lambda line: None)

    assert "The user requested cloudpickle<3" in str(failed.value)
    assert "Workers themselves need cloudpickle==" in failed.value.cure


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (
            "dagnb-no-such-image:1",
            ("is not here and could not be pulled", "dagnb image base", images.BASE_VARIABLE),
        ),
        ("No Name", ("names no image", "python:3.12-slim")),
    ],
)
def test_a_base_that_is_not_to_be_had_is_told_with_the_cure(
    docker_engine: docker.DockerClient, base: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(LaunchError) as failed:
        images.ensure(Recipe(base=base), lambda line: None)

    assert all(word in str(failed.value) for word in (base, *words))


@pytest.mark.parametrize("n_stages", [0, 1])
def test_an_interrupted_build_leaves_no_container_and_no_image(
    offline_base: str, docker_engine: docker.DockerClient, n_stages: int
) -> None:
    build, requirement = secrets.token_hex(8), f"cloudpickle>=1.{secrets.randbelow(10**9)}"
    of_build: Any = {"label": f"{BUILD_LABEL}={build}"}

    def running() -> bool:
        return bool(docker_engine.api.containers(filters=of_build))

    process = ensuring(offline_base, requirement, BUILD=build)
    _wait_until(running, process)
    if n_stages:
        _wait_until(
            lambda: not running() and docker_engine.api.images(filters=of_build, all=True)[3:],
            process,
        )

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode != 0
    assert images.find(Recipe(base=offline_base, requirements=(requirement,))) is None
    assert docker_engine.api.containers(all=True, filters=of_build) == []
    assert docker_engine.api.images(all=True, filters=of_build) == []


def _wait_until(come: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not come():
        assert time.monotonic() < deadline
        assert process.poll() is None


def test_the_image_runs_as_nobody_with_bytecode_of_all_that_a_worker_imports(
    worker_image: str,
) -> None:
    code = (
        "import os, sys, dagnb_workers.hosting.container_main, dagnb_workers.worker.main;"
        "made = [m for m in list(sys.modules.values()) if getattr(m, '__cached__', None)];"
        "print(os.getuid(), os.getgid(), sys.flags.safe_path, [m for m in made if not os.path.exists(m.__cached__)])"
    )

    assert printed_in(worker_image, code) == "65534 65534 True []"


def test_an_image_on_the_offline_base_has_what_python_links_to(worker_image: str) -> None:
    code = "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, redis, hiredis, cloudpickle, msgpack; print('all')"

    assert printed_in(worker_image, code) == "all"


def test_a_worker_has_the_versions_of_the_notebook(worker_image: str) -> None:
    from dagnb.protocol.invocation import versions

    code = "from dagnb.protocol.invocation import versions; print(versions())"

    assert printed_in(worker_image, code) == str(versions())


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # docker leaves its socket open
def test_no_engine_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, word in (
        ("unix:///nowhere/docker.sock", "DOCKER_HOST"),
        ("tcp://127.0.0.1:1", "is not running"),
    ):
        monkeypatch.setenv("DOCKER_HOST", host)
        with pytest.raises(LaunchError, match=word) as failed:
            images.ensure(Recipe(base="any"), no_news)
        assert host in str(failed.value)
        del failed
    gc.collect()
