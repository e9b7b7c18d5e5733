"""Folders and stores of users, and how containers see them."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dagnb_workers.launchers.docker.settings import (
    StoreAccess,
    check_writable,
    mounts_of,
    store_access,
)
from dagnb_workers.launchers.docker.spec import Mount

from dagnb.errors import ConfigError
from dagnb.storage.embedded import socket_folder
from dagnb.storage.home import runtime_directory, state_directory


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of this test's own, and not in /tmp, which containers have for themselves."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        monkeypatch.setenv("DAGNB_HOME", f"{folder}/home")
        yield Path(folder)


# ---- mounts ----


@pytest.mark.parametrize(
    ("text", "target", "is_writable"),
    [
        ("{}/data", "{}/data", False),
        ("{}/data:ro", "{}/data", False),
        ("{}/data:rw", "{}/data", True),
        ("{}/data:/data", "/data", False),
        ("{}/data:/data:ro", "/data", False),
        ("{}/data:/data:rw", "/data", True),
        ("{}/../" + "{name}/data:/data", "/data", False),
    ],
)
def test_a_mount_is_read_only_and_in_the_same_place_unless_said(
    home: Path, text: str, target: str, is_writable: bool
) -> None:
    (home / "data").mkdir()

    (made,) = mounts_of(text.format(home, name=home.name))

    assert made == Mount(
        source=str(home / "data"), target=target.format(home), is_writable=is_writable
    )


def test_paths_may_be_relative_or_objects_or_begin_at_home_or_be_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    (home / "data").write_text("a file")
    expected = Mount(source=str(home / "data"), target=str(home / "data"))

    assert (
        mounts_of("data")
        == mounts_of(home / "data")
        == mounts_of([Path("data")])
        == mounts_of("~/data")
    )
    assert mounts_of(["data", "~/data:/other"]) == (
        expected,
        Mount(source=expected.source, target="/other"),
    )
    with pytest.raises(ConfigError, match=f"two of them are mounted at {home}/data"):
        mounts_of(["data", "~/data"])
    assert mounts_of(()) == ()


def test_a_link_leads_to_what_it_names(home: Path) -> None:
    """Else a link to a closed folder would pass."""
    (home / "data").mkdir()
    (home / "link").symlink_to(home / "data")

    assert mounts_of(f"{home}/link:/data")[0].source == str(home / "data")


@pytest.mark.parametrize(
    "text", ["", ":/data", "data:there", "data:/", "data:/a:/b", "data:/a:rx", "a:b:c:d"]
)
def test_what_is_no_mount_is_refused_with_the_forms(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(home)
    (home / "data").mkdir()

    with pytest.raises(ConfigError) as caught:
        mounts_of([text])

    assert str(caught.value) == (
        f"Docker(mounts=[{text!r}]): write 'folder', 'folder:/where' or 'folder:/where:rw'."
    )


def test_a_folder_that_is_not_there_is_refused(home: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"there is no {home}/data. Make it first, or correct the path"
    ):
        mounts_of(f"{home}/data")


def test_the_engines_socket_and_our_own_keys_are_refused_with_all_that_is_above_and_below(
    home: Path,
) -> None:
    below = socket_folder(runtime_directory())
    below.mkdir()
    (home / "link").symlink_to(state_directory())
    closed = [
        "/",
        "/run",
        runtime_directory(),
        runtime_directory().parent,
        home,
        state_directory(),
        below,
    ]

    for folder in (*closed, home / "link"):
        with pytest.raises(
            ConfigError,
            match=r"holds the engine's socket or dagnb's own keys.*Mount a narrower folder",
        ):
            mounts_of(f"{folder}:/data:rw")


@pytest.mark.parametrize("socket", ["/var/run/docker.sock", "/run/docker.sock"])
def test_the_socket_itself_is_refused(socket: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no|holds the engine's socket"):
        mounts_of(f"{socket}:/s")


def granted(source: Path) -> list[Mount]:
    """The folder for writing."""
    return [Mount(source=str(source), target="/out", is_writable=True)]


@pytest.mark.parametrize(
    ("mode", "user", "is_refused"),
    [
        (0o700, "{other}:{other}", True),
        (0o755, "{other}:{other}", True),
        (0o772, "{other}:{other}", True),  # a folder that cannot be entered
        (0o773, "{other}:{other}", False),
        (0o770, "{other}:{gid}", False),
        (0o700, "{uid}:{gid}", False),
    ],
)
def test_a_folder_granted_for_writing_must_be_writable_by_the_user_of_containers(
    tmp_path: Path, mode: int, user: str, is_refused: bool
) -> None:
    tmp_path.chmod(mode)
    who = user.format(other=os.getuid() + 4711, uid=os.getuid(), gid=tmp_path.stat().st_gid)

    with (
        pytest.raises(ConfigError, match="cannot write to")
        if is_refused
        else contextlib.nullcontext()
    ):
        check_writable(granted(tmp_path), who)
    check_writable([Mount(source=str(tmp_path), target="/in")], who)


def test_something_in_a_folder_that_can_be_written_to_is_enough(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "pipe").touch()
    (tmp_path / "pipe").chmod(0o666)

    check_writable(granted(tmp_path), f"{os.getuid() + 4711}:{os.getgid() + 4711}")


def test_the_refusal_names_the_folder_its_owner_and_the_cure(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir(mode=0o700)

    with pytest.raises(ConfigError) as caught:
        check_writable(granted(folder), "4711:4712")

    facts = folder.stat()
    quoted = shlex.quote(str(folder))
    assert str(caught.value) == (
        f"Docker(mounts=...): tasks run as uid 4711, gid 4712 and cannot write to {folder}, "
        f"which belongs to uid {facts.st_uid}, gid {facts.st_gid} with mode 700. "
        f"Let them with `chmod o+rwx {quoted}` or `chown 4711:4712 {quoted}`, or leave ':rw' out."
    )


def test_a_path_that_is_no_utf_8_is_refused(home: Path) -> None:
    odd = home / os.fsdecode(b"no\xffutf-8")
    odd.mkdir()

    with pytest.raises(ConfigError, match="takes no path that is not UTF-8"):
        mounts_of(f"{odd}:/data")


# ---- the store ----


def test_the_embedded_server_is_reached_by_its_folder_as_a_guest_and_without_a_network() -> None:
    folder = socket_folder(runtime_directory())

    access = store_access(f"unix://default:secret@{folder}/redis.sock")

    url = urlsplit(access.url)
    assert (url.scheme, url.username, url.path) == ("unix", "worker", "/run/dagnb/redis.sock")
    assert url.password not in {None, "", "secret"}
    assert (access.network, access.mounts) == (
        "none",
        (Mount(source=str(folder), target="/run/dagnb"),),
    )
    assert not access.mounts[0].is_writable


def test_another_server_on_a_socket_is_reached_by_that_socket_with_the_users_own_credentials() -> (
    None
):
    assert store_access("unix://me:secret@/srv/my%20redis.sock?db=2") == StoreAccess(
        url="unix://me:secret@/run/dagnb/my%20redis.sock?db=2",
        network="none",
        mounts=(Mount(source="/srv/my redis.sock", target="/run/dagnb/my redis.sock"),),
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_server_on_this_machines_loopback_needs_the_machines_network(host: str) -> None:
    url = f"redis://:secret@{host}:6379/1"

    assert store_access(url) == StoreAccess(url=url, network="host")


def test_a_server_elsewhere_needs_a_network_and_nothing_else() -> None:
    url = "rediss://me:secret@redis.example:6380"

    assert store_access(url) == StoreAccess(url=url, network="bridge")


def test_the_memory_of_this_process_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"containers cannot share a memory:// store. Leave store= out"
    ):
        store_access("memory://")
