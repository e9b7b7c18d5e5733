"""An engine that speaks just enough HTTP for one test: notes requests, gives set answers."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

VERSION = {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "27.0"}


@dataclass(slots=True)
class Request:
    """A request to the engine; `path` without the version and without the query."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Engine:
    """answers: verb and path -> what to do with a request of that kind."""

    url: str
    answers: dict[tuple[str, str], Callable[[Handler], None]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def answer(self) -> None:
        """Note the request, then answer it."""
        n_bytes = int(self.headers.get("Content-Length") or 0)
        path = (
            "/" + self.path.partition("?")[0].split("/", 2)[-1]
            if self.path.startswith("/v1.")
            else self.path
        )
        self.request_line = (self.command, path)
        self.engine.requests.append(
            Request(self.command, path, dict(self.headers), self.rfile.read(n_bytes))
        )
        if path == "/version":
            self.say(VERSION)
        else:
            self.engine.answers[self.request_line](self)

    do_GET = do_POST = answer  # noqa: N815  # names of the class above

    def say(self, content: object, status: int = 200) -> None:
        """Answer with JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        """Say nothing and close the connection."""
        self.close_connection = True

    def address_string(self) -> str:
        """A socket's other end has no address."""
        return "client"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # a name of the class above
        """Write nothing."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def engine_at(path: Path) -> Iterator[Engine]:
    """An engine that listens at this path until the end of the block."""
    engine = Engine(url=f"unix://{path}")
    handler = type("BoundHandler", (Handler,), {"engine": engine})
    with _Server(str(path), handler) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        try:
            yield engine
        finally:
            server.shutdown()
