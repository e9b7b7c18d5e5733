"""Checks what dagnb needs: what is installed, what is missing, and how to fix it.

Nothing is started or changed, except that the user's own folders are created.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
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
from dagnb.protocol.usage import StoreUsage
from dagnb.storage.embedded import find_server, running_server
from dagnb.storage.home import runtime_directory, state_directory
from dagnb.storage.open import without_secrets
from dagnb.views import layout
from dagnb.views.store_usage import usage_text
from dagnb.views.wording import bytes_text, counted

OLDEST_PYTHON = (3, 11)
VARIABLES = {
    **session.VARIABLES,
    "DAGNB_DOCKER_BASE": (
        "image that images of Docker workers are built on "
        "(default: python:3.X-slim of this version)"
    ),
}
"""The variables that clients and launchers read, with their meanings."""

_DOCKER_SOCKET = Path("/var/run/docker.sock")
_ANSWER_S = 2.0

# Part of its room from which on a store counts as nearly full.
_NEARLY_FULL = 0.9


class Health(StrEnum):
    """The result of a check. WARNING: optional. MISSING: `dagnb demo` cannot run."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. cure: what to do, '' for nothing."""

    name: str
    health: Health
    detail: str
    cure: str = ""


def examine(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Checks everything that dagnb needs or can use, the necessary first."""
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
    """Tells whether `dagnb demo` can run."""
    return all(finding.health is not Health.MISSING for finding in findings)


def findings_text(findings: list[Finding]) -> str:
    """Returns a line for each finding, with its cure below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.health:<7}  {finding.name:<{width}}  {finding.detail}")
        if finding.cure:
            lines.append(f"{'':<7}  {'':<{width}}  cure: {finding.cure}")
    return "\n".join(lines)


def _python(version: tuple[int, ...]) -> Finding:
    detail = f"{platform.python_implementation()} {'.'.join(map(str, version))}, {sys.executable}"
    if version[:2] >= OLDEST_PYTHON:
        return Finding(name="Python", health=Health.OK, detail=detail)
    cure = f"Install Python {'.'.join(map(str, OLDEST_PYTHON))} or later."
    return Finding(name="Python", health=Health.MISSING, detail=detail, cure=cure)


def _dependencies() -> Finding:
    """Compares the versions of Python and of packages with those that dagnb is tested with."""
    tested = json.loads(files("dagnb").joinpath("tested.json").read_text("utf-8"))
    python = ".".join(map(str, sys.version_info[:2]))
    outside = untested(tested, python, _installed(tested["packages"]))
    if not outside:
        n_packages = len(tested["packages"])
        detail = f"Python and {n_packages} packages have versions that dagnb is tested with"
        return Finding(name="versions", health=Health.OK, detail=detail)
    cure = (
        "Most other versions work. If something fails, install a tested one first, "
        "for example with `pip install 'redis>=5.3,<=8.1.0'`."
    )
    return Finding(name="versions", health=Health.WARNING, detail="; ".join(outside), cure=cure)


