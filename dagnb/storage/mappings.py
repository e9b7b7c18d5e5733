"""Private memory of files in shared memory, used again by the next task of a worker.

A mapping is copy-on-write: what its reader writes stays its own. A page of a new mapping is looked
up when it is first read, which takes longer for 50 MB than to add their numbers. So a mapping whose
pages were looked up is used again, for the next task that reads the same bytes. It must then be as
a new one would be:

    used       a view of it lives, in an array for example: a thread of the task may still write.
               The mapping holds one reference itself, each view another.
    written    a page was copied, because it was written to: the kernel shows it as memory of the
               process, and no longer of the file.
    free       neither: the mapping is used again.

    view ----> used ----> tidy: used or written: forgotten, and unmapped with the last array
      ^                   else: free ----+
      +----------------------------------+
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import TypeAlias

from dagnb.errors import SharedMemoryError

KEPT_BYTES = 1024 * 1024 * 1024
"""Bytes of mappings that a worker keeps to use them again: address space, for each 500th part of
which the kernel keeps a table in memory."""

# One number for each page of this process. It is opened anew for each look, as a forked process has
# other pages.
_PAGEMAP = Path("/proc/self/pagemap")

# Of a page there, see admin-guide/mm/pagemap.rst of Linux: the byte with the flags; the flags of
# pages that are in memory, in the swap, in a file; and their values for a page that was not looked
# up yet, and for a page of the file itself.
_FLAGS = 7 if sys.byteorder == "little" else 0
_KINDS = 0b1110_0000
_UNWRITTEN = (0, 0b1010_0000)


class _Mapping:
    """Copy-on-write memory of a part of a file."""

    __slots__ = ("_address", "_memory", "_n_alone")

    def __init__(self, fd: int, begin: int, n_bytes: int) -> None:
        """Raises OSError."""
        self._memory = mmap.mmap(fd, n_bytes, access=mmap.ACCESS_COPY, offset=begin)
        first = ctypes.c_char.from_buffer(self._memory)
        self._address = ctypes.addressof(first)
        del first
        self._n_alone = self._n_references()

    def __len__(self) -> int:
        return len(self._memory)

    def view(self) -> memoryview:
        """Returns the memory, which arrays keep alive by this view."""
        return memoryview(self._memory)

    def is_used(self) -> bool:
        """Returns whether a view or an array has the memory still. Each holds a reference."""
        return self._n_references() != self._n_alone

    def _n_references(self) -> int:
        return sys.getrefcount(self._memory)

    def is_unwritten(self) -> bool:
        """Returns whether all pages are those of the file. False where the kernel does not say."""
        n_pages = -(-len(self) // mmap.PAGESIZE)
        try:
            with _PAGEMAP.open("rb", buffering=0) as file:
                entries = os.pread(file.fileno(), 8 * n_pages, self._address // mmap.PAGESIZE * 8)
        except OSError:
            return False
        flags = set(entries[_FLAGS::8])
        return len(entries) == 8 * n_pages and all(flag & _KINDS in _UNWRITTEN for flag in flags)


_Key: TypeAlias = tuple[int, int, int, int]
"""inode, time of modification in nanoseconds, begin, number of bytes"""


class Mappings:
    """The mappings of one worker: each has one user at a time, who finds the bytes of the file."""

    def __init__(self) -> None:
        self._used: list[tuple[_Key, _Mapping]] = []
        self._free: OrderedDict[_Key, _Mapping] = OrderedDict()  # the longest unused first

    def view(self, fd: int, stats: os.stat_result, begin: int, n_bytes: int) -> memoryview:
        """Returns private memory of a part of a file. Raises SharedMemoryError.

        stats: of the file.
        """
        key = (stats.st_ino, stats.st_mtime_ns, begin, n_bytes)
        mapping = self._free.pop(key, None)
        if mapping is None:
            mapping = self._new(fd, begin, n_bytes)
        self._used.append((key, mapping))
        return mapping.view()

    def _new(self, fd: int, begin: int, n_bytes: int) -> _Mapping:
        try:
            return _Mapping(fd, begin, n_bytes)
        except OSError:
            self._free.clear()  # a process may have few mappings, and little address space
        try:
            return _Mapping(fd, begin, n_bytes)
        except OSError as error:
            raise SharedMemoryError(n_bytes, str(error)) from error

    def tidy(self) -> None:
        """Keep mappings that can be used again. The others end with the last array in them."""
        if not self._used:  # most tasks read nothing large
            return
        while self._used:
            key, mapping = self._used.pop()
            if not mapping.is_used() and mapping.is_unwritten():
                self._free[key] = mapping
        while sum(map(len, self._free.values())) > KEPT_BYTES:
            self._free.popitem(last=False)
