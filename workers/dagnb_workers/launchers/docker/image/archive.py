"""A tar archive for Docker: all entries belong to root and can be read by everyone.

Parent directories are entries of their own.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self


class Archive:
    """Writes files, texts and links to a tar; of several entries with one name the first counts.

    It is a context manager, which closes the tar at the end of the block.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)
        self._names = set[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tar.close()

    def add_file(self, source: Path, name: str) -> None:
        """Add a file of this machine; of a link, its target."""
        info = self._info(name, tarfile.REGTYPE)
        if info is None:
            return
        status = source.stat()
        # The time is kept, because Python compiles a file again if a .pyc holds another time.
        info.size, info.mtime = status.st_size, int(status.st_mtime)
        info.mode = 0o755 if status.st_mode & 0o111 else 0o644
        with source.open("rb") as content:
            self._tar.addfile(info, content)

    def add_tree(self, source: Path, name: str, without: frozenset[str] = frozenset()) -> None:
        """Add all files below a folder. without: names of files and folders that are left out."""
        for path in files_below(source, without):
            self.add_file(path, f"{name}/{path.relative_to(source).as_posix()}")

    def add_bytes(self, content: bytes, name: str) -> None:
        """Add a file of this content."""
        if (info := self._info(name, tarfile.REGTYPE)) is not None:
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))

    def add_link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        if (info := self._info(name, tarfile.SYMTYPE)) is not None:
            info.linkname = target
            self._tar.addfile(info)

    def add_directory(self, name: str, mode: int = 0o755) -> None:
        """Add an empty directory."""
        if (info := self._info(name, tarfile.DIRTYPE)) is not None:
            info.mode = mode
            self._tar.addfile(info)

    def _info(self, name: str, kind: bytes) -> tarfile.TarInfo | None:
        """Write the parent directories. Returns the header of the entry, None if it exists."""
        path = PurePosixPath(name.lstrip("/"))
        if str(path) in self._names:
            return None
        self._names.add(str(path))
        if path.parent.name:
            self.add_directory(str(path.parent))
        info = tarfile.TarInfo(str(path))
        info.type = kind
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        return info


def files_below(folder: Path, without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder. without: names of files and folders that are left out."""
    # Sorted, because the hash of an image must not depend on the order that a disk lists files in.
    for path in sorted(folder.iterdir()):
        if path.name in without:
            continue
        if path.is_dir() and not path.is_symlink():  # links may form a circle
            yield from files_below(path, without)
        elif path.is_file():
            yield path
