"""The message that starts workers.

It holds secrets, so it travels on a private socket or stdin, never in argv or environment.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
from dataclasses import asdict, dataclass, field

import cloudpickle

from dagnb.errors import VersionMismatchError
from dagnb.protocol.messages import PROTOCOL_VERSION

INLINE_DAG_BYTES = 32 * 1024
"""A DAG up to this size travels inside the invocation; of a larger one each worker gets its slice with its offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Start `n_workers` instances for a run. store: URL with credentials; key: 32 bytes that sign code and values.

    header: content hash of the program's header. records: the packed records of the whole DAG when it is small, else
    empty. nonce: set when it is for one worker only.
    asked_at: moment of asking, by the store's clock. cwd: where process workers run, '' for anywhere.
    cpus: CPUs of each worker, for thread limits of numeric libraries. lease_s, heartbeat_s: see the protocol.
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
    cpus: float = 1.0
    lease_s: float = 8.0
    heartbeat_s: float = 2.0
    asked_at: float = 0.0
    cwd: str = ""
    versions: str = ""

    def to_json(self) -> str:
        """One line of JSON."""
        fields = asdict(self)
        fields["key"] = base64.b64encode(self.key).decode()
        fields["records"] = [base64.b64encode(record).decode() for record in self.records]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Invocation:
        """What to_json wrote; fields of a later version are left out, so that check_versions can name it."""
        fields = {name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__}
        fields["key"] = base64.b64decode(fields["key"])
        fields["records"] = tuple(base64.b64decode(record) for record in fields["records"])
        return cls(**fields)

    def check_versions(self) -> None:
        """Raises VersionMismatchError before anything is unpickled when the other side cannot be trusted to read it."""
        if self.versions and self.versions != versions():
            raise VersionMismatchError(versions(), self.versions)


def versions() -> str:
    """What must be equal on both sides: minor version of Python, cloudpickle, the protocol."""
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    return f"{python}, cloudpickle {cloudpickle.__version__}, protocol {PROTOCOL_VERSION}"
