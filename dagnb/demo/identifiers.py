"""The tasks of the demo, which count the identifiers in Python's standard library, and their input.

Separate from job.py because workers import this file: the imports of job.py would delay their
start.
"""

from __future__ import annotations

import heapq
import keyword
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dagnb.graph.task import Node, task

LARGE_BYTES = 10_000_000
"""A library larger than this is counted without its tests."""

_OTHERS = {"site-packages", "dist-packages", "__pycache__"}
_TESTS = {"test", "tests", "idle_test"}

# One group: findall returns the names, and "" for everything else. Strings and comments come first,
# so that words inside them are not counted. A number includes its letters (0xFF, 1e5).
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
    """Returns identifier -> occurrences in the sources, without keywords, strings and comments."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_TOKEN.findall(text))
    for word in _NO_NAMES:
        counts.pop(word, None)
    return counts


@task
def merge(counts: list[Counter[str]]) -> Counter[str]:
    """Returns the sum of counts."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


@task
def top(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    """Returns the n most frequent identifiers with their counts; equal ones by alphabet."""
    return heapq.nsmallest(n, counts.items(), key=lambda item: (-item[1], item[0]))


def merged(counts: Sequence[Node[Counter[str]]], fan_in: int) -> Node[Counter[str]]:
    """Returns the node of the sum: a tree of merges with at most `fan_in` upstream tasks each."""
    level = list(counts)
    while len(level) > 1:
        next_level = []
        for begin in range(0, len(level), fan_in):
            group = level[begin : begin + fan_in]
            next_level.append(merge(group) if len(group) > 1 else group[0])
        level = next_level
    return level[0]


def library_sources(limit_bytes: float | None = None) -> list[str]:
    """Returns the sources of Python's standard library, in the order of their paths.

    limit_bytes: stop after so many bytes; at least one file is returned. Tests of the library are
    left out if the rest is larger than LARGE_BYTES.
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
    """Yields every .py file below, without installed packages and linked folders."""
    for entry in library.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry.name not in _OTHERS:
            yield from _python_files(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry


def chunks(texts: Sequence[str], n: int) -> list[list[str]]:
    """Returns the texts in at most n lists of about equal size."""
    lists: list[list[str]] = [[] for _ in range(min(n, len(texts)))]
    # The longest text first, each to the list that is shortest so far.
    heap = [(0, position) for position in range(len(lists))]
    for text in sorted(texts, key=len, reverse=True):
        size, position = heap[0]
        lists[position].append(text)
        heapq.heapreplace(heap, (size + len(text), position))
    return lists
