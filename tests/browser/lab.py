"""A real Jupyter server of one's own: loopback, a random port and token, nothing shared with the
user's own Jupyter.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.processes import await_that, descendants, is_alive

END_S = 15.0
_FOREIGN = ("JUPYTER", "IPYTHON", "DAGNB", "XDG_")
_QUIET = {"checkForUpdates": False, "fetchNews": "false"}
"""JupyterLab asks its home page for news, and its user whether it may"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A running server. root: its short folder; environ: what its kernels see."""

    url: str
    token: str
    root: Path
    environ: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where its notebooks are."""
        return self.root / "n"

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """An answer of the server's API."""
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        if body is not None:
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")

    def start_kernel(self, notebook: Path) -> None:
        """A kernel for this file, or the one it has; returns before it is ready."""
        body = {
            "path": notebook.name,
            "name": notebook.name,
            "type": "notebook",
            "kernel": {"name": "python3"},
        }
        self.ask("api/sessions", "POST", body)

    def end_kernels(self) -> None:
        """Shut down every kernel and forget the theme: the next test finds a fresh server."""
        for session in self.ask("api/sessions"):
            self.ask(f"api/sessions/{session['id']}", "DELETE")
        shutil.rmtree(self._settings(self.root), ignore_errors=True)
        self.be_quiet(self.root)

    @classmethod
    def be_quiet(cls, root: Path) -> None:
        """Settings of a user who wants no news."""
        folder = cls._settings(root) / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True)
        (folder / "notification.jupyterlab-settings").write_text(json.dumps(_QUIET))

    @staticmethod
    def _settings(root: Path) -> Path:
        return root / "s"


@contextlib.contextmanager
def running_lab() -> Iterator[Lab]:
    """A fresh server, which ends with the block, and with it its kernels, their agent and its
    folder.
    """
    root = Path(
        tempfile.mkdtemp(prefix="dnb")
    )  # short, because a socket's path holds about 100 letters
    token, environ = secrets.token_hex(16), _environ(root)
    (root / "n").mkdir()
    Lab.be_quiet(root)
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            _command(root),
            env={**environ, "JUPYTER_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Lab(url=_url(process, root), token=token, root=root, environ=environ)
    finally:
        _end(process)
        stop = [sys.executable, "-m", "dagnb", "agent", "--stop"]
        subprocess.run(stop, env=environ, check=False, capture_output=True, timeout=60)
        shutil.rmtree(root, ignore_errors=True)


def _environ(root: Path) -> dict[str, str]:
    """Ours, without what is said there of Jupyter, IPython and dagnb; every folder below the root."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    binaries = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join((binaries, kept.get("PATH", os.defpath))),
        "HOME": str(root),
        "JUPYTER_CONFIG_DIR": str(root / "c"),
        "JUPYTER_DATA_DIR": str(root / "h"),
        "JUPYTER_RUNTIME_DIR": str(root / "r"),
        "JUPYTERLAB_SETTINGS_DIR": str(root / "s"),
        "JUPYTERLAB_WORKSPACES_DIR": str(root / "w"),
        "IPYTHONDIR": str(root / "i"),
        "DAGNB_HOME": str(root / "d"),
    }


def _command(root: Path) -> list[str]:
    return [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root / 'n'}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip


def _url(process: subprocess.Popen[bytes], root: Path) -> str:
    """Known when the server has written where it listens."""
    told = root / "r" / f"jpserver-{process.pid}.json"
    found: list[str] = []

    def is_told() -> bool:
        with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
            found.append(json.loads(told.read_text())["url"])
        return bool(found) or process.poll() is not None

    await_that(is_told, "Jupyter server")
    if not found:
        raise RuntimeError(f"the server did not start: {(root / 'log').read_text()}")
    return found[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to leave; it ends its kernels first. What is left then is killed."""
    below = descendants(process.pid)
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in filter(is_alive, below):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
