"""Values that hold one another."""

from __future__ import annotations

from typing import Any


def lists_of_each_other(n: int) -> list[Any]:
    """Return n lists, each of which holds all of them."""
    lists: list[Any] = [[] for _ in range(n)]
    for each in lists:
        each.extend(lists)
    return lists
