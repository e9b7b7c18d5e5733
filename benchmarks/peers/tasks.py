"""The functions that tasks call. They import what they need inside, as a short cell would not."""

# ruff: noqa: PLC0415, ANN  # numpy is imported by workers, not where graphs are made

from __future__ import annotations

from collections import Counter
from typing import Any


def noop(*values: Any) -> None:
    return None


def increment(number: int) -> int:
    return number + 1


def add(left: float, right: float) -> float:
    return left + right


def add_busy(left: float, right: float) -> float:
    import time

    end = time.perf_counter() + 0.005
    while time.perf_counter() < end:
        pass
    return left + right


def block(seed: int, size: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).random((size, size))


def multiply(left: Any, right: Any) -> Any:
    return left @ right


def total_of(*parts: Any) -> Any:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def grand_total(*parts: Any) -> float:
    return float(sum(part.sum() for part in parts))


def ones(megabytes: int) -> Any:
    import numpy as np

    return np.ones(megabytes * 131_072)


def plus_one(array: Any) -> Any:
    return array + 1


def array_sum(array: Any) -> float:
    return float(array.sum())


def words(text: str) -> Counter[str]:
    return Counter(text.split())


def merge(left: Counter[str], right: Counter[str]) -> Counter[str]:
    both = left.copy()
    both.update(right)
    return both


def count(counted: Counter[str]) -> int:
    return sum(counted.values())
