"""Locks and notes that outlive processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dagnb_workers.hosting.run_locks import Holder, RunRecord, hold, is_held, run_records

from dagnb.errors import LaunchError


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    lock = hold(tmp_path / "l")

    assert lock is not None
    assert hold(tmp_path / "l") is None
    os.close(lock)
    again = hold(tmp_path / "l")
    assert again is not None
    os.close(again)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, dagnb_workers.hosting.run_locks as ledger\n"
        "print(ledger.hold(pathlib.Path(sys.argv[1])), flush=True)\n"
        "input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "l"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert is_held(tmp_path / "l")

    holder.kill()
    holder.communicate()

    assert not is_held(tmp_path / "l")


def test_a_lock_that_its_holder_removed_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "l"
    first = hold(path)
    assert first is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hold, path, wait_s=5)
        path.unlink()
        os.close(first)
        second = waiting.result()

    assert second is not None
    assert os.path.samestat(path.stat(), os.fstat(second))
    os.close(second)


def test_a_lock_nobody_made_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "l")
    assert not list(tmp_path.iterdir())


def test_an_entry_tells_who_works_for_the_run(tmp_path: Path) -> None:
    entry = RunRecord(tmp_path, "r1")
    assert entry.holder() == Holder()
    lock = hold(entry.lock)
    assert lock is not None

    entry.sign(lock, ["a", "b"])
    entry.sign(lock, ["c"])

    assert entry.holder() == Holder(os.getpid(), ("c",))
    assert entry.is_alive()
    os.close(lock)
    assert not entry.is_alive()


def test_entries_lists_what_was_noted_until_it_is_struck(tmp_path: Path) -> None:
    one, two = RunRecord(tmp_path, "r1"), RunRecord(tmp_path, "r2")
    one.write({"invocation": "x"})
    two.write({})

    assert [entry.run for entry in run_records(tmp_path)] == ["r1", "r2"]
    assert one.read() == {"invocation": "x"}
    assert one.note.stat().st_mode & 0o777 == 0o600
    one.strike()
    assert [entry.run for entry in run_records(tmp_path)] == ["r2"]
    assert one.read() is None


@pytest.mark.parametrize("run", ["", "../x", "a/b", "x" * 65])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(LaunchError, match="cannot name a run"):
        RunRecord(tmp_path, run)
