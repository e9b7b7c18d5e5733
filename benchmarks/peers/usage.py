"""CPU seconds and memory of processes, read from /proc; Linux only. Elsewhere the figures are left out.

The CPU of a process that has ended is in the figure of the parent that waited for it, so a tree of
processes loses nothing when workers come and go.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
"""ticks of the CPU clock a second"""


@dataclass(frozen=True)
class Usage:
    """One process. own_s: its CPU seconds. ended_s: those of children that it has waited for."""

    parent: int
    own_s: float
    ended_s: float


def is_known() -> bool:
    """Returns whether this system has /proc."""
    return (PROC / "self" / "stat").exists()


def processes() -> dict[int, Usage]:
    """Returns every process of this machine, by pid."""
    seen = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        # The name of the program, in brackets, may hold spaces. Source: man proc(5).
        fields = text.rpartition(")")[2].split()
        user, system, children_user, children_system = map(int, fields[11:15])
        seen[int(folder.name)] = Usage(
            parent=int(fields[1]),
            own_s=(user + system) / TICKS,
            ended_s=(children_user + children_system) / TICKS,
        )
    return seen


def below(roots: Iterable[int], seen: Mapping[int, Usage]) -> set[int]:
    """Returns the roots that live and all their descendants."""
    children: dict[int, list[int]] = {}
    for pid, usage in seen.items():
        children.setdefault(usage.parent, []).append(pid)
    tree, todo = set(), [pid for pid in roots if pid in seen]
    while todo:
        pid = todo.pop()
        if pid not in tree:
            tree.add(pid)
            todo += children.get(pid, ())
    return tree


def cpu_by_role(
    client: int, roots: Mapping[str, int], seen: Mapping[int, Usage]
) -> dict[str, float]:
    """Returns CPU seconds so far of the client, the store, and all other processes: the workers.

    roots: role -> pid of processes that are not the client's descendants, and the role 'store'.
    """
    store = roots.get("store", 0)
    tree = below((client, *roots.values()), seen)
    by_role = {"client": seen[client].own_s, "workers": seen[client].ended_s}
    for pid in tree - {client}:
        role = "store" if pid == store else "workers"
        by_role[role] = by_role.get(role, 0.0) + seen[pid].own_s + seen[pid].ended_s
    return by_role


def busy_s() -> float:
    """Returns the CPU seconds that all processes of this machine have used."""
    fields = (PROC / "stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft = map(int, fields[:7])
    return (user + nice + system + interrupts + soft) / TICKS


def forget_peak() -> None:
    """Begin a new peak of this process's memory. Source: man proc(5), clear_refs."""
    (PROC / "self" / "clear_refs").write_text("5")


def peak_mb() -> float:
    """Returns the most memory that this process has had in RAM since then, MB of 2**20 bytes."""
    for line in (PROC / "self" / "status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1_024
    return 0.0
