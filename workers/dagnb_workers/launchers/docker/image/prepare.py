"""The program that runs inside a build, with the Python of the base image.

    packages   first stage: makes an environment, and lets pip install packages into it
    modules    second stage: compiles dagnb and what a worker imports

It imports nothing of dagnb, which is not installed there, and needs no shell, which the base may
lack.
"""

from __future__ import annotations

import compileall
import importlib
import json
import os
import py_compile
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import NoReturn

ENVIRONMENT = Path("/opt/dagnb/env")
LIBRARY = Path("/opt/dagnb/lib")
IMPORTED = (
    "dagnb_workers.hosting.container_main",
    "dagnb_workers.hosting.fork_server",
    "dagnb_workers.worker.main",
    "encodings.idna",
)
"""Modules that every worker imports.

Python images have no bytecode, so without these, every start would compile what they import.
"""

QUIET = {
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def packages(folder: Path) -> int:
    """Make the environment, and let pip install what the base lacks. Returns pip's exit code."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    if sys.implementation.cache_tag != settings["python"]:
        _refuse(
            f"this base has Python {sys.implementation.cache_tag}, "
            f"and the notebook has {settings['python']}"
        )

    venv.create(ENVIRONMENT, system_site_packages=True, with_pip=False, symlinks=True)
    # The base's Python may be in an environment itself. `venv` builds on the Python below that, so
    # the packages of the environment are added by a .pth file.
    if sys.prefix != sys.base_prefix:
        (own,) = (ENVIRONMENT / "lib").glob("python*/site-packages")
        lines = "\n".join(site.getsitepackages()) + "\n"
        (own / "_dagnb_base.pth").write_text(lines, encoding="utf-8")

    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install"]
    command += ["-r", str(folder / "worker.txt"), "-r", str(folder / "requirements.txt")]
    return subprocess.call(command, env={**os.environ, **QUIET, **settings["environment"]})


def modules() -> int:
    """Compile dagnb and what a worker imports. Exits with 1 when a worker could not start here."""
    # Files of an image do not change, so Python need not compare their times at each start.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(LIBRARY, quiet=1, invalidation_mode=mode)

    # The image sets PYTHONDONTWRITEBYTECODE for workers; this program must write bytecode.
    sys.dont_write_bytecode = False
    sys.path.insert(0, str(LIBRARY))
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            _refuse(f"a worker cannot import {name}: {error}")
    return 0


def _refuse(reason: str) -> NoReturn:
    sys.exit(f"ERROR: {reason}")


if __name__ == "__main__":
    sys.exit(packages(Path(__file__).parent) if sys.argv[1:] == ["packages"] else modules())
