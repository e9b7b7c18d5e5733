"""The bytes that a store holds, as a table and as sentences: the same in terminal and notebook."""

from __future__ import annotations

from dagnb.protocol.usage import RunUsage, StoreUsage
from dagnb.views.wording import bytes_text, counted

USAGE_HEADS = ("results", "code and inputs", "shared with other runs", "records")
"""Heads of usage_cells. Code and inputs: functions, sources and large arguments."""


def usage_cells(usage: RunUsage | None) -> list[str]:
    """The cells of USAGE_HEADS for one run; empty when nothing of it is left."""
    if usage is None:
        return ["" for _ in USAGE_HEADS]
    sizes = (usage.result_bytes, usage.own_bytes, usage.shared_bytes, usage.record_bytes)
    return [bytes_text(size) for size in sizes]


def usage_text(usage: StoreUsage) -> str:
    """Sentences on the store as a whole, with what can be forgotten."""
    runs = usage.runs.values()
    parts = (
        f"{counted(len(runs), 'run')}: "
        f"{bytes_text(sum(run.result_bytes for run in runs))} of results, "
        f"{bytes_text(sum(run.own_bytes for run in runs) + usage.shared_bytes)} of code and inputs "
        f"({bytes_text(usage.shared_bytes)} shared by several runs), "
        f"{bytes_text(sum(run.record_bytes for run in runs))} of records"
    )
    unused = ""
    if usage.unused_bytes:
        unused = f"; {bytes_text(usage.unused_bytes)} of code and inputs belong to no run listed"
    return f"{_fill_text(usage)}{parts}{unused}."


def _fill_text(usage: StoreUsage) -> str:
    if usage.used_bytes is None:
        return "The store holds "
    limit = "without a limit"
    if usage.limit_bytes is not None:
        limit = f"of at most {bytes_text(usage.limit_bytes)} (maxmemory)"
    return f"The store uses {bytes_text(usage.used_bytes)} {limit}. It holds "
