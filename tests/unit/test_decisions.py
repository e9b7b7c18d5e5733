"""DECISIONS.md names tests that would notice a change of what is not documented; they have to be
there.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DECISIONS = TESTS.parent / "DECISIONS.md"
NAMED = re.compile(r"`([a-z_]+/[a-z_/]+\.py)?(?:::(\w+))?`")
DEFINED = re.compile(r"^\s*(?:async )?(?:def|class) (\w+)", re.MULTILINE)


def named_tests() -> list[tuple[str, str]]:
    """(file below tests/, name or '') of the last column of each row; a name alone belongs to the
    file before it.
    """
    found = []
    for line in DECISIONS.read_text("utf-8").splitlines():
        cells = line.strip().strip("|").split(" | ")
        if not line.strip().startswith("| ") or len(cells) != 4:
            continue
        file = ""
        for match in NAMED.finditer(cells[-1]):
            file = match[1] or file
            found.append((file, match[2] or ""))
    return found


def test_every_test_that_the_decisions_name_is_there() -> None:
    found = named_tests()

    missing = []
    for file, name in found:
        path = TESTS / file
        defined = DEFINED.findall(path.read_text("utf-8")) if path.is_file() else []
        if not defined or (name and name not in defined):
            missing.append(f"{file}::{name}")

    assert missing == []
    assert len(found) > 40
