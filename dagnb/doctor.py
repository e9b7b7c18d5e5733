"""What is here, what is missing, and the cure. It looks, and starts nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.version import Version

from dagnb import registry, session
from dagnb.errors import ConfigError, StorageError, UnknownNameError
from dagnb.storage.embedded import find_server
from dagnb.storage.home import runtime_directory, state_directory
from dagnb.storage.open import without_secrets
from dagnb.views import dot
from dagnb.views.wording import bytes_text, counted

OLDEST_PYTHON = (3, 11)
VARIABLES = {
    **session.VARIABLES,
    "DAGNB_DOCKER_BASE": "image that images of Docker workers are built on (default: python:3.X-slim of this version)",
}
"""What the client reads, and what launchers do"""

_DOCKER_SOCKET = Path("/var/run/docker.sock")
_ANSWER_S = 2.0


class Health(StrEnum):
    """WARNING: something that can be done without; MISSING: the default job cannot run."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. cure: what to do, "" when nothing has to be done."""

    name: str
    health: Health
    detail: str
    cure: str = ""


def examine(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Everything dagnb needs or can use, the needed first."""
    return [
        _python(sys.version_info[:3]),
        _dependencies(),
        _directory("runtime directory", runtime_directory, environ),
        _directory("state directory", state_directory, environ),
        _store(environ),
        _workers(),
        _agent(environ),
        _graphviz(),
        _packages(
            "notebook",
            ("IPython", "ipywidgets", "anywidget"),
            "pip install ipython ipywidgets anywidget",
        ),
        _docker(environ),
        *_variables(environ),
    ]


def is_able(findings: list[Finding]) -> bool:
    """Whether the default job can run."""
    return all(finding.health is not Health.MISSING for finding in findings)


def findings_text(findings: list[Finding]) -> str:
    """A line a finding, and its cure below it."""
    wide = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.health:<7}  {finding.name:<{wide}}  {finding.detail}")
        if finding.cure:
            lines.append(f"{'':<7}  {'':<{wide}}  cure: {finding.cure}")
    return "\n".join(lines)


def _python(version: tuple[int, ...]) -> Finding:
    told = f"{platform.python_implementation()} {'.'.join(map(str, version))}, {sys.executable}"
    if version[:2] >= OLDEST_PYTHON:
        return Finding(name="Python", health=Health.OK, detail=told)
    cure = f"Install Python {'.'.join(map(str, OLDEST_PYTHON))} or later."
    return Finding(name="Python", health=Health.MISSING, detail=told, cure=cure)


def _dependencies() -> Finding:
    """Compare the versions of Python and of packages installed here with those that the tests run with."""
    tested = json.loads(files("dagnb").joinpath("tested.json").read_text("utf-8"))
    outside = untested(
        tested, ".".join(map(str, sys.version_info[:2])), _installed(tested["packages"])
    )
    if not outside:
        detail = (
            f"Python and {len(tested['packages'])} packages have versions that dagnb is tested with"
        )
        return Finding(name="versions", health=Health.OK, detail=detail)
    cure = "Most work. If something fails, install a tested version first, as in `pip install 'redis>=5.3,<=8.1.0'`."
    return Finding(name="versions", health=Health.WARNING, detail="; ".join(outside), cure=cure)


def untested(tested: Mapping[str, Any], python: str, installed: Mapping[str, str]) -> list[str]:
    """One sentence for Python and for each package whose version lies outside what the tests ran with.

    tested: the oldest and newest versions, as in dagnb/tested.json. installed: name -> version.
    """
    bounds = {"Python": tested["python"], **tested["packages"]}
    sentences = []
    for name, version in {"Python": python, **installed}.items():
        oldest, newest = bounds[name]
        if Version(version) < Version(oldest):
            sentences.append(f"{name} {version} is older than {oldest}, the oldest tested")
        elif Version(version) > Version(newest):
            sentences.append(f"{name} {version} is newer than {newest}, the newest tested")
    return sentences


def _installed(names: Iterable[str]) -> dict[str, str]:
    """name -> version of those that are installed."""
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _directory(
    name: str, find: Callable[[Mapping[str, str]], Path], environ: Mapping[str, str]
) -> Finding:
    """A directory of the user's alone, in which a file can be made."""
    try:
        path = find(environ)
    except ConfigError as error:
        return Finding(name=name, health=Health.MISSING, detail="cannot be used", cure=str(error))
    except OSError as error:
        cure = "Set DAGNB_HOME to a directory you may write to."
        return Finding(
            name=name, health=Health.MISSING, detail=f"cannot be made: {error}", cure=cure
        )
    if os.access(path, os.W_OK | os.X_OK):
        return Finding(name=name, health=Health.OK, detail=f"{path}, private")
    cure = "Set DAGNB_HOME to a directory you may write to."
    return Finding(name=name, health=Health.MISSING, detail=f"{path} cannot be written", cure=cure)


def _store(environ: Mapping[str, str]) -> Finding:
    """The server that is given, if it answers; else the program of the embedded one."""
    if url := environ.get(session.STORE_VARIABLE):
        return _given_store(url, environ)
    try:
        program = find_server()
    except ConfigError as error:
        return Finding(name="store", health=Health.MISSING, detail="no server", cure=str(error))
    return Finding(
        name="store", health=Health.OK, detail=f"embedded server: {program} ({_version(program)})"
    )


def _given_store(url: str, environ: Mapping[str, str]) -> Finding:
    try:
        session.wait(session.reopened(session.terms_of(url, environ)))
    except (ConfigError, StorageError) as error:
        detail = f"{without_secrets(url)} of {session.STORE_VARIABLE} cannot be used"
        return Finding(name="store", health=Health.MISSING, detail=detail, cure=str(error))
    return Finding(name="store", health=Health.OK, detail=f"{without_secrets(url)} answers")


def _version(program: Path) -> str:
    """What the program says of itself, in short."""
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "version unknown"
    return next((word[2:] for word in told.split() if word.startswith("v=")), "version unknown")


def _workers() -> Finding:
    """The session's launcher."""
    chosen = session.settings().workers
    known = ", ".join(registry.names("launcher"))
    try:
        launcher = session.settings().launcher()
    except (UnknownNameError, ImportError) as error:
        cure = f"{error}. Install dagnb again, or choose one of: {known or 'none is installed'}."
        return Finding(
            name="workers", health=Health.MISSING, detail=f"'{chosen}' cannot be loaded", cure=cure
        )
    return Finding(name="workers", health=Health.OK, detail=f"{launcher!r}; installed: {known}")


def _agent(environ: Mapping[str, str]) -> Finding:
    """The agent starts with the first run, so that its absence is no fault."""
    try:
        path = runtime_directory(environ) / "agent.sock"
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_ANSWER_S)
            line.connect(str(path))
    except (ConfigError, OSError):
        return Finding(
            name="agent", health=Health.OK, detail="none is running; the first run starts one"
        )
    return Finding(name="agent", health=Health.OK, detail=f"listens at {path}")