def untested(tested: Mapping[str, Any], python: str, installed: Mapping[str, str]) -> list[str]:
    """Returns a sentence for Python and for each package whose version was not tested.

    tested: oldest and newest versions, as in dagnb/tested.json. installed: name -> version.
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
    """Returns name -> version of the packages that are installed."""
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _directory(
    name: str, find: Callable[[Mapping[str, str]], Path], environ: Mapping[str, str]
) -> Finding:
    """Checks a directory, which must be private to the user and writable."""
    cure = "Set DAGNB_HOME to a directory that you can write to."
    try:
        path = find(environ)
    except ConfigError as error:
        return Finding(name=name, health=Health.MISSING, detail="cannot be used", cure=str(error))
    except OSError as error:
        detail = f"cannot be created: {error}"
        return Finding(name=name, health=Health.MISSING, detail=detail, cure=cure)
    if os.access(path, os.W_OK | os.X_OK):
        return Finding(name=name, health=Health.OK, detail=f"{path}, private")
    return Finding(name=name, health=Health.MISSING, detail=f"{path} is not writable", cure=cure)


def _store(environ: Mapping[str, str]) -> Finding:
    """Checks the user's server, or the program of the embedded one if there is none."""
    if url := environ.get(session.STORE_VARIABLE):
        return _given_store(url, environ)
    try:
        program = find_server()
    except ConfigError as error:
        return Finding(name="store", health=Health.MISSING, detail="no server", cure=str(error))
    detail = f"embedded server: {program} ({_version(program)})"
    try:
        # It is only read: a client that wants it would start an agent for it.
        server = running_server(runtime_directory(environ))
        if server is None:
            detail += "; it does not run, the first run starts it"
            return Finding(name="store", health=Health.OK, detail=detail)
        usage = session.wait(_usage_at(session.terms_of(server.url, environ)))
    except (ConfigError, OSError, StorageError) as error:
        return Finding(name="store", health=Health.WARNING, detail=detail, cure=str(error))
    return _answering(detail, usage)


def _given_store(url: str, environ: Mapping[str, str]) -> Finding:
    try:
        usage = session.wait(_usage_at(session.terms_of(url, environ)))
    except (ConfigError, StorageError) as error:
        detail = f"{without_secrets(url)} ({session.STORE_VARIABLE}) cannot be used"
        return Finding(name="store", health=Health.MISSING, detail=detail, cure=str(error))
    return _answering(f"{without_secrets(url)} answers", usage)


async def _usage_at(terms: session.Redis) -> StoreUsage:
    return await (await session.reopened(terms)).usage()


def _answering(detail: str, usage: StoreUsage) -> Finding:
    """Warns of a store that is nearly full."""
    detail = f"{detail}. {usage_text(usage)}"
    if (usage.used_bytes or 0) <= _NEARLY_FULL * (usage.limit_bytes or math.inf):
        return Finding(name="store", health=Health.OK, detail=detail)
    cure = "Forget runs with `dagnb forget RUN`; `dagnb runs` lists their sizes."
    return Finding(name="store", health=Health.WARNING, detail=detail, cure=cure)


def _version(program: Path) -> str:
    try:
        process = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "version unknown"
    # Redis and Valkey print "... server v=7.2.4 sha=...".
    for word in process.stdout.split():
        if word.startswith("v="):
            return word.removeprefix("v=")
    return "version unknown"


def _workers() -> Finding:
    """Checks the launcher of the session's settings."""
    known = ", ".join(registry.names("launcher"))
    try:
        launcher = session.settings().launcher()
    except (UnknownNameError, ImportError) as error:
        detail = f"'{session.settings().workers}' cannot be loaded"
        cure = f"{error}. Install dagnb again, or choose one of: {known or 'none is installed'}."
        return Finding(name="workers", health=Health.MISSING, detail=detail, cure=cure)
    return Finding(name="workers", health=Health.OK, detail=f"{launcher!r}; installed: {known}")


def _agent(environ: Mapping[str, str]) -> Finding:
    """Checks the agent. It starts with the first run, so its absence is fine."""
    try:
        path = runtime_directory(environ) / "agent.sock"
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_ANSWER_S)
            line.connect(str(path))
    except (ConfigError, OSError):
        detail = "none is running; the first run starts one"
        return Finding(name="agent", health=Health.OK, detail=detail)
    return Finding(name="agent", health=Health.OK, detail=f"listens at {path}")


def _graphviz() -> Finding:
    try:
        return Finding(name="Graphviz", health=Health.OK, detail=layout.dot_program())
    except ConfigError as error:
        detail = "not installed: graphs have no pictures"
        return Finding(name="Graphviz", health=Health.WARNING, detail=detail, cure=str(error))


def _packages(name: str, packages: tuple[str, ...], cure: str) -> Finding:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        detail = f"{', '.join(absent)} not installed"
        return Finding(name=name, health=Health.WARNING, detail=detail, cure=cure)
    return Finding(name=name, health=Health.OK, detail=f"{', '.join(packages)} installed")


