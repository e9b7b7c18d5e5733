"""The documents of this project as tests read them: their blocks of code, and the files they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = tuple(
    ROOT / name
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "DECISIONS.md",
        "GLOSSARY.md",
        "STYLE.md",
        "benchmarks/README.md",
        "planners/README.md",
    )
)

NOT_RUN = "<!-- not run: "
"""in the line before a block, with the reason: readers do not see it"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code. line: of its first line of code. reason: why it is not run, '' when it is."""

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
    return re.sub(
        r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(
    r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|toml|lua|js|css|ipynb|svg|png|cfg))|[\w-]+(/[\w-]+)+"
)
_SUFFIX = re.compile(r"\.(py|md|toml|lua|js|css|ipynb|svg|png|cfg)$")


def named_files(document: Path) -> Iterator[str]:
    """What the prose names that looks like a file or a folder: in links, and in code."""
    text = prose(document)
    for link in _LINK.findall(text):
        if "://" not in link:
            yield link
    for code in _CODE.findall(text):
        if _PATH.fullmatch(code):
            yield code
