"""The documents of this project as tests read them: their blocks of code, and their prose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts import house

ROOT = house.ROOT
DOCUMENTS = tuple(ROOT / name for name in house.DOCUMENTS)

NOT_RUN = "<!-- not run: "
"""in the line before a block, with the reason: readers do not see it"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code. line: of its first line of code. reason: why it is not run, '' when
    it is.
    """

    language: str
    text: str
    line: int
    reason: str = ""


def blocks(document: Path) -> list[Block]:
    """Every fenced block, in order."""
    found: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    opened = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number
            continue
        before = lines[opened - 1]
        reason = (
            before.removeprefix(NOT_RUN).removesuffix(" -->") if before.startswith(NOT_RUN) else ""
        )
        text = "\n".join(lines[opened + 1 : number])
        found.append(Block(language=lines[opened][3:], text=text, line=opened + 2, reason=reason))
        opened = None
    assert opened is None, f"{document.name}: the block of line {opened} does not end"
    return found


def prose(document: Path) -> str:
    """The text without its blocks of code."""
    return house.prose(document.read_text(encoding="utf-8"))
