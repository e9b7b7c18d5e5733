"""`dagnb run`: runs a script as Python would, or the code cells of a notebook in order.

Both run in this process, so that the settings of the command line apply to them. A notebook runs in
a plain IPython shell: no kernel has to be installed and started.
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
    """Runs the file. Returns 1 if a cell failed, else 0.

    Raises ConfigError if it cannot be read, and what a script raises.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}. Give the path of a .py or .ipynb file.")
    sys.argv[:] = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    if path.suffix == ".ipynb":
        return _run_cells(path)
    runpy.run_path(str(path), run_name="__main__")
    return 0


def _run_cells(path: Path) -> int:
    """Runs cells up to the first one that fails; IPython prints its error."""
    cells = _code_cells(path)
    os.chdir(path.resolve().parent)  # as a kernel does
    # Imported by name: only the notebook arm may import IPython, and it need not be installed.
    settings: dict[str, dict[str, object]] = {"HistoryManager": {"enabled": False}}
    if not sys.stdout.isatty():
        settings["InteractiveShell"] = {"colors": "nocolor"}
    config = importlib.import_module("traitlets.config").Config(settings)
    interactiveshell = importlib.import_module("IPython.core.interactiveshell")
    shell = interactiveshell.InteractiveShell.instance(config=config)
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
        raise ConfigError(f"{path} is not a notebook of format 4: {error!r}. {cure}") from error
