"""The settings of the user's pip (indexes, proxies, certificates), for the pip inside a build."""

from __future__ import annotations

import ast
import ipaddress
import netrc
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from dagnb.graph.requirements import masked

PLACE = "/opt/dagnb/build"
"""folder of the first stage of a build, into which the files are copied"""

_URLS = ("index-url", "extra-index-url", "find-links")
_PLAIN = (
    "no-index",
    "trusted-host",
    "timeout",
    "default-timeout",
    "retries",
    "prefer-binary",
    "pre",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_LINE = re.compile(r"^(?P<section>[^.=]+)\.(?P<name>[^=]+)=(?P<value>.*)$")
_SECTIONS = ("global", "install", ":env:")
"""the later ones win, as in pip"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """Settings that a build can use.

    environment: variables of the pip in the build.
    files: file name at PLACE -> file here.
    ignored: sources of packages that only this machine can read.
    is_local: whether an index or proxy is on this machine, whose network the build must share then.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    is_local: bool = False


def pip_settings(listed: str | None = None, environ: Mapping[str, str] = os.environ) -> PipSettings:
    """Returns the settings of this interpreter's pip and of the environment.

    Folders and file:// indexes are left out: a build cannot read them.
    listed: output of `pip config list`; asking pip for it takes about 0.3 s.
    """
    settings = _values(_listed() if listed is None else listed)
    variables: dict[str, str] = {}
    ignored: list[str] = []
    urls: list[str] = []
    for name in _URLS:
        remote = []
        for source in settings.get(name, "").split():
            if _is_remote(source):
                remote.append(_with_credentials(source))
            else:
                ignored.append(masked(source))
        if remote:
            variables[_variable(name)] = " ".join(remote)
            urls += remote
    variables |= {_variable(name): settings[name] for name in _PLAIN if name in settings}

    for name, value in _proxies(settings, environ):
        variables[name] = value
        # NO_PROXY holds hosts that are reached without a proxy.
        if name.upper() != "NO_PROXY":
            urls.append(value)

    files, missing = _certificates(settings, environ)
    for name in ("cert", "client_cert"):
        if f"{name}.pem" in files:
            variables[f"PIP_{name.upper()}"] = f"{PLACE}/{name}.pem"
    return PipSettings(
        environment=variables,
        files=files,
        ignored=(*ignored, *missing),
        is_local=any(map(_is_loopback, urls)),
    )


def _listed() -> str:
    """Returns the output of `pip config list`, nothing where there is no pip."""
    process = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return process.stdout if process.returncode == 0 else ""


def _values(listed: str) -> dict[str, str]:
    """Returns settings by name, with the value that is in force."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        match = _LINE.match(line)
        if match and match["section"] in by_section:
            value = str(ast.literal_eval(match["value"]))  # pip prints the repr of the value
            by_section[match["section"]][match["name"].strip()] = value
    in_force: dict[str, str] = {}
    for section in _SECTIONS:
        in_force |= by_section[section]
    return in_force


def _variable(name: str) -> str:
    return "PIP_" + name.upper().replace("-", "_")


def _is_remote(source: str) -> bool:
    return urlsplit(source).scheme in {"http", "https"}


def _with_credentials(url: str) -> str:
    """Returns the URL with the user's .netrc entry for its host, as pip would find it."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return url
    entry = _netrc_entry(parts.hostname or "")
    if entry is None:
        return url
    user, password = (quote(part, safe="") for part in entry)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def _netrc_entry(host: str) -> tuple[str, str] | None:
    """Returns user and password of a host in the user's .netrc, or the file that NETRC names."""
    named = os.environ.get("NETRC")
    candidates = [named] if named is not None else ["~/.netrc", "~/_netrc"]
    present = [path for path in map(os.path.expanduser, candidates) if os.path.exists(path)]
    if not present:
        return None

    try:
        entry = netrc.netrc(present[0]).authenticators(host)
    except (netrc.NetrcParseError, OSError):  # pip ignores such a file, too
        return None
    if entry is None or not any(entry):
        return None

    login, account, password = entry
    return login or account or "", password or ""


def _proxies(settings: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables that name proxies, in both spellings: not all programs read both."""
    if "proxy" in settings:
        yield "PIP_PROXY", settings["proxy"]
    for name in (*_PROXIES, "NO_PROXY"):
        for spelling in (name, name.lower()):
            if value := environ.get(spelling):
                yield spelling, value


def _certificates(
    settings: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """Find the certificates of trusted authorities, and the user's own certificate.

    Returns:
        name in the build context -> file of this machine.
        paths in the settings that are no files.
    """
    bundle = settings.get("cert") or next(filter(None, map(environ.get, _BUNDLES)), None)
    named = {"cert.pem": bundle, "client_cert.pem": settings.get("client-cert")}
    paths = {name: Path(path).expanduser() for name, path in named.items() if path}
    files = {name: path for name, path in paths.items() if path.is_file()}
    return files, [str(path) for name, path in paths.items() if name not in files]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def are_unreachable(lines: Iterable[str]) -> bool:
    """Returns whether pip's output says that it could not reach an index."""
    signs = (
        "NewConnectionError",
        "NameResolutionError",
        "ConnectTimeoutError",
        "ProxyError",
        "SSLError",
        "SSLCertVerif",
    )
    return any(sign in line for line in lines for sign in signs)
