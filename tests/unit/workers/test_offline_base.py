"""The parts of this machine in a base image that is made without a registry."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

import pytest
from dagnb_workers.launchers.docker.image import offline
from dagnb_workers.launchers.docker.image.archive import Archive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a base is made on Linux only")


def test_the_interpreter_of_a_base_is_this_python_outside_of_its_environment() -> None:
    interpreter = offline._interpreter()

    code = "import sys; print(sys.version); print(sys.prefix == sys.base_prefix)"
    told = subprocess.run(
        [interpreter, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert told.splitlines() == [*sys.version.splitlines(), "True"]
    assert not interpreter.is_symlink()


def test_the_libraries_that_a_program_loads_are_found_with_the_loader() -> None:
    libraries = offline._libraries([offline._interpreter()])

    names = {path.name for path in libraries}
    assert [name for name in names if name.startswith(("libc.", "libc-", "ld-musl"))]
    assert [name for name in names if name.startswith("ld-")]
    assert all(path.is_file() for path in libraries)


def test_a_base_has_certificates_where_this_system_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "_BUNDLES", ())
    out = io.BytesIO()

    with Archive(out) as archive:
        offline._add_settings(archive)
    out.seek(0)
    with tarfile.open(fileobj=out) as made:
        bundle = made.extractfile("etc/ssl/certs/ca-certificates.crt")
        assert bundle is not None
        text = bundle.read().decode()

    assert text.count("-----BEGIN CERTIFICATE-----") > 50
