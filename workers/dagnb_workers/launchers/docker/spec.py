"""The spec of a container: what it is made of, and how it is isolated. Pure.

No part of it comes from the store: image, mounts and limits are the user's own settings, which
travel on private sockets. A container has no network unless the user grants one, no capabilities, a
read-only root, and limits on memory, CPUs and processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import (
    asdict,
    dataclass,
    fields,
    replace,
)
from pathlib import Path
from typing import Any

# The folder of the store's socket in a container.
INSIDE = "/run/dagnb"

# Labels of containers. They cannot change after the start.
# The owner of a container: a hash of the runtime directory, and the mark of the host process.
HOME, HOST = "dagnb.home", "dagnb.host"
# The container itself: dagnb's name for it, its spec, seconds for which it is kept idle.
NAME, SPEC, IDLE = "dagnb.name", "dagnb.spec", "dagnb.idle_s"
# The run, worker and attempt it was started for; its name in the engine's list shows the present.
RUN, WORKER, INSTANCE = "dagnb.run", "dagnb.worker", "dagnb.instance"
ATTEMPT, PROJECT = "dagnb.attempt", "dagnb.project"


def home_mark(directory: Path) -> str:
    """Returns the value of the label HOME for a runtime directory."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file of this machine, seen at `target` in the container."""

    source: str
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The spec of a container; containers of equal specs can do each other's work.

    user: 'uid:gid'. pids: processes and threads at a time. tmp_mb: megabytes of /tmp.
    """

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
        """Returns one line; equal specs give equal lines."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Returns the spec that to_json wrote; fields of a later version are left out."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in json.loads(text).items() if name in known}
        values["mounts"] = tuple(Mount(**mount) for mount in values["mounts"])
        values["environment"] = tuple((name, value) for name, value in values["environment"])
        return cls(**values)

    def without_secrets(self) -> Spec:
        """Returns the spec with a hash in place of the environment, for labels.

        Labels are seen by everyone who may use the engine, and values may be passwords.
        """
        if not self.environment:
            return self
        mark = hashlib.sha256(json.dumps(self.environment).encode()).hexdigest()
        return replace(self, environment=(("sha256", mark),))

    @property
    def key(self) -> str:
        """A short hash of the spec."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def create_arguments(spec: Spec, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Returns the arguments of the engine's `create`."""
    return {
        "image": spec.image,
        "name": name,
        "labels": dict(labels),
        "stdin_open": True,
        "detach": True,  # otherwise the input ends with the first connection to the container
        "auto_remove": True,
        "use_config_proxy": False,  # the user's proxies, with their passwords, are not for tasks
        # What tasks print travels with their results; the engine must not keep it on its disk.
        "log_config": {"type": "none", "config": {}},
        "network_mode": spec.network,
        "user": spec.user,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": f"size={spec.tmp_mb}m,mode=1777"},  # noqa: S108  # the container's own
        "ipc_mode": "private",
        "pids_limit": spec.pids,
        # Equal limits leave no swap: a task that needs too much memory ends instead of being slow.
        "mem_limit": f"{spec.memory_mb}m",
        "memswap_limit": f"{spec.memory_mb}m",
        "nano_cpus": round(spec.cpus * 1e9),
        "ulimits": [{"name": "core", "soft": 0, "hard": 0}],
        "environment": {
            "HOME": "/tmp",  # noqa: S108
            # One seed for all containers, because tasks may distribute work by hash(key).
            "PYTHONHASHSEED": "0",
            **dict(spec.environment),
        },
        "working_dir": "/tmp",  # noqa: S108
        "mounts": list(map(_bind, spec.mounts)),
    }


def _bind(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": not mount.is_writable,
    }
