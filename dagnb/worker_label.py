"""Names of workers and labels of resources, as errors, listings and pictures show them."""

from __future__ import annotations

import re

_POOL_MEMBER = re.compile(r"~(?P<resources>[^/]*)/(?P<number>\d+)")
_RESOURCE = re.compile(r"(?P<amount>[\d.]+)(?P<unit>cpu|mb)")


def worker_text(worker: str) -> str:
    """Returns a worker's id as people read it; names that a planner gave stay as they are.

    >>> [worker_text(w) for w in ("~/1", "~200mb/1", "~0.5cpu-512mb/2", "w0")]
    ['worker 1', 'worker 1 (200 MB)', 'worker 2 (0.5 CPUs, 512 MB)', 'w0']
    """
    member = _POOL_MEMBER.fullmatch(worker)
    if member is None:
        return worker
    if not member["resources"]:
        return f"worker {member['number']}"
    return f"worker {member['number']} ({label_text(member['resources'])})"


def label_text(label: str) -> str:
    """Returns the label of resources, as `Resources.label` writes it, in words; '' stays ''.

    >>> label_text("2cpu-512mb"), label_text("1cpu-net"), label_text("")
    ('2 CPUs, 512 MB', '1 CPU, network', '')
    """
    return ", ".join(_resource_text(part) for part in label.split("-") if part)


def _resource_text(part: str) -> str:
    if part == "net":
        return "network"
    if part.startswith("env"):
        return f"packages {part[3:]}"  # a hash: it only tells different packages apart
    amount = _RESOURCE.fullmatch(part)
    if amount is None:
        return part
    if amount["unit"] == "mb":
        return f"{int(amount['amount']):,} MB"
    return "1 CPU" if amount["amount"] == "1" else f"{amount['amount']} CPUs"
