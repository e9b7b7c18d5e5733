"""Which identifiers does Python's own library use, and how often? The tasks of the demo, and their input.

Apart from job.py, because workers import this file, and a terminal's pictures would keep them waiting.
"""

from __future__ import annotations

import heapq
import keyword
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dagnb.graph.node import Node
from dagnb.graph.task import task

LARGE_BYTES = 10_000_000
"""with more than this the tests of the library are left out"""

_OTHERS = {"site-packages", "dist-packages", "__pycache__"}
_TESTS = {"test", "tests", "idle_test"}

# One group, so that findall gives names alone, and "" for all else. Strings and comments are found first: what is
# inside them is no name. A number swallows its own letters (0xFF, 1e5).
_TOKEN = re.compile(
    r'''
    [rRbBuUfF]{0,2}(?:
        """ [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* """
      | \'\'\' [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* \'\'\'
      | " [^"\\\n]* (?: \\. [^"\\\n]* )* "
      | ' [^'\\\n]* (?: \\. [^'\\\n]* )* '
    )
    | \# [^\n]*
    | \d [\w.]*
    | ( [^\W\d] \w* )
    ''',
    re.DOTALL | re.VERBOSE,
)
_NO_NAMES = ("", *keyword.kwlist)


@task
def count_identifiers(texts: list[str]) -> Counter[str]:
    """identifier -> how often it occurs in these sources, outside of strings and comments; keywords left out."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(_TOKEN.findall(text))
    for word in _NO_NAMES:
        found.pop(word, None)
    return found


@task
def merge(counts: list[Counter[str]]) -> Counter[str]:
    """Sum of counts."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


@task
def top(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    """The n commonest identifiers with their counts; of equal ones the first by alphabet."""
    return heapq.nsmallest(n, counts.items(), key=lambda item: (-item[1], item[0]))


def merged(counts: Sequence[Node[Counter[str]]], fan_in: int) -> Node[Counter[str]]:
    """The sum of all counts, as a tree of merges of at most `fan_in` upstream tasks each."""
    level = list(counts)
    while len(level) > 1:
        groups = [level[begin : begin + fan_in] for begin in range(0, len(level), fan_in)]
        level = [_one(group) for group in groups]
    return level[0]


def _one(group: list[Node[Counter[str]]]) -> Node[Counter[str]]:
    return merge(group) if len(group) > 1 else group[0]


def library_sources(limit_bytes: float | None = None) -> list[str]:
    """The sources of Python's standard library, in the order of their paths; so many bytes of them, at least one file.

    Its tests are left out when the rest is more than LARGE_BYTES.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(_python_files(library))
    plain = [file for file in files if not _TESTS & set(file.relative_to(library).parts)]
    if sum(file.stat().st_size for file in plain) > LARGE_BYTES:
        files = plain
    texts, n_bytes = [], 0
    for file in files:
        texts.append(file.read_text(encoding="utf-8", errors="replace"))
        n_bytes += file.stat().st_size
        if limit_bytes is not None and n_bytes >= limit_bytes:
            break
    return texts


def _python_files(library: Path) -> Iterator[Path]:
    """Every .py below, without what others have installed; no link to a folder is followed."""
    for entry in library.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry.name not in _OTHERS:
            yield from _python_files(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry


def chunks(texts: Sequence[str], n: int) -> list[list[str]]:
    """The texts in at most n lists of about equal size: the longest first, each to the list that is shortest so far."""
    lists: list[list[str]] = [[] for _ in range(min(n, len(texts)))]
    heap = [(0, place) for place in range(len(lists))]
    for text in sorted(texts, key=len, reverse=True):
        size, place = heap[0]
        lists[place].append(text)
        heapq.heapreplace(heap, (size + len(text), place))
    return lists
