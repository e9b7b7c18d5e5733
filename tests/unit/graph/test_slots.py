"""Classes with slots, made anew in another process, and what comes back of them."""

from __future__ import annotations

import base64
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from dagnb.graph.payload import decode_value, encode_value

CELL = """
import dataclasses
import enum
from typing import NamedTuple

class Pair(NamedTuple):
    content: int = 5

class Level(enum.Enum):
    __slots__ = ("more",)
    HIGH = 5

    @property
    def content(self):
        return self.value

class Plain:
    __slots__ = ("content",)

class One:
    __slots__ = "content"

class Private:
    __slots__ = ("__hidden", "content")

class Below(Plain):
    __slots__ = ("more",)

class Open(Plain):
    pass

class WithDictionary:
    __slots__ = ("content", "__dict__", "__weakref__")

@dataclasses.dataclass(slots=True)
class Card:
    content: int = 0
    note: str = "n"

@dataclasses.dataclass(slots=True, frozen=True)
class Frozen:
    content: int = 0
"""

THERE = """
import base64, sys
from dagnb.graph.payload import decode_value, encode_value
value = decode_value(base64.b64decode(sys.stdin.read()))
print(hasattr(value, "__dict__"), value.content)
print(base64.b64encode(b"".join(encode_value(value, "?"))).decode())
"""


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A notebook whose classes no other process can import."""
    made = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", made)
    exec(compile(CELL, "<cell>", "exec"), vars(made))
    return made


def there_and_back(value: Any) -> tuple[str, Any]:
    """Returns the description of a value by another process, and the value that comes back."""
    sent = base64.b64encode(b"".join(encode_value(value, "?"))).decode()
    done = subprocess.run(
        [sys.executable, "-c", THERE], input=sent, capture_output=True, text=True, check=True
    )
    told, back = done.stdout.splitlines()
    return told, decode_value(base64.b64decode(back))


@pytest.mark.parametrize("name", ["Plain", "One", "Private", "Below", "Card", "Frozen"])
def test_a_class_keeps_its_slots_in_another_process_and_its_objects_come_back(
    cell: ModuleType, name: str
) -> None:
    value = getattr(cell, name)()
    if name != "Frozen":
        value.content = 5

    told, back = there_and_back(value)

    assert told == f"False {value.content}"
    assert type(back) is type(value)
    assert back.content == value.content


@pytest.mark.parametrize("name", ["Open", "WithDictionary"])
def test_a_class_with_slots_and_a_dictionary_keeps_both(cell: ModuleType, name: str) -> None:
    value = getattr(cell, name)()
    value.content, value.other = 5, [6]

    told, back = there_and_back(value)

    assert told == "True 5"
    assert (type(back), back.content, vars(back)) == (type(value), 5, {"other": [6]})


def test_named_tuples_and_enumerations_are_made_as_before(cell: ModuleType) -> None:
    told, pair = there_and_back(cell.Pair())
    _, level = there_and_back(cell.Level.HIGH)

    assert (told.split()[1], pair, type(pair)) == ("5", (5,), cell.Pair)
    assert level is cell.Level.HIGH
