"""Names that code looks up and texts in it, with those of the functions inside it."""

from __future__ import annotations

import functools
from types import CodeType


@functools.lru_cache(maxsize=1024)
def names_and_texts(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names that the code looks up and its texts, with those of comprehensions, lambdas and inner functions."""
    names, texts = set(code.co_names), set()
    for constant in code.co_consts:
        if isinstance(constant, str):
            texts.add(constant)
        elif isinstance(constant, CodeType):
            inner = names_and_texts(constant)
            names |= inner[0]
            texts |= inner[1]
    return frozenset(names), frozenset(texts)
