"""The start of another Python that must find dagnb and must import nothing of the user's before it is told to.

What an interpreter takes only at its start belongs to the client: its options, the variables that Python, the loader
and the C library read then. Processes of equal starts can be forked from one fork server.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagnb_workers.hosting.code_state import interpreter

_OWN = (
    "dagnb",
    "dagnb_workers",
    "redis",
    "hiredis",
    "cloudpickle",
    "msgpack",
    "packaging",
    "docker",
    "requests",
)
"""what workers and hosts import; with them lie the packages that these need"""

_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")
_NAMES = frozenset({"LANG", "GLIBC_TUNABLES", "HOME"})
"""Variables that are read before any code of ours, besides those with the prefixes.

HOME: where packages of the user may lie.
"""

_READ_LATER = frozenset(
    {
        "PYTHONPATH",  # sys.path is handed over as it is; a fork server must not import what lies there
        "PYTHONWARNINGS",  # filters are handed over as they are
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "PYTHONBREAKPOINT",
        "PYTHONUNBUFFERED",
        "PYTHONIOENCODING",  # what workers print is read as UTF-8
        "PYTHONASYNCIODEBUG",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONVERBOSE",
    }
)

_FLAGS = "bBdEIOPsS"
"""options without a value that are handed over; others are about a terminal, or print"""

_BOOT = Path(__file__).with_name("boot.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonStart:
    """The options and variables a process is started with, once and for all. Equal ones can share a fork server.

    options: of the command line. variables: of the environment, '' for one that is not to be set. is_client: they are
    all that is read at the start, and nothing else may be. folders: where dagnb is found. site: changes with the .pth
    files that Python reads at its start, as editable installs write them.
    """

    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    is_client: bool = False
    folders: tuple[str, ...] = ()
    site: str = ""

    @classmethod
    def of_this_process(cls) -> PythonStart:
        """As this process was started, by its environment of now."""
        found = sorted(
            (name, value) for name, value in os.environ.items() if _is_read_at_start(name)
        )
        return cls(
            options=options_of(sys.orig_argv),
            variables=tuple(found),
            is_client=True,
            folders=own_folders(),
            site=site_mark(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them."""
        told = {
            "options": self.options,
            "variables": dict(self.variables),
            "is_client": self.is_client,
        }
        return {**told, "folders": self.folders, "site": self.site}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> PythonStart:
        """Makes it of what to_dict gave, read from JSON; what is not told is left out."""
        return cls(
            options=tuple(told.get("options", ())),
            variables=tuple(sorted(told.get("variables", {}).items())),
            is_client=told.get("is_client", False),
            folders=tuple(told.get("folders", ())),
            site=told.get("site", ""),
        )

    def command(self, python: str, module: str, arguments: Sequence[str]) -> list[str]:
        """The command line that calls `main` of a module with these arguments."""
        return program(module, arguments, python=python, options=self.options, folders=self.folders)

    def environment(self, present: Mapping[str, str]) -> dict[str, str]:
        """The present variables with those that are told; of another client's start none is left."""
        told = dict(self.variables)
        kept = {name: value for name, value in present.items() if name not in {*told, *_READ_LATER}}
        if self.is_client:
            kept = {
                name: value
                for name, value in kept.items()
                if name == "HOME" or not _is_read_at_start(name)
            }
        return kept | {name: value for name, value in told.items() if value}


def program(
    module: str,
    arguments: Sequence[str],
    *,
    python: str | None = None,
    options: Sequence[str] = (),
    folders: Sequence[str] | None = None,
) -> list[str]:
    """The command line that calls `main` of a module of dagnb. folders: where dagnb is found, as here by default."""
    places = own_folders() if folders is None else folders
    return [
        python or interpreter(),
        *options,
        str(_BOOT),
        str(len(places)),
        *places,
        module,
        *arguments,
    ]


def plain_environment() -> dict[str, str]:
    """The variables of this process, without those by which a program of ours would import what is the user's."""
    return {name: value for name, value in os.environ.items() if name not in _READ_LATER}


def own_folders() -> tuple[str, ...]:
    """The folders from which dagnb, and what it needs, was imported here."""
    folders = []
    for name in _OWN:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            folders.append(str(Path(file).absolute().parents[1]))
    return tuple(dict.fromkeys(folders))


def options_of(command: Sequence[str]) -> tuple[str, ...]:
    """The options of a command line of Python that another one must have to behave as it does.

    >>> options_of(["python3", "-OIu", "-Xdev", "-W", "error", "-m", "module", "-O"])
    ('-O', '-I', '-Xdev')
    """
    found: list[str] = []
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word in {"-", "--"}:
            break
        if word.startswith("--"):
            found += _long_option(word, words)
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in "cm":
                return tuple(found)
            if letter in "WX":
                value = word[at:] or next(words, "")
                if letter == "X" and not value.startswith("importtime"):
                    found.append(f"-X{value}")
                break
            if letter in _FLAGS:
                found.append(f"-{letter}")
    return tuple(found)


def _long_option(word: str, words: Any) -> list[str]:
    """Of Python's long options only that about compiled files has a value, and is of use."""
    if not word.startswith("--check-hash-based-pycs"):
        return []
    return [word] if "=" in word else [word, next(words, "default")]


def site_mark() -> str:
    """Changes when a package is installed in the editable way, or its place changes."""
    mark = hashlib.sha256()
    for folder in _site_folders():
        try:
            found = sorted(
                entry.path for entry in os.scandir(folder) if entry.name.endswith(".pth")
            )
        except OSError:
            continue
        for path in found:
            try:
                facts = os.stat(path)
            except OSError:
                continue
            mark.update(
                f"{path}:{facts.st_mtime_ns}:{facts.st_size};".encode(errors="surrogatepass")
            )
    return mark.hexdigest()[:16]


def _site_folders() -> list[str]:
    folders = list(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return folders


def _is_read_at_start(name: str) -> bool:
    return name in _NAMES or (name.startswith(_PREFIXES) and name not in _READ_LATER)
