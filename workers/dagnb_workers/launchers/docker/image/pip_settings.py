"""What the user's own pip is told of indexes, proxies and certificates, for the pip inside a build."""

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
"""where the first stage of a build finds the files"""

_URLS = ("index-url", "extra-index-url", "find-links")
_AS_THEY_ARE = (
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
    """environment: of the pip in the build. files: file name at PLACE -> file here.

    ignored: sources of packages that only this machine can read. is_local: an index or proxy is this machine itself, so
    the build has to share its network.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    is_local: bool = False


def pip_settings(listed: str | None = None, environ: Mapping[str, str] = os.environ) -> PipSettings:
    """The settings of this interpreter's pip and of the environment. listed: what `pip config list` printed.

    Folders and file:// indexes are left out: a build cannot read them. Asking pip costs about 0.3 s.
    """
    told = _values(_listed() if listed is None else listed)
    given: dict[str, str] = {}
    ignored: list[str] = []
    hosts: list[str] = []
    for name in _URLS:
        sources = told.get(name, "").split()
        ignored += [masked(source) for source in sources if not _is_remote(source)]
        remote = [_with_credentials(source) for source in sources if _is_remote(source)]
        hosts += remote
        if remote:
            given[_variable(name)] = " ".join(remote)
    given |= {_variable(name): told[name] for name in _AS_THEY_ARE if name in told}
    proxies = dict(_proxies(told, environ))
    files, missing = _certificates(told, environ)
    given |= proxies | {
        f"PIP_{name.upper()}": f"{PLACE}/{name}.pem"
        for name in ("cert", "client_cert")
        if f"{name}.pem" in files
    }
    reached = (url for name, url in proxies.items() if name.upper() != "NO_PROXY")
    is_local = any(_is_loopback(url) for url in (*hosts, *reached))
    return PipSettings(
        environment=given, files=files, ignored=(*ignored, *missing), is_local=is_local
    )


def _listed() -> str:
    """What pip says of its settings; nothing where there is no pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return asked.stdout if asked.returncode == 0 else ""


def _values(listed: str) -> dict[str, str]:
    """Name of a setting -> its value in force."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        match = _LINE.match(line)
        if match and match["section"] in found:
            found[match["section"]][match["name"].strip()] = str(ast.literal_eval(match["value"]))
    return {name: value for section in _SECTIONS for name, value in found[section].items()}


def _variable(name: str) -> str:
    return "PIP_" + name.upper().replace("-", "_")


def _is_remote(source: str) -> bool:
    return urlsplit(source).scheme in {"http", "https"}


def _with_credentials(url: str) -> str:
    """The URL with what the user's .netrc has for its host, as pip would find it."""
    parts = urlsplit(url)
    found = None if "@" in parts.netloc else _netrc_entry(parts.hostname or "")
    if found is None:
        return url
    user, password = (quote(part, safe="") for part in found)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def _netrc_entry(host: str) -> tuple[str, str] | None:
    """User and password of a host in the user's .netrc, or in the file that NETRC names."""
    named = os.environ.get("NETRC")
    places = [named] if named is not None else ["~/.netrc", "~/_netrc"]
    present = [path for path in map(os.path.expanduser, places) if os.path.exists(path)]
    if not present:
        return None

    try:
        found = netrc.netrc(present[0]).authenticators(host)
    except (netrc.NetrcParseError, OSError):  # pip goes on without it, too
        return None
    if found is None or not any(found):
        return None

    login, account, password = found
    return login or account or "", password or ""


def _proxies(told: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that say which proxies to use, in both spellings."""
    if "proxy" in told:
        yield "PIP_PROXY", told["proxy"]
    for name in (*_PROXIES, "NO_PROXY"):
        for spelling in (name, name.lower()):
            if value := environ.get(spelling):
                yield spelling, value


def _certificates(
    told: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """The authorities to trust and the client's own certificate as files of the context; those that are no files."""
    bundle = told.get("cert") or next(filter(None, map(environ.get, _BUNDLES)), None)
    wanted = {"cert.pem": bundle, "client_cert.pem": told.get("client-cert")}
    named = {name: Path(path).expanduser() for name, path in wanted.items() if path}
    missing = [str(path) for path in named.values() if not path.is_file()]
    return {name: path for name, path in named.items() if path.is_file()}, missing


def _is_loopback(url: str) -> bool:
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def are_unreachable(lines: Iterable[str]) -> bool:
    """Whether pip said that it could not talk to an index."""
    signs = (
        "NewConnectionError",
        "NameResolutionError",
        "ConnectTimeoutError",
        "ProxyError",
        "SSLError",
        "SSLCertVerif",
    )
    return any(sign in line for line in lines for sign in signs)
