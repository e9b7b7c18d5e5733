"""Kills for want of memory and limits, read from both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagnb_workers.hosting import supervisor
from dagnb_workers.hosting.supervisor import container_limit, count_oom_kills


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the kernel's files, which are not there until a test writes them."""
    monkeypatch.setattr(supervisor, "_MACHINE", (tmp_path / "vmstat",))
    monkeypatch.setattr(
        supervisor, "_CONTAINER", (tmp_path / "memory.events", tmp_path / "memory.oom_control")
    )
    monkeypatch.setattr(
        supervisor, "_LIMITS", (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    )
    return tmp_path


def test_without_the_files_of_the_kernel_nothing_is_known(files: Path) -> None:
    assert count_oom_kills(in_container=True) == count_oom_kills(in_container=False) == 0
    assert container_limit() is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_the_kills_of_a_container_are_its_own(files: Path, name: str, text: str) -> None:
    (files / name).write_text(text)
    (files / "vmstat").write_text("nr_free_pages 1\noom_kill 7\npgfault 2\n")

    assert (count_oom_kills(in_container=True), count_oom_kills(in_container=False)) == (2, 7)


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "268435456\n", 268435456),
        ("memory.max", "max\n", None),
        ("memory.limit_in_bytes", "268435456\n", 268435456),
        ("memory.limit_in_bytes", "9223372036854771712\n", None),
    ],
)
def test_the_limit_of_a_container_is_read_where_there_is_one(
    files: Path, name: str, text: str, limit: int | None
) -> None:
    (files / name).write_text(text)

    assert container_limit() == limit
