"""The key of a host process: clients with equal keys share the host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from dagnb_workers.hosting.interpreter import PythonStart


@dataclass(frozen=True, slots=True)
class HostKey:
    """The key of a host: platform, Python, hash of dagnb's code, and options of the interpreter.

    early: names a fork server with early imports, see import_servers.py; '' for all others.
    """

    host: str
    python: str
    code: str
    start: PythonStart = field(default_factory=PythonStart)
    early: str = ""

    @classmethod
    def of(cls, request: dict[str, Any]) -> HostKey:
        """Returns the host that a request or a launch file names."""
        return cls(request["host"], request["python"], request["code"], PythonStart.of(request))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that a request or a launch file has, for JSON."""
        return {"host": self.host, "python": self.python, "code": self.code, **self.start.to_dict()}

    @property
    def mark(self) -> str:
        """A short hash. A host labels its containers with it, and so finds them again."""
        return hashlib.sha256(f"{self.python}\n{self.code}\n{self.start}".encode()).hexdigest()[:8]

    @property
    def forks_supervisors(self) -> bool:
        """True for a fork server: each of its runs has a process of its own, the supervisor."""
        return self.host == "process"
