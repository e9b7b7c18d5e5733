"""Short texts of large things: the `repr` of this package's data classes."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

MOST_ITEMS = 6
"""a collection with more items is shown as their number"""
MOST_CHARACTERS = 120
"""the text of one field is cut to this length"""

# Bytes objects that are longer are shown by their length.
_BYTES = 40


def brief(thing: Any) -> str:
    """Returns the repr of a data class in which every field is short, whatever it holds.

    A class uses it by `__repr__ = brief`. Fields are those that a generated repr would show.
    """
    return _with_fields(thing, dataclasses.fields(thing))


def changed(thing: Any) -> str:
    """Returns the repr of a data class with only the fields that differ from their defaults."""
    fields = dataclasses.fields(thing)
    different = [field for field in fields if getattr(thing, field.name) != field.default]
    return _with_fields(thing, different)


def _with_fields(thing: Any, fields: Iterable[dataclasses.Field[Any]]) -> str:
    shown = [f"{field.name}={_short(getattr(thing, field.name))}" for field in fields if field.repr]
    return f"{type(thing).__qualname__}({', '.join(shown)})"


def cut(text: str, limit: int = MOST_CHARACTERS) -> str:
    """Returns the text, its middle left out where it is longer than the limit."""
    if len(text) <= limit:
        return text
    # Two thirds come from the front, because names of modules and paths are recognised by it.
    head = (limit - 3) * 2 // 3
    return f"{text[:head]}...{text[head + 3 - limit :]}"


def number(n: int, noun: str) -> str:
    """Returns a number with its noun, in the plural where it is not 1.

    >>> number(1, "task"), number(3301, "task"), number(2, "copy"), number(2, "key")
    ('1 task', '3,301 tasks', '2 copies', '2 keys')
    >>> number(2, "branch")
    '2 branches'
    """
    if n == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return f"{n:,} {noun[:-1]}ies"
    if noun.endswith("ch"):
        return f"{n:,} {noun}es"
    return f"{n:,} {noun}s"


def _short(value: object) -> str:
    # Lengths are known at once; reprlib would first write every item that it keeps.
    if isinstance(value, bytes | bytearray) and len(value) > _BYTES:
        return f"<{len(value):,} bytes>"
    if isinstance(value, tuple | list | Set | Mapping) and len(value) > MOST_ITEMS:
        return f"<{len(value):,} items>"
    return cut(_TEXTS.repr(value))


_TEXTS = reprlib.Repr()
# Nested values are cut by reprlib, which writes only the first items of a long collection.
_TEXTS.maxtuple = _TEXTS.maxlist = _TEXTS.maxdict = _TEXTS.maxset = _TEXTS.maxfrozenset = MOST_ITEMS
_TEXTS.maxstring = _TEXTS.maxlong = _TEXTS.maxother = MOST_CHARACTERS


def quoted(names: Sequence[str], word: str) -> str:
    """Returns names in quotes; of more than three the first two and the number of the others.

    >>> quoted("ab", "and"), quoted("abcd", "or")
    ("'a' and 'b'", "'a', 'b' or 2 more")
    """
    parts = [f"'{name}'" for name in names]
    if len(parts) > 3:
        parts = [*parts[:2], f"{len(parts) - 2} more"]
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"
