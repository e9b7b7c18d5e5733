"""Names and texts in compiled code: what it may need when it runs elsewhere."""

from __future__ import annotations

import functools
from types import CodeType


@functools.lru_cache(maxsize=1024)
def names_and_texts(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the names that code looks up, and its texts; with those of functions inside it."""
    names, texts = set(code.co_names), set()
    for constant in code.co_consts:
        if isinstance(constant, str):
            texts.add(constant)
        elif isinstance(constant, CodeType):  # a lambda, a comprehension, an inner function
            inner = names_and_texts(constant)
            names |= inner[0]
            texts |= inner[1]
    return frozenset(names), frozenset(texts)
