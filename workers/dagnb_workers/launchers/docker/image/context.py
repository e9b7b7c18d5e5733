"""The build context of a worker image: its Dockerfile, and the files that the Dockerfile copies."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dagnb_workers.launchers.docker.image import prepare
from dagnb_workers.launchers.docker.image.archive import Archive, files_below
from dagnb_workers.launchers.docker.image.pins import pins
from dagnb_workers.launchers.docker.image.pip_settings import PLACE, PipSettings

PACKAGES = ("dagnb", "dagnb_workers")
BUILD_LABEL = "dagnb.build"
"""label of all that one build makes, so that its leftovers can be found"""

_WITHOUT = frozenset({"__pycache__"})
_LIBRARY = str(prepare.LIBRARY)
_PYTHON = f"{prepare.ENVIRONMENT}/bin/python"
_COMPILER = f"{_LIBRARY}/dagnb_workers/launchers/docker/image/prepare.py"

# Two stages, because settings of the user's pip may hold passwords: they are files of the first
# stage, from which the second copies the environment only. So the image does not hold them.
# All commands are in the exec form, because a base need not have a shell.
# The parts that change most often come last, so that the engine can reuse the layers before them.
_DOCKERFILE = f"""\
FROM {{base}} AS packages
LABEL {BUILD_LABEL}={{build}}
USER 0:0
COPY build {PLACE}
RUN ["python3", "{PLACE}/prepare.py", "packages"]

FROM {{base}}
LABEL {BUILD_LABEL}={{build}}
USER 0:0
COPY --from=packages {prepare.ENVIRONMENT} {prepare.ENVIRONMENT}
COPY lib {_LIBRARY}
ENV PYTHONPATH={_LIBRARY}{{more}} PYTHONDONTWRITEBYTECODE=1
RUN ["{_PYTHON}", "-P", "{_COMPILER}", "modules"]
HEALTHCHECK NONE
USER 65534:65534
ENTRYPOINT ["{_PYTHON}", "-P", "-m", "dagnb_workers.container"]
"""


def image_hash(base: str, requirements: Sequence[str]) -> str:
    """Returns 16 hex digits that change with everything on which the image's content depends.

    base: the id of the image that it is built on.
    """
    parts = (base, _python(), _code(), pins(), sorted(requirements), _DOCKERFILE)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def write_context(
    out: IO[bytes],
    base: str,
    build: str,
    requirements: Sequence[str],
    settings: PipSettings,
    *,
    has_path: bool,
) -> None:
    """Write the archive that the engine builds from.

    has_path: the base sets a PYTHONPATH of its own, which stays.
    """
    # Without a PYTHONPATH, the empty entry after the colon would mean the current folder.
    more = ":$PYTHONPATH" if has_path else ""

    dockerfile = _DOCKERFILE.format(base=base, build=build, more=more)
    pip = {"python": _python(), "environment": dict(settings.environment)}

    with Archive(out) as archive:
        archive.add_bytes(dockerfile.encode(), "Dockerfile")
        archive.add_bytes(json.dumps(pip).encode(), "build/settings.json")
        archive.add_bytes(_lines(pins()), "build/worker.txt")
        archive.add_bytes(_lines(requirements), "build/requirements.txt")
        archive.add_file(Path(prepare.__file__), "build/prepare.py")
        for name, path in settings.files.items():
            archive.add_file(path, f"build/{name}")
        for package in PACKAGES:
            archive.add_tree(_folder(package), f"lib/{package}", _WITHOUT)


def _lines(requirements: Sequence[str]) -> bytes:
    return "".join(f"{requirement}\n" for requirement in requirements).encode()


def _python() -> str:
    """Returns the version on which bytecode, and so pickled functions, depend: 'cpython-311'."""
    return str(sys.implementation.cache_tag)


def _folder(package: str) -> Path:
    return Path(str(importlib.import_module(package).__file__)).parent


@functools.cache
def _code() -> str:
    """Returns a hash of dagnb's own files. Computed once per process, in about 5 ms."""
    code = hashlib.sha256()
    for package in PACKAGES:
        folder = _folder(package)
        for path in files_below(folder, _WITHOUT):
            content = path.read_bytes()
            name = f"{package}/{path.relative_to(folder).as_posix()}"
            # With its length, so that no two sets of files give the same bytes.
            code.update(f"{name}:{len(content)}:".encode())
            code.update(content)
    return code.hexdigest()
