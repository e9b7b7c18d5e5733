"""The message that starts workers.

It holds secrets, so it travels on a private socket or stdin, never in argv or environment.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import cloudpickle

from dagnb.errors import VersionMismatchError
from dagnb.graph.brief import brief
from dagnb.protocol.messages import PROTOCOL_VERSION

INLINE_DAG_BYTES = 32 * 1024
"""A DAG up to this size travels inside the invocation; of a larger one each worker gets its slice with its offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Start `n_workers` instances for a run. store: URL with credentials; key: 32 bytes that sign code and values.

    header: content hash of the program's header. records: the packed records of the whole DAG when it is small, else
    empty. nonce: set when it is for one worker only. kind: of the queues its instances may staff.
    asked_at: moment of asking, by the store's clock. cpus: CPUs of each worker, for thread limits of numeric libraries.
    lease_s, heartbeat_s: see the protocol. linger_s: workers that are idle for so long leave; None: they stay until the
    run is over. place: the container they are in, '' for none; the names of its instances begin with it. start: 'cold'
    or 'warm'. phases: (phase, begin, end) of the start so far, told_at: when the container was told of this, epoch
    seconds of its machine. metrics: when spans are uploaded, as text that dagnb.trace.upload.strategy reads; '' for
    its default. surroundings: what tasks see around them, as the launcher and its workers agree on; {} for what the
    workers have.
    """

    run: str
    store: str = field(repr=False)
    key: bytes = field(repr=False)
    header: str = ""
    n_workers: int = 1
    namespace: str = "dagnb"
    records: tuple[bytes, ...] = ()
    worker: str = ""
    nonce: str = ""
    kind: str = ""
    cpus: float = 1.0
    lease_s: float = 8.0
    heartbeat_s: float = 2.0
    asked_at: float = 0.0
    versions: str = ""
    linger_s: float | None = None
    place: str = ""
    start: str = "cold"
    phases: tuple[tuple[str, float, float], ...] = ()
    told_at: float = 0.0
    metrics: str = ""
    surroundings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    __repr__ = brief

    def to_json(self) -> str:
        """One line of JSON."""
        told = asdict(self)
        told["key"] = base64.b64encode(self.key).decode()
        told["records"] = [base64.b64encode(record).decode() for record in self.records]
        return json.dumps(told)

    @classmethod
    def from_json(cls, text: str) -> Invocation:
        """What to_json wrote; fields of a later version are left out, so that check_versions can name it."""
        known = {field.name for field in fields(cls)}
        told = {name: value for name, value in json.loads(text).items() if name in known}
        told["key"] = base64.b64decode(told["key"])
        told["records"] = tuple(base64.b64decode(record) for record in told["records"])
        told["phases"] = tuple((name, begin, end) for name, begin, end in told.get("phases", ()))
        return cls(**told)

    def again(self) -> Invocation:
        """The same for a worker that is started anew, or takes part anew: nobody waited for it since `asked_at`."""
        return replace(self, asked_at=0.0, start="warm", phases=(), told_at=0.0)

    def check_versions(self) -> None:
        """Raises VersionMismatchError before anything is unpickled when the other side cannot be trusted to read it."""
        if self.versions and self.versions != versions():
            raise VersionMismatchError(versions(), self.versions)


def versions() -> str:
    """What must be equal on both sides: minor version of Python, cloudpickle, the protocol."""
    return f"{python_version()}, cloudpickle {cloudpickle.__version__}, protocol {PROTOCOL_VERSION}"


def python_version() -> str:
    """Implementation and minor version: a code object that another one made ends the process that unpickles it."""
    return f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
