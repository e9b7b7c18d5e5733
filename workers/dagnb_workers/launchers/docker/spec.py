"""What a container is made of, and how it is shut in. Pure: from settings to the arguments of the engine.

Nothing here comes from the store: image, mounts and limits are the user's own settings, which travel on private
sockets. A container has no network unless one was granted, no rights, a root that cannot be written to, and limits on
memory, CPUs and processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

INSIDE = "/run/dagnb"
"""Where the folder with the store's socket is seen in a container"""

HOME, HOST, NAME, SPEC, RUN, WORKER, INSTANCE, ATTEMPT, PROJECT, IDLE = (
    "dagnb.home",
    "dagnb.host",
    "dagnb.name",
    "dagnb.spec",
    "dagnb.run",
    "dagnb.worker",
    "dagnb.instance",
    "dagnb.attempt",
    "dagnb.project",
    "dagnb.idle_s",
)
"""Labels. home, host: whose container it is, a hash of the runtime directory, the mark of the agent's process. run,
worker, attempt: whom it was started for; it serves others later, as its name tells."""


def home_mark(directory: Path) -> str:
    """Tells by the runtime directory whose a container is."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file of this machine, seen at `target` in the container."""

    source: str
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Containers of equal specs are alike: each can do the work of the other. user: 'uid:gid'. tmp_mb: size of /tmp."""

    image: str
    cpus: float
    memory_mb: int
    network: str = "none"
    user: str = "65534:65534"
    mounts: tuple[Mount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    pids: int = 256
    tmp_mb: int = 256

    def to_json(self) -> str:
        """One line; equal specs give equal lines."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """What to_json wrote."""
        known = {field.name for field in fields(cls)}
        told = {name: value for name, value in json.loads(text).items() if name in known}
        told["mounts"] = tuple(Mount(**mount) for mount in told["mounts"])
        told["environment"] = tuple((name, value) for name, value in told["environment"])
        return cls(**told)

    def without_secrets(self) -> Spec:
        """The same with a hash in place of the environment, for labels, which everybody who may use the engine sees."""
        mark = hashlib.sha256(json.dumps(self.environment).encode()).hexdigest()
        return replace(self, environment=(("sha256", mark),) if self.environment else ())

    @property
    def key(self) -> str:
        """Names the spec."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def told(self) -> str:
        """For people: '1 CPU, 512 MB, dagnb-worker:...'."""
        return f"{self.cpus:g} CPU, {self.memory_mb} MB, {self.image}"


def create_arguments(spec: Spec, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What the engine's `create` is given. The log driver gets nothing: what tasks print travels with their results."""
    return {
        "image": spec.image,
        "name": name,
        "labels": dict(labels),
        "stdin_open": True,
        "detach": True,  # else its input ends with the first connection to it
        "auto_remove": True,
        "use_config_proxy": False,  # the user's own proxies, with their passwords, are not for tasks
        "log_config": {"type": "none", "config": {}},
        "network_mode": spec.network,
        "user": spec.user,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": f"size={spec.tmp_mb}m,mode=1777"},  # noqa: S108  # the container's own
        "ipc_mode": "private",
        "pids_limit": spec.pids,
        "mem_limit": f"{spec.memory_mb}m",
        "memswap_limit": f"{spec.memory_mb}m",
        "nano_cpus": round(spec.cpus * 1e9),
        "ulimits": [{"name": "core", "soft": 0, "hard": 0}],
        # One seed of hashes for all containers: tasks that share work by hash(key) run in several of them.
        "environment": {"HOME": "/tmp", "PYTHONHASHSEED": "0", **dict(spec.environment)},  # noqa: S108
        "working_dir": "/tmp",  # noqa: S108
        "mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": not mount.is_writable,
            }
            for mount in spec.mounts
        ],
    }
