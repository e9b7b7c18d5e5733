"""A folder in the place of shared memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagnb.storage import segments
from tests.conftest import missing_service
from tests.unit.storage.sizes import LIMIT


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /dev/shm."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(segments, "SHARED_MEMORY", folder)
    return folder


@pytest.fixture
def directory(shared: Path, tmp_path: Path) -> str:
    """The directory of a run."""
    made = segments.make(tmp_path, "RUN", LIMIT)
    assert made
    return made


@pytest.fixture
def small_memory(shared: Path) -> Iterator[Path]:
    """A file system in memory that holds 1 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(shared)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        missing_service("a small file system has to be mounted, which only root may do")
    yield shared
    subprocess.run(["umount", "-l", str(shared)], check=True)
