"""What a call needs, brought here and not unpickled yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from dagnb.errors import DagnbError
from dagnb.protocol.program import Body, FunctionLine


@dataclass(slots=True)
class Loaded:
    """Everything one call needs, as bytes; problem: why it cannot be called. begin_s: when the last of it came."""

    line: FunctionLine | None = None
    body: Body | None = None
    inputs: list[bytes] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    problem: DagnbError | None = None
    begin_s: float = 0.0

    @property
    def n_bytes(self) -> int:
        """What is to be unpickled for the call: values, contents, arguments."""
        call = self.body.call if self.body is not None else b""
        return len(call) + sum(map(len, self.inputs)) + sum(map(len, self.contents.values()))
