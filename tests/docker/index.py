"""A package index on this machine: https by an authority nobody knows, basic authentication,
packages made here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.conftest import missing_service

USER, PASSWORD = "index-user-5f1c", "index-password-9d2e"


@dataclass(frozen=True, kw_only=True)
class Index:
    """url: with the credentials. authority: the certificate to trust. folder: where the wheels are."""

    url: str
    authority: Path
    folder: Path

    def add(self, name: str, version: str) -> None:
        """Offer a package whose module has a VERSION."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
        with zipfile.ZipFile(self.folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
                wheel.writestr(path, text)

    @property
    def secrets(self) -> dict[str, bytes]:
        """What must not be left anywhere."""
        certificate = self.authority.read_bytes().splitlines()
        return {
            "user": USER.encode(),
            "password": PASSWORD.encode(),
            "host": self.url.rpartition("@")[2].encode(),
            "authority": certificate[3],
        }


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Index]:
    """The index, for as long as the context lasts."""
    if not shutil.which("openssl"):
        missing_service("no openssl on PATH, to make a certificate with")
    key, certificate, wheels = folder / "key.pem", folder / "ca.pem", folder / "wheels"
    wheels.mkdir()
    _certify(key, certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Handler(wheels, *args))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"https://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
        yield Index(url=url, authority=certificate, folder=wheels)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certify(key: Path, certificate: Path) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=dagnb-test",
    ]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _digest(text: str) -> str:
    return (
        "sha256="
        + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    )


class _Handler(BaseHTTPRequestHandler):
    """GET /simple/NAME/ lists the wheels of a package, GET /files/WHEEL gives one, both with the
    password only.
    """

    def __init__(self, wheels: Path, *args: Any) -> None:
        self._wheels = wheels
        super().__init__(*args)

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self._answer(401, b"", "text/plain", "WWW-Authenticate")
        elif self.path.startswith("/files/"):
            self._answer(
                200, (self._wheels / Path(self.path).name).read_bytes(), "application/octet-stream"
            )
        else:
            name = self.path.strip("/").rpartition("/")[2].replace("-", "_")
            wheels = sorted(path.name for path in self._wheels.glob(f"{name}-*.whl"))
            links = "".join(f'<a href="/files/{wheel}">{wheel}</a>\n' for wheel in wheels)
            self._answer(
                200 if wheels else 404,
                f"<!DOCTYPE html><html><body>{links}</body></html>".encode(),
                "text/html",
            )

    def _answer(self, code: int, content: bytes, kind: str, challenge: str | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if challenge:
            self.send_header(challenge, 'Basic realm="packages"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
