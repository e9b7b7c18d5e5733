"""A base image without a registry: this machine's own Python and the shared libraries it needs.

It holds neither a package manager nor coreutils, but enough for workers, and for tests on machines
that cannot reach a registry. Each file keeps its path, because interpreters, and the folders in
which they look for libraries, cannot always be moved.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import re
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import certifi

from dagnb.errors import ConfigError, LaunchError
from dagnb.views.wording import bytes_text, seconds_text
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image.archive import Archive, files_below
from dagnb_workers.launchers.docker.image.pins import distribution, needed_distributions, pins

REPOSITORY = "dagnb-base"
TAG_LABEL = "dagnb.tag"
MARK_LABEL = "dagnb.mark"

_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_BUNDLES = (
    _BUNDLE,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)
_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "idle_test", "tkinter", "turtledemo", "ensurepip", "lib2to3"}
)
_OF_PACKAGES = frozenset({"site-packages", "dist-packages"})
_OPENED_LATER = (
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "libresolv.so.2",
)
"""Libraries that ldd does not show.

glibc opens them when threads end or names are looked up; wheels of other packages need libstdc++.
"""


_LIBRARY = re.compile(r"^\s+(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
_USERS = (
    "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
)
_GROUP = "root:x:0:\nnogroup:x:65534:\n"


def default_tag() -> str:
    """Returns the name of the base image of this Python."""
    return f"{REPOSITORY}:{sys.version_info.major}.{sys.version_info.minor}"


def mark() -> str:
    """Returns 16 hex digits that change when make_base would now make a different image.

    They depend on the interpreter, the pins and this file.
    """
    parts = (
        sys.version,
        str(_interpreter()),
        *pins(),
        distribution("pip").version,
        Path(__file__).read_text("utf-8"),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def make_base(tag: str | None = None, tell: Callable[[str], None] = lambda line: None) -> str:
    """Make a base image of this machine's Python, in about 10 s. Returns its tag.

    tell: gets lines of progress.
    Raises LaunchError where the machine's programs would not run in a Linux container.
    """
    if not sys.platform.startswith("linux"):
        raise LaunchError(
            "a base image can be made from this machine's Python on Linux only, and this is "
            f"{platform.system()}. Take one of a registry, as in "
            "DAGNB_DOCKER_BASE=python:3.12-slim."
        )
    client, began = engine.connect(), time.monotonic()
    name, _, version = _with_version(tag or default_tag()).rpartition(":")
    tag = f"{name}:{version}"
    tell(f"copying Python {platform.python_version()} from {sys.base_prefix}")

    with tempfile.NamedTemporaryFile(prefix="dagnb-base-", suffix=".tar") as file:
        with Archive(file) as archive:
            _fill(archive)
        file.flush()
        tell(f"importing {bytes_text(Path(file.name).stat().st_size)}")
        with engine.answering():
            answer = client.api.import_image_from_file(
                file.name, repository=name, tag=version, changes=_changes(tag)
            )

    # Errors are in the answer, which begins before the engine has read the file, not exceptions.
    last = json.loads(answer.strip().splitlines()[-1])
    if "error" in last:
        raise LaunchError(
            f"the engine took no image {tag}: {last['error']}. "
            "Is its disk full? See `docker system df`."
        )

    size = (engine.inspected(client, tag) or {}).get("Size", 0)
    tell(f"base image {tag} made in {seconds_text(time.monotonic() - began)}, {bytes_text(size)}")
    return tag


def _with_version(tag: str) -> str:
    """Returns the tag with its version, as the engine shows it. Raises ConfigError for no tag."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._/:-]*?(:[\w][\w.-]{0,127})?", tag):
        raise ConfigError(f"{tag!r} cannot be the name of an image. Write it as {default_tag()!r}.")
    return tag if ":" in tag.rsplit("/", 1)[-1] else f"{tag}:latest"


def _changes(tag: str) -> list[str]:
    """Returns the configuration of the image, as lines of a Dockerfile."""
    return [
        "ENV PATH=/usr/local/bin:/usr/bin:/bin",
        "ENV LANG=C.UTF-8",
        "LABEL dagnb.image=base",
        f"LABEL {TAG_LABEL}={tag}",
        f"LABEL {MARK_LABEL}={mark()}",
        'CMD ["python3"]',
    ]


