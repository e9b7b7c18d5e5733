"""`dagnb run`: a script as Python would run it, or a notebook's code cells in order, in this very process.

In this process, so that the defaults given on the command line hold for it. Notebooks run in a plain IPython shell:
no kernel has to be installed, started and talked to.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from dagnb.errors import ConfigError


def execute(path: Path, arguments: Sequence[str]) -> int:
    """Run the file. Returns the exit code: 1 when a cell failed. What a script raises is raised here."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}. Give the path of a .py or .ipynb file.")
    sys.argv[:] = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    if path.suffix == ".ipynb":
        return _run_cells(path)
    runpy.run_path(str(path), run_name="__main__")
    return 0


def _run_cells(path: Path) -> int:
    """Stops at the first cell that fails; IPython has shown why."""
    cells = _code_cells(path)
    os.chdir(path.resolve().parent)  # as a kernel does
    # By name: what is shown in a notebook, and how, is not known in this room.
    settings: dict[str, dict[str, object]] = {"HistoryManager": {"enabled": False}}
    if not sys.stdout.isatty():
        settings["InteractiveShell"] = {"colors": "nocolor"}
    config = importlib.import_module("traitlets.config").Config(settings)
    shell = importlib.import_module("IPython.core.interactiveshell").InteractiveShell.instance(
        config=config
    )
    for source in cells:
        result = shell.run_cell(source, store_history=True)
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            raise result.error_in_exec
        if not result.success:
            return 1
    return 0


def _code_cells(path: Path) -> list[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        cure = "Open it in Jupyter and save it again."
        raise ConfigError(f"{path} is no notebook of format 4: {error!r}. {cure}") from error
