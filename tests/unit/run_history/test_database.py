"""The file of past runs when it is busy, damaged, full, read-only, or foreign.

Runs never notice.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dagnb import session, task
from dagnb.errors import HistoryError
from dagnb.run_history import database
from dagnb.run_history.database import Schema, opened
from dagnb.run_history.history import SCHEMA, History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a history."""
    return tmp_path / "history.sqlite"


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    session.wait_for_pending(30)  # what a test before left for later must not warn here
    monkeypatch.setattr(session, "_warned", set())
    yield
    session.wait_for_pending(30)


def mark(path: Path) -> str:
    """Use the file; gives the mark of its birth."""
    with opened(path, SCHEMA) as db:
        result: str = db.execute("select mark from birth").fetchone()[0]
    return result


def aside(path: Path) -> list[Path]:
    """The files that were set aside."""
    return [
        result
        for result in path.parent.glob(f"{path.name}.damaged-*")
        if not result.name.endswith(("-wal", "-shm"))
    ]


@pytest.mark.parametrize(
    "content",
    [b"no database at all" * 100, b"SQLite format 3\x00" + bytes(2000), b"damaged"],
    ids=["text", "zeros", "short"],
)
def test_a_damaged_file_is_set_aside_logged_once_and_a_new_one_begins(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)

    first, second = mark(path), mark(path)

    assert first == second
    (kept,) = aside(path)
    assert kept.read_bytes() == content
    assert [record.getMessage().count(kept.name) for record in caplog.records] == [1]


def test_damage_that_shows_in_the_middle_is_set_aside_as_well(path: Path) -> None:
    with opened(path, SCHEMA) as db:
        db.executemany(
            "insert into runs (run, story) values (?, ?)",
            [(str(i), "s" * 3000) for i in range(100)],
        )
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    with (
        pytest.raises(HistoryError, match=r"is damaged: .*set aside as history.sqlite.damaged-"),
        opened(path, SCHEMA) as db,
    ):
        db.execute("select sum(length(story)) from runs").fetchone()

    assert len(aside(path)) == 1
    assert mark(path)


def test_a_file_with_foreign_tables_is_set_aside(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("create table runs (other text)")

    assert mark(path)
    assert len(aside(path)) == 1


def test_of_several_that_meet_a_damaged_file_one_sets_it_aside(path: Path) -> None:
    for number in range(20):
        file = path.with_name(f"history-{number}.sqlite")
        file.write_bytes(b"damaged")

        with ThreadPoolExecutor(8) as pool:
            marks = set(pool.map(mark, [file] * 16))

        assert len(marks) == 1
        assert len(aside(file)) == 1


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the write lock of another connection."""
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


def test_a_busy_file_is_waited_for(path: Path) -> None:
    mark(path)

    def write() -> None:
        with opened(path, SCHEMA) as db:
            db.execute("insert into birth values ('second')")

    with ThreadPoolExecutor(1) as pool:
        with locked(path):
            written = pool.submit(write)
            assert not written.done()
        written.result(timeout=30)
    assert mark(path)


def test_a_file_that_stays_busy_is_an_error_that_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark(path)
    monkeypatch.setattr(database, "PATIENCE_S", 0.05)

    with (
        locked(path),
        pytest.raises(
            HistoryError, match=r"database is locked.*Another process has held it for 0.05 s"
        ),
        opened(path, SCHEMA) as db,
    ):
        db.execute("insert into birth values ('second')")
    assert aside(path) == []


FULL = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from dagnb.errors import HistoryError
from dagnb.run_history.database import Schema, opened
from dagnb.run_history.history import SCHEMA
path = Path(sys.argv[1])
with opened(path, SCHEMA) as db:
    db.execute("insert into birth values ('kept')")
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, path.stat().st_size))
try:
    with opened(path, SCHEMA) as db:
        db.execute("insert into runs (run, story) values ('r', ?)", ["s" * 1_000_000])
except HistoryError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_keeps_what_it_has(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True
    )

    assert "Runs go on without it" in done.stdout
    with opened(path, SCHEMA) as db:
        assert db.execute("select count(*) from birth").fetchone() == (2,)
        assert db.execute("select count(*) from runs").fetchone() == (0,)
    assert aside(path) == []


def test_a_run_kept_in_bytes_that_make_no_sense_is_an_error_of_the_history(path: Path) -> None:
    with opened(path, SCHEMA) as db:
        db.execute("insert into runs (run, story, trace) values ('r', '{}', ?)", [b"no zlib"])

    with pytest.raises(HistoryError, match="run r is kept in"):
        History(path).run("r")


@task
def seven() -> int:
    """Give it."""
    return 7


@pytest.mark.parametrize("spoilt", ["", "data", "data/history.sqlite"])
def test_where_no_history_can_be_runs_go_on_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    home = tmp_path / "h"
    monkeypatch.setenv("DAGNB_HOME", str(home))
    if spoilt == "data/history.sqlite":
        (home / "data").mkdir(mode=0o700, parents=True)
        (home / spoilt).mkdir()
    else:
        (home / spoilt).parent.mkdir(exist_ok=True, parents=True)
        (home / spoilt).write_text("a file in the place of a folder")

    values = [seven().run(workers="inline").result(30) for _ in range(2)]

    session.wait_for_pending(30)
    assert values == [7, 7]
    assert len(caplog.records) == 1
    assert os.fspath(home) in caplog.text


FIRST = Schema(version=1, tables=("t",), script="create table t (a int); insert into t values (7)")
THIRD = Schema(
    version=3,
    tables=("t",),
    script="create table t (a int, b text, c text)",
    upgrades={
        1: "alter table t add column b text; update t set b = 'of 1'",
        2: "alter table t add column c text",
    },
)


def rows(path: Path, schema: Schema) -> list[tuple[object, ...]]:
    with opened(path, schema) as db:
        return db.execute("select * from t").fetchall()


def test_a_file_of_an_older_version_is_upgraded_and_keeps_its_rows(path: Path) -> None:
    assert rows(path, FIRST) == [(7,)]

    upgraded, again = rows(path, THIRD), rows(path, THIRD)

    assert upgraded == again == [(7, "of 1", None)]
    with pytest.raises(HistoryError, match="later dagnb"):
        rows(path, FIRST)


def test_a_file_that_no_upgrade_leads_from_begins_anew(path: Path) -> None:
    assert rows(path, FIRST) == [(7,)]

    assert rows(path, replace(THIRD, upgrades={2: THIRD.upgrades[2]})) == []


def test_a_new_file_needs_no_upgrades(path: Path) -> None:
    assert rows(path, THIRD) == []
