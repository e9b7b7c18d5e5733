"""Runs and history that version 0.1 wrote before its modules were renamed are read as they were.

The data were written by that version: three runs on two processes: one that ended, one with a task
that failed twice, and one that was asked for a structure with a function behind a cache in it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import dagnb
from dagnb import client, session
from dagnb.errors import TaskFailedError, VersionMismatchError
from dagnb.run_history.history import History
from dagnb.storage.home import signing_key
from tests.conftest import own_server

DATA = Path(__file__).parents[1] / "data"
TOTAL = "01M8P7NVQ8CCKJP3SH0KWWD9G0"
BROKEN = "01M8P7NW355SZGK96PY35VAZQX"
SHAPED = "01M8P7NY20YA813R9WP89CDFH9"

pytestmark = pytest.mark.redis


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a server that holds what the older version left, signed with the key of this home."""
    with own_server() as url:
        monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
        monkeypatch.setenv(session.STORE_VARIABLE, url)
        signing_key(url)
        (key_file,) = (tmp_path / "state").glob("key-*")
        stored = json.loads((DATA / "runs_of_0_1.json").read_text())
        key_file.write_bytes(bytes.fromhex(stored["signing_key"]))
        with redis.Redis.from_url(url) as server:
            for name, entry in stored["keys"].items():
                put(server, b64decode(name), entry["type"], entry["value"])
        yield url


def put(server: redis.Redis, name: bytes, kind: str, value: Any) -> None:
    """Write a key as it was read: `redis.Redis.dump` would bind the data to one version of the
    server.
    """
    if kind == "string":
        server.set(name, b64decode(value))
    elif kind == "hash":
        server.hset(name, mapping={b64decode(k): b64decode(v) for k, v in value.items()})
    elif kind == "list":
        server.rpush(name, *map(b64decode, value))
    elif kind == "set":
        server.sadd(name, *map(b64decode, value))
    elif kind == "zset":
        server.zadd(name, {b64decode(member): score for member, score in value})
    else:
        assert kind == "stream"
        for number, fields in value:
            entry = {b64decode(k): b64decode(v) for k, v in fields.items()}
            server.xadd(name, entry, id=b64decode(number))


def test_a_run_of_the_older_version_is_listed_and_found_by_its_name(old_store: str) -> None:
    runs = {line.run: (line.name, line.state) for line in dagnb.runs()}

    assert runs[TOTAL] == ("total", "ok")
    assert runs[BROKEN] == ("broken", "failed")
    assert client.find_run("total").run == TOTAL


def test_its_trace_counts_and_output_are_read(old_store: str) -> None:
    run = dagnb.attach(TOTAL)

    assert run.status == {"done": 3}
    assert run.trace.makespan_s == pytest.approx(0.354, abs=0.001)
    assert {span.worker for span in run.trace.spans} == {"", "~/1"}
    assert run.log("add") == "adding\n"


def test_its_errors_are_read_with_their_lines(old_store: str) -> None:
    errors = dagnb.attach(BROKEN).errors

    assert [(error.task, error.attempt, error.type, error.message) for error in errors] == [
        ("fail-0", 1, "KeyError", "'no such column'"),
        ("fail-0", 2, "KeyError", "'no such column'"),
    ]
    assert errors[-1].frames[-1].source.strip() == 'raise KeyError("no such column")'


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="3.11 pickled the values")
def test_its_values_are_read_by_the_python_that_wrote_them(old_store: str) -> None:
    assert dagnb.attach(TOTAL).result(5) == {"sum": 9}
    shaped = dagnb.attach(SHAPED).result(5)
    assert shaped["list"] == [0, 1]
    assert shaped["cached"](21) == 42
    assert shaped["cached"].cache_parameters() == {"maxsize": 3, "typed": False}
    with pytest.raises(TaskFailedError, match="task 'fail-0' failed after 2 attempt"):
        dagnb.attach(BROKEN).result(5)


@pytest.mark.skipif(sys.version_info[:2] == (3, 11), reason="3.11 pickled the values")
def test_its_values_are_refused_by_another_python(old_store: str) -> None:
    with pytest.raises(VersionMismatchError, match=r"CPython 3\.11"):
        dagnb.attach(TOTAL).result(5)


def test_the_history_of_the_older_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript((DATA / "history_of_0_1.sql").read_text())
    database.close()

    history = History(path)
    description, trace = history.run(TOTAL)

    assert [(run.run, run.name, run.state) for run in history.runs()] == [
        (SHAPED, "shaped", "ok"),
        (BROKEN, "broken", "failed"),
        (TOTAL, "total", "ok"),
    ]
    assert description.names == ("draw-0", "draw-1", "add-0")
    assert [step.upstream for step in description.plan.steps] == [(), (), (0, 1)]
    assert trace.makespan_s == pytest.approx(0.354, abs=0.001)
    assert dict(history.functions()) == {"add": 1, "draw": 5, "make": 1}
