"""The surroundings of a client: those handed over, and those that mean the same elsewhere."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagnb_workers.surroundings.surroundings import Surroundings


def test_surroundings_read_back_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_UTF8", "x\udcff")

    taken = Surroundings.of_this_process()

    assert Surroundings.of(json.loads(json.dumps(taken.to_dict()))) == taken
    assert (taken.path, taken.folder, taken.argv) == (tuple(sys.path), os.getcwd(), tuple(sys.argv))
    assert taken.environment["NOT_UTF8"] == "x\udcff"


def test_what_another_version_invented_is_left_out() -> None:
    data = {**Surroundings(umask=0o77).to_dict(), "invented": [1]}

    assert Surroundings.of(data) == Surroundings(umask=0o77)


def test_nothing_told_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    before = Surroundings.of_this_process()

    empty = Surroundings.of({})
    empty.enter_environment()
    empty.enter()

    assert Surroundings.of_this_process() == before


def test_taking_the_umask_leaves_it_as_it_is() -> None:
    before = os.umask(0o026)
    try:
        assert (Surroundings.of_this_process().umask, Surroundings.of_this_process().umask) == (
            0o026,
            0o026,
        )
    finally:
        os.umask(before)


def test_what_is_portable_names_no_file_and_no_variable_but_the_time_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    monkeypatch.setenv("SECRET", "s3cret")

    taken = Surroundings.of_this_process()
    portable = taken.portable()

    assert (portable.path, portable.folder, portable.limits, portable.locale) == (None, "", {}, "")
    assert (portable.environment, portable.is_whole) == ({"TZ": "JST-9"}, False)
    assert (portable.umask, portable.argv, portable.loggers) == (
        taken.umask,
        taken.argv,
        taken.loggers,
    )
    assert "s3cret" not in json.dumps(portable.to_dict())


def test_a_portable_time_zone_gives_way_to_one_that_is_set_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC-5")

    Surroundings(environment={"TZ": "JST-9", "OTHER_ONE": "1"}, is_whole=False).enter_environment()

    assert (time.localtime(0).tm_hour, os.environ["OTHER_ONE"]) == (5, "1")
    del os.environ["OTHER_ONE"]
    monkeypatch.undo()
    time.tzset()


ENTERS = """
import json, os, resource, sys
from dagnb_workers.surroundings.surroundings import Surroundings
Surroundings.of(json.loads(sys.stdin.read())).enter()
files, core = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)
print(files, core, os.getcwd())
"""


def entered(surroundings: Surroundings, *, n_files: int) -> str:
    """Returns the output of a process that has entered these surroundings.

    n_files: hard limit of its open files.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = subprocess.run(
        [sys.executable, "-c", ENTERS],
        input=json.dumps(surroundings.to_dict()),
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=limit,
        cwd="/",
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("limit", "soft"), [(100, 100), (9999, 300), (None, 300)])
def test_soft_limits_are_taken_over_as_far_as_the_hard_ones_allow_and_core_dumps_stay_off(
    limit: int | None, soft: int
) -> None:
    limits = {"RLIMIT_NOFILE": limit, "RLIMIT_OF_ANOTHER_SYSTEM": 1}

    assert entered(Surroundings(limits=limits), n_files=300) == f"({soft}, 300) (0, 0) /"
    assert "RLIMIT_CORE" not in Surroundings.of_this_process().limits


def test_a_folder_that_is_not_there_is_no_error_before_the_task_asks_for_a_file(
    tmp_path: Path,
) -> None:
    assert entered(Surroundings(folder=str(tmp_path / "gone")), n_files=300).endswith(" /")
