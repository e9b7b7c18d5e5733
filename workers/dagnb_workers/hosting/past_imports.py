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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dagnb.storage.home import write_private

MAX_MODULES = 100
"""Modules that are kept, those that were imported last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """The imports of the runs of one folder.

    seconds: by module, the one that was imported last is the last. latest_run: the run that began
    last. latest: the modules that it imported.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    latest_run: str = ""
    latest: tuple[str, ...] = ()

    def begun(self, run: str) -> Imports:
        """Returns these when another run begins, which has imported nothing yet."""
        if run == self.latest_run:
            return self
        return replace(self, latest_run=run, latest=())

    def joined(self, run: str, imports: Mapping[str, float]) -> Imports:
        """Returns these and the imports of a run, at most MAX_MODULES.

        The longer time is kept: a module that was imported early took no time in its task.
        """
        seconds = dict(self.seconds)
        for module, taken_s in imports.items():
            seconds[module] = max(taken_s, seconds.pop(module, 0.0))
        latest = tuple(dict.fromkeys([*self.begun(run).latest, *imports]))
        kept = dict(list(seconds.items())[-MAX_MODULES:])
        return Imports(seconds=kept, latest_run=run, latest=latest[-MAX_MODULES:])

    @property
    def modules(self) -> tuple[str, ...]:
        """All modules, the cheapest first: a module is shown with those imported before it."""
        return tuple(sorted(self.seconds, key=lambda module: (self.seconds[module], module)))

    @property
    def latest_s(self) -> float:
        """Seconds that the latest run needed for its imports, or would have needed."""
        return sum(self.seconds.get(module, 0.0) for module in self.latest)


@dataclass(frozen=True, slots=True)
class PastImports:
    """The file of one Python and folder, as one run sees it."""

    file: Path
    run: str

    @classmethod
    def of(cls, directory: Path, launch: Mapping[str, Any]) -> PastImports:
        """Returns that of a launch request."""
        invocation = json.loads(launch["invocation"])
        folder = invocation.get("surroundings", {}).get("folder", "")
        place = f"{launch['python']}\n{folder}".encode(errors="surrogatepass")
        mark = hashlib.sha256(place).hexdigest()[:16]
        return cls(directory / "imports" / f"{mark}.json", invocation.get("run", ""))

    def read(self) -> Imports:
        """Returns the imports; none when the file is missing or unreadable."""
        try:
            fields = json.loads(self.file.read_bytes())
            return Imports(**{**fields, "latest": tuple(fields["latest"])})
        except (OSError, ValueError, TypeError, KeyError):
            return Imports()

    def begin(self) -> None:
        """Note that the run begins."""
        imports = self.read()
        if imports.seconds:
            self._write(imports.begun(self.run))

    def add(self, imports: Mapping[str, float]) -> None:
        """Note these imports of the run."""
        self._write(self.read().joined(self.run, imports))

    def _write(self, imports: Imports) -> None:
        fields = {
            "seconds": dict(imports.seconds),
            "latest_run": imports.latest_run,
            "latest": imports.latest,
        }
        # Only one folder is made: when the runtime directory is gone, it must stay so.
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(self.file, json.dumps(fields).encode())
