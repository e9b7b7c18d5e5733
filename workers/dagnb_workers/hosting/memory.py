"""How often memory ran out where this process lives, a container or a machine, and how much may be used there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

_MACHINE = (Path("/proc/vmstat"),)
_CONTAINER = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 1 << 60


def count_oom_kills(*, in_container: bool) -> int:
    """How often the kernel killed for want of memory, in this container or on this machine; 0 where nobody tells."""
    for line in _lines(_CONTAINER if in_container else _MACHINE):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def container_limit() -> int | None:
    """Bytes the processes of this container may use together; None without a limit."""
    for line in _lines(_LIMITS):
        if line.isdigit() and int(line) < _NO_LIMIT:
            return int(line)
    return None


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        with contextlib.suppress(OSError):
            yield from file.read_text().splitlines()
