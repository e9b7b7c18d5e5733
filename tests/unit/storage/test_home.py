"""Directories and keys are the user's alone."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagnb.errors import ConfigError
from dagnb.storage.home import (
    SOCKET_PATH_BYTES,
    private_directory,
    runtime_directory,
    signing_key,
    state_directory,
    write_private,
)


def test_dagnb_home_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"DAGNB_HOME": "h", "XDG_RUNTIME_DIR": "/nowhere", "XDG_STATE_HOME": "/nowhere"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert state_directory(environ) == tmp_path / "h" / "state"
    assert runtime_directory(environ).is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("environ", "below"),
    [
        ({"DAGNB_HOME": "/T/h"}, "h/run"),
        ({"XDG_RUNTIME_DIR": "/T/x"}, "x/dagnb"),
        ({}, f"dagnb-{os.getuid()}"),
    ],
)
def test_runtime_directory_is_the_first_that_is_set(
    environ: dict[str, str], below: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))

    found = runtime_directory(
        {name: value.replace("/T", str(short)) for name, value in environ.items()}
    )

    assert found == short / below
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_state_directory_is_under_the_users_home_when_nothing_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert state_directory({}) == tmp_path / ".local" / "state" / "dagnb"
    assert state_directory({"XDG_STATE_HOME": str(tmp_path / "s")}) == tmp_path / "s" / "dagnb"


def test_a_path_too_long_for_a_socket_gets_a_short_one_always_the_same(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))
    long, other = {"DAGNB_HOME": str(short / ("x" * 100))}, {"DAGNB_HOME": str(short / ("y" * 100))}

    found = runtime_directory(long)

    assert len(str(found / "redis.sock")) < SOCKET_PATH_BYTES
    assert found == runtime_directory(long) != runtime_directory(other)


def test_no_short_path_anywhere_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))

    with pytest.raises(ConfigError, match="Set DAGNB_HOME to a short path"):
        runtime_directory({})


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    open_one = tmp_path / "open"
    open_one.mkdir()
    open_one.chmod(0o750)

    with pytest.raises(ConfigError, match=f"050.*chmod 700 {open_one}"):
        private_directory(open_one)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "there")

    with pytest.raises(ConfigError, match="not a directory of its own"):
        private_directory(tmp_path / "link")


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="not a directory of its own"):
        private_directory(tmp_path / "file")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)

    with pytest.raises(ConfigError, match="belongs to uid 65534"):
        private_directory(theirs)


def test_one_key_per_store_whatever_the_password(tmp_path: Path) -> None:
    environ = {"DAGNB_HOME": str(tmp_path)}

    key = signing_key("unix://default:one@/run/redis.sock", environ)

    assert len(key) == 32
    assert signing_key("unix://default:two@/run/redis.sock", environ) == key
    assert signing_key("redis://localhost/0", environ) != key
    assert signing_key("redis://localhost/1", environ) != signing_key(
        "redis://localhost/0", environ
    )
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()} == {0o600}


def test_all_who_ask_for_a_new_key_at_once_get_the_same(tmp_path: Path) -> None:
    environ = {"DAGNB_HOME": str(tmp_path)}

    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: signing_key("redis://h", environ), range(64)))

    assert len(keys) == 1
    assert len(list((tmp_path / "state").iterdir())) == 1  # no draft is left


@pytest.mark.parametrize(
    ("content", "mode"), [(b"x" * 32, 0o644), (b"x" * 31, 0o600), (b"", 0o600)]
)
def test_a_key_that_others_can_read_or_that_is_damaged_is_refused(
    tmp_path: Path, content: bytes, mode: int
) -> None:
    environ = {"DAGNB_HOME": str(tmp_path)}
    signing_key("redis://h", environ)
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(content)
    file.chmod(mode)

    with pytest.raises(ConfigError, match="Remove it"):
        signing_key("redis://h", environ)


def test_write_private_replaces_at_once_and_only_the_user_can_read(tmp_path: Path) -> None:
    write_private(tmp_path / "f", b"one")
    write_private(tmp_path / "f", b"two")

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("f", b"two")]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path, which pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="dnb", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def test_a_directory_that_cannot_be_made_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"cannot be made.*Set DAGNB_HOME"):
        private_directory(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["two\nlines", os.fsdecode(b"no\xffutf-8")])
def test_a_path_that_is_not_printable_gets_a_short_one_for_sockets(
    short: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short))
    environ = {"DAGNB_HOME": str(short / name)}

    assert runtime_directory(environ).parent == short
    assert len(signing_key("redis://h", environ)) == 32


def test_a_relative_home_in_a_folder_that_was_removed_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(ConfigError, match=r"removed. Set it to an absolute path"):
        runtime_directory({"DAGNB_HOME": "h"})


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o500)

    with pytest.raises(ConfigError, match=r"cannot be written to \(mode 500.*set DAGNB_HOME"):
        private_directory(tmp_path / "d")


def test_something_else_in_the_place_of_a_key_names_the_cure(tmp_path: Path) -> None:
    environ = {"DAGNB_HOME": str(tmp_path)}
    signing_key("redis://h", environ)
    (key,) = (tmp_path / "state").iterdir()
    key.unlink()
    key.mkdir()

    with pytest.raises(ConfigError, match=r"Is a directory.*Remove what is there"):
        signing_key("redis://h", environ)
