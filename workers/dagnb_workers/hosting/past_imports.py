"""The installed modules that tasks of earlier runs imported, kept in the runtime directory.

There is one file for each Python and folder of a client: a notebook most likely imports again what
it, or one beside it, imported before. Supervisors write it while their runs go on; the agent reads
it to import the modules early. Two supervisors may write at the same moment: then the later one
wins, and what is lost is noted again by the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagnb.storage.home import write_private

MAX_MODULES = 100
"""Modules that are kept, those that were imported last."""


@dataclass(frozen=True, slots=True)
class PastImports:
    """The past imports of one Python and folder. file: where they are kept."""

    file: Path

    @classmethod
    def of(cls, directory: Path, launch: Mapping[str, Any]) -> PastImports:
        """Returns those of a launch request."""
        surroundings = json.loads(launch["invocation"]).get("surroundings", {})
        place = f"{launch['python']}\n{surroundings.get('folder', '')}"
        mark = hashlib.sha256(place.encode(errors="surrogatepass")).hexdigest()[:16]
        return cls(directory / "imports" / f"{mark}.json")

    def read(self) -> dict[str, float]:
        """Returns module -> seconds of its slowest import, the cheapest first."""
        modules = sorted(self._kept().items(), key=lambda item: (item[1], item[0]))
        return dict(modules)

    def add(self, imports: Mapping[str, float]) -> None:
        """Note these imports of a run. A file that cannot be written is left as it is."""
        kept = joined(self._kept(), imports)
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(self.file, json.dumps(kept).encode())

    def _kept(self) -> dict[str, float]:
        try:
            kept: dict[str, float] = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return kept


def joined(kept: Mapping[str, float], imports: Mapping[str, float]) -> dict[str, float]:
    """Returns module -> seconds of both, those of the new imports last, at most MAX_MODULES.

    The longer time is kept: a module that was imported early took no time in its task.
    """
    both = dict(kept)
    for module, seconds in imports.items():
        both[module] = max(seconds, both.pop(module, 0.0))
    return dict(list(both.items())[-MAX_MODULES:])
