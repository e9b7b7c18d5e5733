"""What an instance reads by content: the header of its program, functions, large arguments. Verified before use."""

from __future__ import annotations

import io
import linecache
import os
from collections.abc import Callable, Sequence
from typing import Any

from dagnb.errors import BlobMissingError
from dagnb.graph.payload import Signer, decode_function
from dagnb.graph.pickling.made_module import MadeModules
from dagnb.protocol.program import Cells, FunctionLine, Header, unpack_cells
from dagnb.storage.interface import Store
from dagnb_workers.surroundings import findable
from dagnb_workers.worker import modules
from dagnb_workers.worker.retry import until_available
from dagnb_workers.worker.values import Values

Loaded = tuple[Callable[..., Any], tuple[type[BaseException], ...]]
"""A function, and the exceptions it is retried on"""


class Library:
    """Content by hash; what was used last is at hand, up to a limit."""

    def __init__(self, store: Store, signer: Signer, header: str, *, unpacks: bool) -> None:
        """header: content hash of the program's header. unpacks: the user's modules and cells must be unpacked here."""
        self._store, self._signer = store, signer
        self.n_read = 0
        """bytes read so far"""
        self._header_name, self._unpacks = header, unpacks
        self._header: Header | None = None
        self._cells: Cells = {}
        self._folder = ""
        self._functions: dict[str, Loaded] = {}
        self._unread: dict[str, bytes] = {}
        self._held: Values[str] = Values()

    @property
    def lines(self) -> tuple[FunctionLine, ...]:
        """The functions of the program, once it is open."""
        assert self._header is not None
        return self._header.functions

    async def open(self) -> int:
        """Read the header, make the user's modules importable and cells readable. Gives bytes read, later 0."""
        if self._header is not None:
            return 0
        header = Header.unpack((await self._read([self._header_name]))[self._header_name])
        wanted = (header.archive, header.modules) if self._unpacks else ()
        found = await self._read([name for name in (*wanted, header.cells) if name])
        if header.modules in found:
            findable.put_first(MadeModules(found[header.modules]))
        if header.archive in found:
            modules.install(header.archive, found[header.archive])
            self._folder = f"{modules.folder() / header.archive}{os.sep}"
        if header.cells:
            self._cells = unpack_cells(found[header.cells])
        if self._unpacks:
            self.show_cells()
        self._header = header
        return self.n_read

    def label(self, file: str) -> str:
        """How people call this file: a cell by its number, a module of theirs without the folder it is in here."""
        if file in self._cells:
            return self._cells[file][0]
        return file.removeprefix(self._folder)

    def labelled(self, printed: str) -> str:
        """What a task printed, with the names of cells in the tracebacks and warnings in it."""
        for file, (name, _) in self._cells.items():
            printed = printed.replace(file, name)
        return printed

    def show_cells(self) -> None:
        """Let inspect, warnings and tracebacks find the text of cells. Without a time no file is looked for."""
        for file, (_, text) in self._cells.items():
            linecache.cache.setdefault(file, (len(text), None, io.StringIO(text).readlines(), file))

    async def need(self, line: FunctionLine, contents: Sequence[str]) -> dict[str, bytes]:
        """The contents a call takes, by hash, and its function ready for function(). Raises BlobMissingError."""
        names = list(dict.fromkeys(contents))
        if line.content not in self._functions:
            names.append(line.content)
        found = {name: data for name in names if (data := self._held.find(name)) is not None}
        found |= await self._read([name for name in names if name not in found])
        if line.content in found:
            self._unread[line.content] = found.pop(line.content)
        return found

    def function(self, line: FunctionLine) -> Loaded:
        """The function, unpickled once. Raises whatever importing its modules raises."""
        if line.content not in self._functions:
            self._functions[line.content] = decode_function(self._unread.pop(line.content))
        return self._functions[line.content]

    async def _read(self, names: Sequence[str]) -> dict[str, bytes]:
        if not names:
            return {}
        got = await until_available(lambda: self._store.content(names))
        gone = [name for name, data in zip(names, got, strict=True) if data is None]
        if gone:
            raise BlobMissingError(gone)
        found = {
            name: self._signer.check_content(name, data or b"")
            for name, data in zip(names, got, strict=True)
        }
        for name, data in found.items():
            self._held.keep(name, data)
            self.n_read += len(data)
        return found
