"""Starts another Python, which must find dagnb, and must not import user code too early.

Some settings of an interpreter are read once, at its start: its options, and the variables that
Python, the dynamic loader and the C library read then. Workers start with those of the client, so
that tasks behave as they would in the notebook. Processes with equal starts can be forked from one
fork server. All other settings (sys.path, warning filters, other variables) are sent to running
workers: see surroundings/.

An agent outlives an upgrade of dagnb, but its workers must have the client's version: `code_mark`
changes with dagnb's own files, and a fork server serves clients of one mark only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import site
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Packages that workers and hosts import; packages that these need are in the same folders.
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

_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")

# Variables that are read before any code of dagnb, besides those with the prefixes.
_NAMES = frozenset(
    {
        "LANG",
        "GLIBC_TUNABLES",
        "HOME",  # the user's own packages may be below it
    }
)

# Variables with one of the prefixes that a fork server must not be started with.
_READ_LATER = frozenset(
    {
        "PYTHONPATH",  # sys.path is handed over; a fork server must import nothing from there
        "PYTHONWARNINGS",  # filters are handed over; -W error could stop the fork server's imports
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

# Options without a value that are handed over; all others concern a terminal, or print something.
_FLAGS = "bBdEIOPsS"

_BOOT = Path(__file__).with_name("boot.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonStart:
    """The options and variables that a process is started with. Equal ones share a fork server.

    options: of the command line. variables: of the environment, '' for one that must not be set.
    is_client: whether they are a client's; then no other variable that is read at the start may be
    set. folders: where dagnb is found. site: a hash of the .pth files that Python reads at its
    start, as editable installs write them (see site_mark).
    """

    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    is_client: bool = False
    folders: tuple[str, ...] = ()
    site: str = ""

    @classmethod
    def of_this_process(cls) -> PythonStart:
        """Returns the options of this process and the variables of its present environment."""
        variables = [item for item in os.environ.items() if _is_read_at_start(item[0])]
        return cls(
            options=options_of(sys.orig_argv),
            variables=tuple(sorted(variables)),
            is_client=True,
            folders=own_folders(),
            site=site_mark(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them."""
        return {
            "options": self.options,
            "variables": dict(self.variables),
            "is_client": self.is_client,
            "folders": self.folders,
            "site": self.site,
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> PythonStart:
        """Returns the start that to_dict wrote, read from JSON; absent fields get defaults."""
        return cls(
            options=tuple(fields.get("options", ())),
            variables=tuple(sorted(fields.get("variables", {}).items())),
            is_client=fields.get("is_client", False),
            folders=tuple(fields.get("folders", ())),
            site=fields.get("site", ""),
        )

    def command(self, python: str, module: str, arguments: Sequence[str]) -> list[str]:
        """Returns the command line that calls `main` of a module with these arguments."""
        return program(
            module,
            arguments,
            python=python,
            options=self.options,
            folders=self.folders,
        )

    def environment(self, present: Mapping[str, str]) -> dict[str, str]:
        """Returns the present variables, changed to those of this start."""
        changes = dict(self.variables)
        result = {}
        for name, value in present.items():
            if name in changes or name in _READ_LATER:
                continue
            # The agent was started by another client, whose variables must not stay.
            if self.is_client and name != "HOME" and _is_read_at_start(name):
                continue
            result[name] = value
        return result | {name: value for name, value in changes.items() if value}


def program(
    module: str,
    arguments: Sequence[str],
    *,
    python: str | None = None,
    options: Sequence[str] = (),
    folders: Sequence[str] | None = None,
) -> list[str]:
    """Returns the command line that calls `main` of a module of dagnb.

    folders: where dagnb is found, by default as in this process.
    """
    if folders is None:
        folders = own_folders()
    boot = [str(_BOOT), str(len(folders)), *folders]
    return [python or python_path(), *options, *boot, module, *arguments]


def plain_environment() -> dict[str, str]:
    """Returns this process's variables without those that would make Python import user code."""
    return {name: value for name, value in os.environ.items() if name not in _READ_LATER}


def python_path() -> str:
    """Returns the path of this Python, the same for 'python', 'python3' and 'python3.11'.

    Clients that were started by different names of one interpreter then share a fork server.
    """
    common = Path(sys.executable).with_name("python3")
    try:
        return str(common) if common.samefile(sys.executable) else sys.executable
    except OSError:
        return sys.executable


@functools.cache
def code_mark() -> str:
    """Returns a hash that changes with every change of dagnb's own files."""
    mark = hashlib.sha256()
    for package in ("dagnb", "dagnb_workers"):
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".lua")):
            _add_file(mark, path)
    return mark.hexdigest()[:16]


def site_mark() -> str:
    """Returns a hash that changes when a package is installed as editable, or moves."""
    mark = hashlib.sha256()
    for folder in _site_folders():
        try:
            entries = sorted(entry.path for entry in os.scandir(folder))
        except OSError:
            continue  # a folder that Python looks into need not exist
        for path in entries:
            if path.endswith(".pth"):
                with contextlib.suppress(OSError):
                    _add_file(mark, path)
    return mark.hexdigest()[:16]


def _add_file(mark: Any, path: str | Path) -> None:
    """Add a file's path, time and size to a hash: reading all files would take far longer."""
    status = os.stat(path)
    # A path may hold bytes that are not UTF-8, which Python shows as surrogates.
    text = f"{path}:{status.st_mtime_ns}:{status.st_size};"
    mark.update(text.encode(errors="surrogatepass"))


def own_folders() -> tuple[str, ...]:
    """Returns the folders from which dagnb, and the packages it needs, were imported here."""
    folders = []
    for name in _OWN:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            folders.append(str(Path(file).absolute().parents[1]))
    return tuple(dict.fromkeys(folders))


def options_of(command: Sequence[str]) -> tuple[str, ...]:
    """Returns the options in a command line of Python that change how programs behave.

    >>> options_of(["python3", "-OIu", "-Xdev", "-W", "error", "-m", "module", "-O"])
    ('-O', '-I', '-Xdev')
    """
    options: list[str] = []
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word in {"-", "--"}:
            break  # the name of the script: all that follows are its arguments
        if word.startswith("--"):
            options += _long_option(word, words)
            continue

        # A word may hold several letters. A letter that takes a value ends the word.
        for position, letter in enumerate(word[1:], 2):
            if letter in "cm":
                return tuple(options)
            if letter in "WX":
                value = word[position:] or next(words, "")
                if letter == "X" and not value.startswith("importtime"):
                    options.append(f"-X{value}")
                break
            if letter in _FLAGS:
                options.append(f"-{letter}")
    return tuple(options)


def _long_option(word: str, words: Iterator[str]) -> list[str]:
    # The only long option of Python that has a value and changes how programs behave.
    if not word.startswith("--check-hash-based-pycs"):
        return []
    if "=" in word:
        return [word]
    return [word, next(words, "default")]


def _site_folders() -> list[str]:
    folders = list(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return folders


def _is_read_at_start(name: str) -> bool:
    return name in _NAMES or (name.startswith(_PREFIXES) and name not in _READ_LATER)
