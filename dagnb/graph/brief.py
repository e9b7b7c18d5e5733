"""Short texts of things that hold thousands of things: what `repr` gives for data classes of this package."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping, Set
from typing import Any

MOST_ITEMS = 6
"""a collection with more items is told by their number"""
MOST_CHARACTERS = 120
"""of the text of one field"""

_BYTES = 40


def brief(thing: Any) -> str:
    """The repr of a data class, in which every field is short, whatever it holds.

    A class takes it by `__repr__ = brief`. Fields are those that a generated repr would show.
    """
    return _told(thing, dataclasses.fields(thing))


def changed(thing: Any) -> str:
    """Give the repr of a data class with only those fields that differ from their defaults; short as in brief."""
    return _told(
        thing,
        [
            field
            for field in dataclasses.fields(thing)
            if getattr(thing, field.name) != field.default
        ],
    )


def _told(thing: Any, fields: Iterable[dataclasses.Field[Any]]) -> str:
    told = [f"{field.name}={_short(getattr(thing, field.name))}" for field in fields if field.repr]
    return f"{type(thing).__qualname__}({', '.join(told)})"


def cut(text: str, limit: int = MOST_CHARACTERS) -> str:
    """The text, its middle left out where it is too long."""
    if len(text) <= limit:
        return text
    head = (limit - 3) * 2 // 3
    return f"{text[:head]}...{text[head + 3 - limit :]}"


def number(n: int, noun: str) -> str:
    """Give a number with its noun, in the plural where it is not 1.

    >>> number(1, "task"), number(3301, "task")
    ('1 task', '3,301 tasks')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _short(value: object) -> str:
    if isinstance(value, bytes | bytearray) and len(value) > _BYTES:
        return f"<{len(value):,} bytes>"
    if isinstance(value, tuple | list | Set | Mapping) and len(value) > MOST_ITEMS:
        return f"<{len(value):,} items>"
    return cut(_TEXTS.repr(value))


_TEXTS = reprlib.Repr()
# What is not cut by us must be cut by reprlib: it stops in a collection before it has told all of it.
_TEXTS.maxtuple = _TEXTS.maxlist = _TEXTS.maxdict = _TEXTS.maxset = _TEXTS.maxfrozenset = MOST_ITEMS
_TEXTS.maxstring = _TEXTS.maxlong = _TEXTS.maxother = MOST_CHARACTERS