def _graphviz() -> Finding:
    try:
        return Finding(name="Graphviz", health=Health.OK, detail=dot.program())
    except ConfigError as error:
        return Finding(
            name="Graphviz", health=Health.WARNING, detail="no pictures of graphs", cure=str(error)
        )


def _packages(name: str, packages: tuple[str, ...], cure: str) -> Finding:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        return Finding(
            name=name, health=Health.WARNING, detail=f"{', '.join(absent)} not installed", cure=cure
        )
    return Finding(name=name, health=Health.OK, detail=f"{', '.join(packages)} installed")


def _docker(environ: Mapping[str, str]) -> Finding:
    """Needed by Docker workers only; asked in words every engine knows, as this room knows no platform's library."""
    program, host = shutil.which("docker"), environ.get("DOCKER_HOST", "")
    cure = "Only for workers='docker': install Docker, start it, and put yourself into the group 'docker'."
    if host and not host.startswith("unix://"):
        return Finding(
            name="Docker", health=Health.OK, detail=f"engine at {without_secrets(host)}, not asked"
        )
    path = Path(host.removeprefix("unix://")) if host else _DOCKER_SOCKET
    told = f"{program or 'no docker on PATH'}, engine at {path}"
    if not path.exists():
        return Finding(name="Docker", health=Health.WARNING, detail=f"{told}: not there", cure=cure)
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding(
            name="Docker", health=Health.WARNING, detail=f"{told}: closed to you", cure=cure
        )
    try:
        of_engine = _engine_text(path)
    except (OSError, ValueError, KeyError) as error:
        cure = "Only for workers='docker': start it (`systemctl start docker`, or Docker Desktop)."
        return Finding(
            name="Docker", health=Health.WARNING, detail=f"{told}: no answer, {error!r}", cure=cure
        )
    return Finding(
        name="Docker", health=Health.OK, detail=f"{told}: {of_engine}; images: `dagnb image list`"
    )


def _engine_text(path: Path) -> str:
    """Version, CPUs and memory. Raises OSError, ValueError or KeyError when no engine answers there."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_ANSWER_S)
        line.connect(str(path))
        line.sendall(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    info = json.loads(answer.partition(b"\r\n\r\n")[2])
    return (
        f"{info['ServerVersion']}, {counted(info['NCPU'], 'CPU')}, {bytes_text(info['MemTotal'])}"
    )


def _variables(environ: Mapping[str, str]) -> list[Finding]:
    """What is set; and what begins with DAGNB_ but is read by nobody, the mark of a misspelling."""
    found = []
    for name in sorted(name for name in environ if name.startswith("DAGNB_")):
        if name in VARIABLES:
            found.append(Finding(name=name, health=Health.OK, detail=shown_variable(environ[name])))
        else:
            cure = f"Unset it. dagnb reads {', '.join(VARIABLES)}."
            found.append(
                Finding(name=name, health=Health.WARNING, detail="is read by nobody", cure=cure)
            )
    return found


IN_FORCE_HEADS = ("setting", "value", "comes from", "what it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting or variable as it is in force. value: without secrets, "" where there is none."""

    name: str
    value: str
    origin: str
    meaning: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The line under IN_FORCE_HEADS."""
        return (self.name, self.value or "not set", self.origin, self.meaning)


def in_force(environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """The session's settings, then the variables that are read, each with where its value comes from."""
    chosen = session.settings()
    values = {name: str(getattr(chosen, name)) for name in session.MEANINGS}
    values["store"] = shown_variable(_store_url(chosen, environ))
    found = [
        Setting(
            name=name, value=values[name], origin=session.origin_of(name, environ), meaning=meaning
        )
        for name, meaning in session.MEANINGS.items()
    ]
    for name, meaning in VARIABLES.items():
        value = shown_variable(environ.get(name, ""))
        origin = "environment" if value else "default"
        found.append(Setting(name=name, value=value, origin=origin, meaning=meaning))
    return found


def _store_url(chosen: session.Settings, environ: Mapping[str, str]) -> str:
    if isinstance(chosen.store, session.Redis):
        return chosen.store.url
    return chosen.store or environ.get(session.STORE_VARIABLE, "")


def shown_variable(value: str) -> str:
    """The value of a variable without the secrets of a URL."""
    return without_secrets(value) if "://" in value else value
