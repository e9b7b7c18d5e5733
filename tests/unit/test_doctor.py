"""The doctor: what it finds here, and what it says of homes, stores and variables that are ill."""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from dagnb import session
from dagnb.cli import main
from dagnb.doctor import Finding, Health, examine, findings_text, is_able
from tests.conftest import missing_service, own_server


def found(name: str, **environ: str) -> Finding:
    """Returns the finding of this name, with these variables."""
    (finding,) = [finding for finding in examine(environ) if finding.name == name]
    return finding


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_healthy_home_is_private_and_no_agent_is_no_fault(home: Path) -> None:
    assert found("state directory", DAGNB_HOME=str(home)).health is Health.OK
    assert (home / "state").stat().st_mode & 0o077 == 0
    assert found("agent", DAGNB_HOME=str(home)).detail.startswith("none is running")


def test_a_home_open_to_others_is_missing_and_the_cure_names_the_command(home: Path) -> None:
    (home / "state").mkdir(parents=True)
    (home / "state").chmod(0o755)

    finding = found("state directory", DAGNB_HOME=str(home))

    assert finding.health is Health.MISSING
    assert f"chmod 700 {home / 'state'}" in finding.cure


def test_a_home_that_cannot_be_made_is_missing(home: Path) -> None:
    home.write_text("a file")

    finding = found("runtime directory", DAGNB_HOME=str(home))

    assert finding.health is Health.MISSING
    assert "DAGNB_HOME" in finding.cure


def test_a_given_store_that_does_not_answer_is_missing_and_its_password_is_not_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(home))
    monkeypatch.setenv(session.STORE_VARIABLE, f"unix://me:hunter2@{home}/nobody.sock")

    code = main(["doctor"])

    output = capsys.readouterr().out
    assert code == 1
    assert "missing  store" in output
    assert "nobody.sock" in output
    assert "hunter2" not in output


def test_a_misspelt_variable_is_warned_of_and_the_right_ones_are_named(home: Path) -> None:
    finding = found("DAGNB_REDIS", DAGNB_HOME=str(home), DAGNB_REDIS="redis://localhost")

    assert finding.health is Health.WARNING
    assert session.STORE_VARIABLE in finding.cure


def test_a_remote_docker_engine_is_not_asked_and_its_absence_is_a_warning(home: Path) -> None:
    far = found("Docker", DAGNB_HOME=str(home), DOCKER_HOST="tcp://far.example:2376")
    gone = found("Docker", DAGNB_HOME=str(home), DOCKER_HOST=f"unix://{home}/docker.sock")

    assert (far.health, gone.health) == (Health.OK, Health.WARNING)
    assert gone.detail.endswith("docker.sock: not there")
    assert "Only for workers='docker'" in gone.cure


@pytest.fixture
def engine() -> Iterator[Callable[[bytes], Path]]:
    """Makes a socket at which something answers every request with these bytes."""
    folder, servers = Path(tempfile.mkdtemp(prefix="dnb")), []

    def made(answer: bytes) -> Path:
        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(answer)

        path = folder / f"{len(servers)}.sock"
        servers.append(socketserver.UnixStreamServer(str(path), Answer))
        threading.Thread(
            target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return path

    yield made
    for server in servers:
        server.shutdown()
        server.server_close()
    shutil.rmtree(folder)


def test_an_engine_that_answers_tells_its_version_and_size(
    home: Path, engine: Callable[[bytes], Path]
) -> None:
    info = json.dumps({"ServerVersion": "20.10.24", "NCPU": 2, "MemTotal": 25_300_000_000}).encode()
    path = engine(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + info)

    finding = found("Docker", DAGNB_HOME=str(home), DOCKER_HOST=f"unix://{path}")

    assert finding.health is Health.OK
    assert (
        f"engine at {path}: 20.10.24, 2 CPUs, 25.3 GB; images: `dagnb image list`" in finding.detail
    )


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.0 500 Error\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n{}"]
)
def test_what_answers_otherwise_is_no_engine(
    home: Path, engine: Callable[[bytes], Path], answer: bytes
) -> None:
    finding = found("Docker", DAGNB_HOME=str(home), DOCKER_HOST=f"unix://{engine(answer)}")

    assert finding.health is Health.WARNING
    assert "no answer" in finding.detail
    assert "systemctl start docker" in finding.cure


def test_the_variable_of_the_base_image_is_read(home: Path) -> None:
    assert (
        found("DAGNB_DOCKER_BASE", DAGNB_HOME=str(home), DAGNB_DOCKER_BASE="mine:1").health
        is Health.OK
    )


def test_only_what_is_missing_keeps_the_default_job_from_running() -> None:
    fine = Finding(name="a", health=Health.OK, detail="here")
    poor = Finding(name="bb", health=Health.WARNING, detail="not here", cure="Get it.")
    ill = Finding(name="c", health=Health.MISSING, detail="not here", cure="Install it.")

    assert is_able([fine, poor])
    assert not is_able([fine, ill])
    assert (
        findings_text([fine, poor])
        == "ok       a   here\nwarning  bb  not here\n             cure: Get it."
    )


@pytest.mark.redis
def test_a_store_that_answers_says_what_it_holds_and_one_that_is_nearly_full_what_to_do(
    home: Path,
) -> None:
    with own_server("--maxmemory", "40mb") as url, redis.Redis.from_url(url) as server:
        variables = {"DAGNB_HOME": str(home), session.STORE_VARIABLE: url}
        roomy = found("store", **variables)
        for number in range(36):
            server.set(f"of another program {number}", bytes(1_000_000))
        full = found("store", **variables)

    assert roomy.health is Health.OK
    assert roomy.detail.endswith(
        " of at most 41.9 MB (maxmemory). It holds 0 runs: 0 B of results, 0 B of code and inputs "
        "(0 B shared by several runs), 0 B of records."
    )
    assert full.health is Health.WARNING
    assert "dagnb forget RUN" in full.cure
    assert ". It holds 0 runs" in full.detail


def test_an_embedded_server_that_does_not_run_is_not_started(home: Path) -> None:
    if not shutil.which("redis-server") and not shutil.which("valkey-server"):
        missing_service(
            "neither redis-server nor valkey-server is installed: there is none to find"
        )

    finding = found("store", DAGNB_HOME=str(home))

    assert finding.health is Health.OK
    assert finding.detail.endswith("it does not run, the first run starts it")
    assert not list((home / "run").glob("**/*.sock"))