def _interpreter() -> Path:
    """Returns the real interpreter, below virtual environments."""
    installed = Path(
        sys.base_exec_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"
    )
    return (installed if installed.exists() else Path(sys.executable)).resolve()


def _fill(archive: Archive) -> None:
    """Write everything to the archive."""
    interpreter, stdlib = _interpreter(), Path(sysconfig.get_path("stdlib"))
    programs = [interpreter, Path("/bin/sh")]
    programs += stdlib.glob("lib-dynload/*.so")

    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        archive.add_link(f"/usr/local/bin/{name}", str(interpreter))
    archive.add_file(interpreter, str(interpreter))
    archive.add_file(Path("/bin/sh"), "/bin/sh")

    for path in files_below(stdlib, _LEFT_OUT | _OF_PACKAGES):
        if not _is_useless(path):
            archive.add_file(path, str(path))

    site = _site_packages(interpreter)
    for installed in (*needed_distributions(), distribution("pip")):
        for path, name in _files(installed):
            archive.add_file(path, f"{site}/{name}")
            if ".so" in path.suffixes:
                programs.append(path)

    for library in _libraries(programs):
        archive.add_file(library, str(library))
    _add_settings(archive)


def _is_useless(path: Path) -> bool:
    """Returns whether a file of the standard library is of no use in an image.

    It may be a static library, a part of building Python, or bytecode that is of another
    interpreter or has no source.
    """
    tag = f".{sys.implementation.cache_tag}.pyc"
    is_stale = path.suffix == ".pyc" and (
        not path.name.endswith(tag)
        or not (path.parent.parent / path.name.replace(tag, ".py")).exists()
    )
    return (
        is_stale
        or path.suffix == ".a"
        or path.name.startswith("_tkinter.")
        or path.parent.name.startswith("config-")
    )


def _site_packages(interpreter: Path) -> str:
    """Returns the folder in which the real interpreter looks for packages first."""
    code = "import site; print(site.getsitepackages()[0])"
    process = subprocess.run(
        [interpreter, "-I", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return process.stdout.strip().splitlines()[-1]


def _files(installed: metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """Yield files of a package, and their names below site-packages; no programs, no bytecode."""
    for file in installed.files or ():
        path = Path(str(file.locate()))
        if ".." not in file.parts and file.suffix != ".pyc" and path.is_file():
            yield path, file.as_posix()


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """Returns the shared libraries that the programs load, the loader, and those opened later."""
    process = subprocess.run(
        ["ldd", *map(str, programs)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    libraries = {Path(path) for path in _LIBRARY.findall(process.stdout)}
    if not libraries and "statically linked" not in process.stdout:
        raise LaunchError(
            f"ldd could not tell which libraries Python needs: {process.stderr.strip()}. "
            "Is it installed?"
        )

    # ldd may show only folders below /lib, although these libraries are below /usr/lib.
    folders = {library.parent for library in libraries}
    for folder, root, name in itertools.product(folders, ("", "/usr"), _OPENED_LATER):
        path = Path(f"{root}{folder}", name)
        if path.is_file():
            libraries.add(path)
    return sorted(libraries)


def _add_settings(archive: Archive) -> None:
    """Write what programs expect: users, the lookup of names, certificates, a folder for files."""
    archive.add_bytes(_USERS.encode(), "/etc/passwd")
    archive.add_bytes(_GROUP.encode(), "/etc/group")
    archive.add_bytes(b"hosts: files dns\n", "/etc/nsswitch.conf")
    archive.add_directory("/tmp", 0o1777)  # noqa: S108  # in the image

    bundle = next((path for path in map(Path, _BUNDLES) if path.is_file()), None)
    if bundle is None:
        bundle = Path(certifi.where())  # certifi is a requirement of the Docker SDK's requests
    archive.add_file(bundle, _BUNDLE)
    expected = ssl.get_default_verify_paths().openssl_cafile
    archive.add_link(expected, _BUNDLE)
