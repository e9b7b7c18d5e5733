"""Lock files and launch files outlive processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dagnb_workers.hosting.run_locks import Holder, RunRecord, acquire_lock, is_locked, run_records

from dagnb.errors import LaunchError


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    lock = acquire_lock(tmp_path / "l")

    assert lock is not None
    assert acquire_lock(tmp_path / "l") is None
    os.close(lock)
    again = acquire_lock(tmp_path / "l")
    assert again is not None
    os.close(again)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, dagnb_workers.hosting.run_locks as run_locks\n"
        "print(run_locks.acquire_lock(pathlib.Path(sys.argv[1])), flush=True)\n"
        "input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "l"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert is_locked(tmp_path / "l")

    holder.kill()
    holder.communicate()

    assert not is_locked(tmp_path / "l")


def test_a_lock_that_its_holder_removed_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "l"
    first = acquire_lock(path)
    assert first is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(acquire_lock, path, wait_s=5)
        path.unlink()
        os.close(first)
        second = waiting.result()

    assert second is not None
    assert os.path.samestat(path.stat(), os.fstat(second))
    os.close(second)


def test_a_lock_without_a_file_is_not_held(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "l")
    assert not list(tmp_path.iterdir())


def test_a_record_names_the_processes_that_work_for_the_run(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "r1")
    assert record.holder() == Holder()
    lock = acquire_lock(record.lock_file)
    assert lock is not None

    record.write_holder(lock, ["a", "b"])
    record.write_holder(lock, ["c"])

    assert record.holder() == Holder(os.getpid(), ("c",))
    assert record.is_alive()
    os.close(lock)
    assert not record.is_alive()


def test_records_are_listed_until_they_are_removed(tmp_path: Path) -> None:
    one, two = RunRecord(tmp_path, "r1"), RunRecord(tmp_path, "r2")
    one.write({"invocation": "x"})
    two.write({})

    assert [record.run for record in run_records(tmp_path)] == ["r1", "r2"]
    assert one.read() == {"invocation": "x"}
    assert one.launch_file.stat().st_mode & 0o777 == 0o600
    one.remove()
    assert [record.run for record in run_records(tmp_path)] == ["r2"]
    assert one.read() is None


@pytest.mark.parametrize("run", ["", "../x", "a/b", "x" * 65])
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(LaunchError, match="cannot name a run"):
        RunRecord(tmp_path, run)
