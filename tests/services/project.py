"""Folders of files, from which real scripts are started that compare what they see with what their
tasks see.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

LIMIT_S = 100.0

COMPARED = """
def compared(look, *arguments):
    import dagnb
    here, there = look(*arguments), dagnb.task(look)(*arguments).run(workers="process").result(60)
    print(*(["same", ascii(here)] if here == there else ["other", ascii(here), ascii(there)]))
"""
"""Text of a module `compared`: its function prints "same" and what was seen, or "other" and both"""


def asking(body: str) -> str:
    """A script that compares what this body of a function returns here and there."""
    return f"from compared import compared\ndef look():\n{textwrap.indent(body, '    ')}\ncompared(look)\n"


class Project:
    """A folder with these files; text is dedented. COMPARED lies in `tools`, which is on PYTHONPATH
    unless said.
    """

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        for name, text in {"tools/compared.py": COMPARED, **files}.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        """Write a file; returns its path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def run(
        self,
        *command: str,
        cwd: str = "",
        options: tuple[str, ...] = (),
        python: str = "",
        **environ: str,
    ) -> str:
        """What Python prints when it is called so in a folder of the project. environ: '' for what
        is not to be set.
        """
        told = {**os.environ, "PYTHONPATH": str(self.root / "tools"), **environ}
        done = subprocess.run(
            [python or sys.executable, *options, *command],
            cwd=self.root / cwd,
            env={name: value for name, value in told.items() if value},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()
