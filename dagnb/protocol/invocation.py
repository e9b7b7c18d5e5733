"""The message that starts workers.

It holds secrets, so it is sent on a private socket or stdin, never in argv or environment.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

import cloudpickle

from dagnb.errors import VersionMismatchError
from dagnb.graph.brief import brief
from dagnb.protocol.messages import PROTOCOL_VERSION

T = TypeVar("T")
U = TypeVar("U")

INLINE_DAG_BYTES = 32 * 1024
"""A DAG up to this size is part of the invocation. Of a larger one, each worker gets the records of
its own tasks with its offers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """An order to start `n_workers` instances for a run.

    store: URL with credentials. namespace: begins every key there.
    key: 32 bytes that sign code and values.
    header: content hash of the program's header.
    records: the packed records of the whole DAG when it is small, else empty.
    worker, nonce: of the only worker that it is for; '' when its instances take any.
    kind: of the queues that its instances may staff.
    cpus: of each worker, which limits the threads of numeric libraries.
    lease_s: an instance that is silent for longer loses its tasks. heartbeat_s: between renewals.
    asked_at: moment of asking, by the clock of the store; 0 when no one waits for the start.
    versions: of the sender, see check_versions.
    linger_s: workers that are idle for longer leave; None: they stay until the run is over.
    place: name of the container, '' for none; the names of its instances begin with it.
    start: 'cold' or 'warm'. phases: (phase, begin, end) of the start so far.
    sent_at: moment when the container got this, by the clock of its machine.
    segment_bytes: of shared memory that large values of the run may take; 0: none, also where
      workers do not share the memory of one machine.
    large_bytes: values from this size on go to segments; 0: from the usual size on.
    segments: directory of the run's segments, '' for none; set by the supervisor, for its workers.
    broker: socket of the one who gives the files of segments, '' for none; see storage/broker.py.
    broker_key: of the run, for its owner; a container has its own secret instead.
    arrays: packed places of the client's arrays in their segment, by name.
    arrays_fd: descriptor of that segment, which workers inherit from the supervisor, who sets it;
      -1 for none.
    metrics: when spans are uploaded, read by dagnb.trace.upload.strategy; '' for its default.
    surroundings: what tasks see of the client, such as its folder; {} for what the workers have.
    batches: workers take several short tasks at a time, see protocol/worker.py.
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
    sent_at: float = 0.0
    metrics: str = ""
    segment_bytes: int = 0
    large_bytes: int = 0
    segments: str = ""
    broker: str = ""
    broker_key: str = field(default="", repr=False)
    arrays: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    arrays_fd: int = -1
    surroundings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    batches: bool = True

    __repr__ = brief

    def to_json(self) -> str:
        """Returns one line of JSON."""
        values = asdict(self)
        values["key"] = base64.b64encode(self.key).decode()
        values["records"] = [base64.b64encode(record).decode() for record in self.records]
        values["arrays"] = _mapped(self.arrays, lambda data: base64.b64encode(data).decode())
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Invocation:
        """Read what to_json wrote, perhaps in another version."""
        known = {field.name for field in fields(cls)}
        # Fields of a later version are left out: check_versions then says what does not fit.
        values = {name: value for name, value in json.loads(text).items() if name in known}
        values["key"] = base64.b64decode(values["key"])
        values["records"] = tuple(base64.b64decode(record) for record in values["records"])
        values["arrays"] = _mapped(values.get("arrays", {}), base64.b64decode)
        values["phases"] = tuple(map(tuple, values.get("phases", ())))
        return cls(**values)

    def again(self) -> Invocation:
        """Returns the same for a worker that is started, or takes part, once more.

        The times of the first start are left out, or its trace would show a start that long.
        """
        return replace(self, asked_at=0.0, start="warm", phases=(), sent_at=0.0)

    def check_versions(self) -> None:
        """Raises VersionMismatchError when this side cannot read what the sender pickled.

        To be called before anything is unpickled.
        """
        if self.versions and self.versions != versions():
            raise VersionMismatchError(versions(), self.versions)


def _mapped(values: Mapping[str, T], change: Callable[[T], U]) -> dict[str, U]:
    return dict(zip(values, map(change, values.values()), strict=True))


def versions() -> str:
    """Returns the versions that must be equal on both sides: Python, cloudpickle, protocol."""
    return f"{python_version()}, cloudpickle {cloudpickle.__version__}, protocol {PROTOCOL_VERSION}"


def python_version() -> str:
    """Returns implementation and minor version of Python.

    Unpickling a code object of another version crashes the process.
    """
    return f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
