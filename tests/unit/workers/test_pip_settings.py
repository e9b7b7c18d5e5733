"""Settings of the user's pip for a build, and those that are left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker.image.pip_settings import PLACE, pip_settings


@pytest.fixture(autouse=True)
def no_netrc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", "/nowhere")


def test_nothing_said_is_nothing_handed_over() -> None:
    settings = pip_settings("", {})

    assert (settings.environment, settings.files, settings.ignored, settings.is_local) == (
        {},
        {},
        (),
        False,
    )


def test_indexes_options_and_proxies_are_handed_over_the_environments_word_last() -> None:
    listed = """global.index-url='https://old/simple'
install.index-url='https://me:p%40ss@new/simple'
global.extra-index-url='https://one\\nhttps://two'
global.trusted-host='new'
global.color='never'
freeze.index-url='https://other'
:env:.timeout='7'
"""
    settings = pip_settings(listed, {"https_proxy": "http://proxy:3128", "NO_PROXY": "inside"})

    assert settings.environment == {
        "PIP_INDEX_URL": "https://me:p%40ss@new/simple",
        "PIP_EXTRA_INDEX_URL": "https://one https://two",
        "PIP_TRUSTED_HOST": "new",
        "PIP_TIMEOUT": "7",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "inside",
    }
    assert not settings.is_local
    assert (
        pip_settings(listed + ":env:.index-url='https://env'", {}).environment["PIP_INDEX_URL"]
        == "https://env"
    )


def test_folders_and_file_indexes_stay_behind_and_are_told() -> None:
    listed = (
        "global.find-links='/opt/wheels https://here/links'\n"
        "global.extra-index-url='file:///opt/simple'"
    )

    settings = pip_settings(listed, {})

    assert settings.environment == {"PIP_FIND_LINKS": "https://here/links"}
    assert settings.ignored == ("file:///opt/simple", "/opt/wheels")


@pytest.mark.parametrize(
    ("listed", "environ"),
    [
        ("global.index-url='http://localhost:8080/simple'", {}),
        ("global.extra-index-url='https://far http://127.0.0.2/simple'", {}),
        ("global.index-url='http://[::1]:8080'", {}),
        ("global.proxy='127.0.0.1:3128'", {}),
        ("", {"HTTPS_PROXY": "http://me:secret@localhost:3128"}),
    ],
)
def test_an_index_or_proxy_on_this_machine_wants_its_network(
    listed: str, environ: dict[str, str]
) -> None:
    assert pip_settings(listed, environ).is_local


def test_what_needs_no_proxy_does_not_want_this_machines_network() -> None:
    assert not pip_settings(
        "", {"NO_PROXY": "localhost,127.0.0.1", "HTTP_PROXY": "http://far:1"}
    ).is_local


def test_authorities_go_as_a_file_pips_own_setting_first(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    mine.touch()
    theirs.touch()
    environ = {"REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": str(theirs)}

    from_pip = pip_settings(f"global.cert={str(mine)!r}\nglobal.client-cert={str(mine)!r}", environ)
    from_environment = pip_settings("", environ)

    assert from_pip.files == {"cert.pem": mine, "client_cert.pem": mine}
    assert from_pip.environment == {
        "PIP_CERT": f"{PLACE}/cert.pem",
        "PIP_CLIENT_CERT": f"{PLACE}/client_cert.pem",
    }
    assert from_environment.files == {"cert.pem": theirs}


def test_authorities_that_are_not_there_are_told() -> None:
    settings = pip_settings("global.cert='/nowhere/ca.pem'", {})

    assert settings.files == {}
    assert settings.ignored == ("/nowhere/ca.pem",)


def test_credentials_of_a_netrc_go_with_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine here.example login me password p@ss/word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    settings = pip_settings("global.index-url='https://here.example:81/simple'", {})

    assert (
        settings.environment["PIP_INDEX_URL"] == "https://me:p%40ss%2Fword@here.example:81/simple"
    )


def test_pip_itself_says_its_settings_in_the_form_that_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://old.example/simple\n"
        "extra-index-url = https://one.example\n    https://two.example\n"
        "[install]\nindex-url = https://me:p%40ss@new.example/simple\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_TIMEOUT", "7")

    given = pip_settings(environ={}).environment

    assert given["PIP_EXTRA_INDEX_URL"] == "https://one.example https://two.example"
    assert given["PIP_INDEX_URL"] == "https://me:p%40ss@new.example/simple"
    assert given["PIP_TIMEOUT"] == "7"
