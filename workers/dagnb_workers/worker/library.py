"""Content that an instance reads by its hash: header of the program, functions, large arguments.

All content is verified before use. The header is read first: it lists the functions, and names the
content with the user's own modules and with the text of cells, which tracebacks and
`inspect.getsource` need.

The user's own modules that are not installed come as an archive of sources. It is unpacked once
on a machine, to a folder of the private runtime directory, named by the archive's hash. The agent
removes it when it leaves: workers cannot, because most of them end by being killed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import linecache
import os
import shutil
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from dagnb.errors import BlobMissingError
from dagnb.graph.payload import Signer, decode_function
from dagnb.graph.pickling.flat import FlatContainers
from dagnb.graph.pickling.made_module import MadeModules
from dagnb.protocol.program import Cells, FunctionLine, Header, unpack_cells
from dagnb.storage.home import runtime_directory
from dagnb.storage.interface import Store
from dagnb.units import MIB
from dagnb_workers.surroundings import findable
from dagnb_workers.worker.retry import until_available

K = TypeVar("K")

CACHE_BYTES = 256 * MIB

TaskFunction = tuple[Callable[..., Any], tuple[type[BaseException], ...]]
"""a function, and the exceptions after which it is retried"""


MapBuffer = Callable[[str], memoryview | None]
"""private memory with the content of this hash; None where it is not in shared memory"""


class BytesCache(Generic[K]):
    """A cache of bytes by key; the least recently used are dropped first.

    It holds bytes, not objects: a task may change its input in place, and the next task that reads
    it must not see that.
    """

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        """Begin empty. limit_bytes: bytes of all entries together."""
        self._limit = limit_bytes
        self._held: OrderedDict[K, bytes] = OrderedDict()
        self._n_bytes = 0

    def keep(self, key: K, data: bytes) -> None:
        """Add the bytes, unless they alone exceed the limit."""
        if key in self._held or len(data) > self._limit:
            return
        self._held[key] = data
        self._n_bytes += len(data)
        while self._n_bytes > self._limit:
            _, dropped = self._held.popitem(last=False)
            self._n_bytes -= len(dropped)

    def find(self, key: K) -> bytes | None:
        """Returns the bytes, which become the most recently used, or None."""
        data = self._held.get(key)
        if data is not None:
            self._held.move_to_end(key)
        return data


class Library:
    """The program of one run, read from the store piece by piece, as calls need it."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        header: str,
        *,
        unpacks: bool,
        map_buffer: MapBuffer = lambda name: None,
    ) -> None:
        """Read nothing yet; `open` reads the header. header: content hash of the program's header.

        unpacks: whether to make the user's modules and cells known to this process.
        map_buffer: returns content in shared memory.
        """
        self._map_buffer = map_buffer
        self._store, self._signer = store, signer
        self.n_read = 0  # bytes
        self.flat = FlatContainers()
        self._header_name, self._unpacks = header, unpacks
        self._header: Header | None = None
        self._cells: Cells = {}
        self._folder = ""
        self._functions: dict[str, TaskFunction] = {}
        self._pickled: dict[str, bytes] = {}  # functions that were not needed yet
        self._cache: BytesCache[str] = BytesCache()

    @property
    def lines(self) -> tuple[FunctionLine, ...]:
        """The functions of the program, once it is open."""
        assert self._header is not None
        return self._header.functions

    @property
    def calls(self) -> tuple[bytes, ...]:
        """The argument bytes that calls of the program share, once it is open."""
        assert self._header is not None
        return self._header.calls

    async def open(self) -> int:
        """Read the header; make the user's modules importable and cells readable.

        Returns the bytes read, 0 when it was open already.
        """
        if self._header is not None:
            return 0

        header = Header.unpack((await self._read([self._header_name]))[self._header_name])
        wanted = (header.archive, header.modules) if self._unpacks else ()
        contents = await self._read([name for name in (*wanted, header.cells) if name])

        if header.modules in contents:
            findable.put_first(MadeModules(contents[header.modules]))
        if header.archive in contents:
            install(header.archive, contents[header.archive])
            self._folder = f"{folder() / header.archive}{os.sep}"
        if header.cells:
            self._cells = unpack_cells(contents[header.cells])
        if self._unpacks:
            self.show_cells()
        self._header = header
        return self.n_read

    def label(self, file: str) -> str:
        """Returns a file's name for people: 'Cell In[4]', or a module without its folder here."""
        if file in self._cells:
            return self._cells[file][0]
        return file.removeprefix(self._folder)

    def labelled(self, printed: str) -> str:
        """Returns the output of a task with the names of cells in its tracebacks and warnings."""
        for file, (name, _) in self._cells.items():
            printed = printed.replace(file, name)
        return printed

    def show_cells(self) -> None:
        """Make the text of cells known to inspect, warnings and tracebacks."""
        for file, (_, text) in self._cells.items():
            # Without a time, linecache does not look for a file, which a cell does not have.
            entry = (len(text), None, io.StringIO(text).readlines(), file)
            linecache.cache.setdefault(file, entry)

    async def need(
        self, line: FunctionLine, contents: Sequence[str]
    ) -> dict[str, bytes | memoryview]:
        """Read what a call needs. Returns its contents by hash. Raises BlobMissingError.

        Views are memory of this call alone. Afterwards `function` can return the call's function.
        """
        names = list(dict.fromkeys(contents))
        if line.content not in self._functions:
            names.append(line.content)

        needed: dict[str, bytes | memoryview] = {}
        for name in names:
            data = self._map_buffer(name) or self._cache.find(name)
            if data is not None:
                needed[name] = data
        needed |= await self._read([name for name in names if name not in needed])

        if line.content in needed:
            self._pickled[line.content] = bytes(needed.pop(line.content))
        return needed

    def function(self, line: FunctionLine) -> TaskFunction:
        """Returns the function, unpickled once. Raises what importing its modules raises."""
        if line.content not in self._functions:
            self._functions[line.content] = decode_function(self._pickled.pop(line.content))
        return self._functions[line.content]

    async def _read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read contents in one round trip, verify them all, and keep them."""
        if not names:
            return {}
        answers = await until_available(lambda: self._store.content(names))
        missing = [name for name, data in zip(names, answers, strict=True) if data is None]
        if missing:
            raise BlobMissingError(missing)

        contents: dict[str, bytes] = {}
        for name, data in zip(names, answers, strict=True):
            contents[name] = self._signer.check_content(name, data or b"")
        for name, data in contents.items():
            self._cache.keep(name, data)
            self.n_read += len(data)
        return contents


def folder() -> Path:
    """Returns the folder of unpacked archives."""
    return runtime_directory() / "modules"


def install(name: str, archive: bytes) -> None:
    """Put the modules of a verified archive on sys.path, before other modules of the same names."""
    target = folder() / name
    if not target.exists():
        _unpack(archive, target)

    if str(target) not in sys.path:
        # '' stays first: the notebook's own folder comes before all others in the client, too.
        first = 1 if sys.path[:1] == [""] else 0
        sys.path.insert(first, str(target))
        importlib.invalidate_caches()


def _unpack(archive: bytes, target: Path) -> None:
    """Unpack to a draft, then rename it: several workers may do so at once; the first one wins."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent))
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        root = draft.resolve()
        # Names such as '../x' are left out: they would be written outside the draft.
        inside = [
            name for name in bundle.namelist() if (draft / name).resolve().is_relative_to(root)
        ]
        bundle.extractall(draft, inside)

    with contextlib.suppress(OSError):  # another worker was first, with the same content
        draft.rename(target)
    shutil.rmtree(draft, ignore_errors=True)
