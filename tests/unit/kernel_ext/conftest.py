"""A shell as a notebook has it, without a kernel, in which cells run on inline workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from traitlets.config import Config

from dagnb import session


class Cells:
    """Runs cells and keeps what came of them."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, source: str) -> Any:
        """The cell's value; raises what the cell raised."""
        result = self.attempt(source)
        result.raise_error()
        return result.result

    def attempt(self, source: str) -> ExecutionResult:
        """As run, but gives the error."""
        return self.shell.run_cell(source, store_history=True)

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.shell.user_ns


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    """A shell with the extension loaded; inline workers by default."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(session, "_settings", replace(session.settings(), workers="inline"))
    config = Config(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "dagnb")
    yield Cells(shell)
    shell.run_line_magic("unload_ext", "dagnb")
    InteractiveShell.clear_instance()