def _docker(environ: Mapping[str, str]) -> Finding:
    """Checks the Docker engine, which only workers='docker' need."""

    def finding(health: Health, detail: str, cure: str = "") -> Finding:
        cure = f"Only for workers='docker': {cure}" if cure else ""
        return Finding(name="Docker", health=health, detail=detail, cure=cure)

    host = environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        # A remote engine may need certificates, and may take long to answer.
        return finding(Health.OK, f"engine at {without_secrets(host)}, not checked")

    path = Path(host.removeprefix("unix://")) if host else _DOCKER_SOCKET
    where = f"{shutil.which('docker') or 'no docker on PATH'}, engine at {path}"
    install = "install Docker, start it, and add yourself to the group 'docker'."
    if not path.exists():
        return finding(Health.WARNING, f"{where}: not there", install)
    if not os.access(path, os.R_OK | os.W_OK):
        return finding(Health.WARNING, f"{where}: you have no access", install)
    try:
        engine = _engine_text(path)
    except (OSError, ValueError, KeyError) as error:
        start = "start it (`systemctl start docker`, or Docker Desktop)."
        return finding(Health.WARNING, f"{where}: no answer, {error!r}", start)
    return finding(Health.OK, f"{where}: {engine}; images: `dagnb image list`")


def _engine_text(path: Path) -> str:
    """Returns version, CPUs and memory.

    Raises OSError, ValueError or KeyError without an engine.
    """
    # Plain HTTP: the library `docker` belongs to its launcher, and need not be installed.
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_ANSWER_S)
        line.connect(str(path))
        line.sendall(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    info = json.loads(answer.partition(b"\r\n\r\n")[2])
    size = f"{counted(info['NCPU'], 'CPU')}, {bytes_text(info['MemTotal'])}"
    return f"{info['ServerVersion']}, {size}"


def _variables(environ: Mapping[str, str]) -> list[Finding]:
    """Checks the variables that begin with DAGNB_; an unknown one is probably misspelt."""
    findings = []
    for name in sorted(environ):
        if name in VARIABLES and name.startswith("DAGNB_"):
            detail = shown_variable(environ[name])
            findings.append(Finding(name=name, health=Health.OK, detail=detail))
        elif name.startswith("DAGNB_"):
            detail, cure = "has no effect", f"Unset it. dagnb reads {', '.join(VARIABLES)}."
            findings.append(Finding(name=name, health=Health.WARNING, detail=detail, cure=cure))
    return findings


IN_FORCE_HEADS = ("setting", "value", "comes from", "meaning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting or variable with its current value, without secrets; '' if it has none."""

    name: str
    value: str
    origin: str
    meaning: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of its row, for IN_FORCE_HEADS."""
        return (self.name, self.value or "not set", self.origin, self.meaning)


def in_force(environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """Returns the session's settings, then the variables, with the origins of their values."""
    chosen = session.settings()
    values = {name: str(getattr(chosen, name)) for name in session.MEANINGS}
    values["store"] = shown_variable(_store_url(chosen, environ))
    settings = []
    for name, meaning in session.MEANINGS.items():
        origin = session.origin_of(name, environ)
        settings.append(Setting(name=name, value=values[name], origin=origin, meaning=meaning))
    for name, meaning in VARIABLES.items():
        value = shown_variable(environ.get(name, ""))
        origin = "environment" if value else "default"
        settings.append(Setting(name=name, value=value, origin=origin, meaning=meaning))
    return settings


def _store_url(chosen: session.Settings, environ: Mapping[str, str]) -> str:
    if isinstance(chosen.store, session.Redis):
        return chosen.store.url
    return chosen.store or environ.get(session.STORE_VARIABLE, "")


def shown_variable(value: str) -> str:
    """Returns the value of a variable, without the password of a URL."""
    return without_secrets(value) if "://" in value else value
