"""Requirement lines in one canonical form, which names the environment of a task.

Only packages of an index are accepted. Options of pip, paths of this machine and URLs could mean
something else on another machine, or reveal what the user did not mean to share; so they are
refused, with the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dagnb.errors import ConfigError, RequirementError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LONGEST_LINE = 2_000
"""limit in characters; pip's own lines are shorter, and a message has to show the line"""

_COMMENT = re.compile(r"(^|\s)#.*$")
# A letter alone after one hyphen: `-r`, but not the `-dev` of a version.
_OPTION = re.compile(r"(?:^|\s)(-[A-Za-z](?![A-Za-z0-9])|--[a-z][a-z-]*)")
_PATH = re.compile(
    r"[./~\\]|[A-Za-z]:[\\/]|file:|[^;@\s]+\.(?:whl|zip|tar\.\w+|tgz)(?:$|[\s;\[])|[\w.-]+[\\/]",
    re.ASCII,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_INDEX_OPTIONS = {
    "-i",
    "-f",
    "--index-url",
    "--pypi-url",
    "--extra-index-url",
    "--find-links",
    "--no-index",
    "--trusted-host",
}
_FILE_OPTIONS = {"-r", "-c", "--requirement", "--constraint"}
_LOCAL_CURE = (
    "Build a wheel of it for your index. "
    "Modules beside your notebook are sent to the workers automatically."
)
_INDEX_CURE = (
    "Set the index with pip config, as in `pip config set global.index-url URL`: "
    "images are built with it."
)


def parse(lines: Iterable[str], source: str = "", *, allow_urls: bool = False) -> tuple[str, ...]:
    """Returns the requirements of these lines: canonical names, sorted, each once.

    Markers stay, comments go. Two lines on one package both stay, even when they contradict each
    other: pip explains that better. A backslash at its end continues a line.
    allow_urls: lets `name @ https://...` through. source: the name of the lines in errors.
    Raises RequirementError for the first line that is no requirement, an option, a path or a URL.
    """
    given = lines.split("\n") if isinstance(lines, str) else lines
    requirements = set()
    for number, line in _logical(given, source):
        requirements.add(_canonical(line, source, number, allow_urls))
    return tuple(sorted(requirements))


def read(path: Path | str, *, allow_urls: bool = False) -> tuple[str, ...]:
    """Returns the requirements of a requirements.txt.

    Raises RequirementError, or ConfigError when the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"requirements cannot be read from {path}: {error}. "
            "Give the path of a text file in UTF-8."
        ) from error
    return parse(text.split("\n"), str(path), allow_urls=allow_urls)


def masked(text: str) -> str:
    """Returns the text with the credentials of its URLs replaced, to be shown."""
    return _CREDENTIALS.sub("***@", text)


def _logical(lines: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    """Yields lines with content, joined where they are continued, without comments.

    Each comes with the number of its first part, from 1. The rules are those of pip's own files.
    """
    begun, so_far = 0, ""
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        _check_characters(line, source, number)
        begun = begun or number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            so_far += line[:-1]
            continue
        # A comment ends a line that was continued before it, and is no part of it.
        if not (is_comment and so_far):
            so_far += line
        text = _COMMENT.sub("", so_far).strip()
        if text:
            yield begun, text
        begun, so_far = 0, ""
    # The last line may end in a backslash.
    if text := _COMMENT.sub("", so_far).strip():
        yield begun, text


def _check_characters(line: str, source: str, number: int) -> None:
    """Raises RequirementError for a control character: lines go into Dockerfiles and terminals."""
    if len(line) > LONGEST_LINE:
        problem = f"is {len(line)} characters long"
        raise RequirementError(
            source,
            number,
            line[:40] + "...",
            problem,
            f"At most {LONGEST_LINE} are taken.",
        )
    for character in line:
        if (character < " " and character != "\t") or "\x7f" <= character <= "\x9f":
            problem = f"holds the control character U+{ord(character):04X}"
            cure = "Write one requirement a line, as plain text."
            raise RequirementError(source, number, masked(line), problem, cure)


def _canonical(line: str, source: str, number: int, allow_urls: bool) -> str:
    # Imported here, because workers, which do not parse requirements, lack the package.
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    def refused(problem: str, cure: str) -> RequirementError:
        return RequirementError(source, number, masked(line), problem, cure)

    if len(line) > LONGEST_LINE:  # of several joined ones
        raise RequirementError(
            source,
            number,
            line[:40] + "...",
            "is too long",
            f"At most {LONGEST_LINE} are taken.",
        )
    # A marker may compare with a text that looks like an option.
    if option := _OPTION.search(line.partition(";")[0]):
        raise refused(*_option_problem(option.group(1)))
    if _URL.match(line):
        raise refused(
            "is a URL",
            "Write it as `name @ https://...` and pass allow_urls=True.",
        )
    if _PATH.match(line):
        raise refused(
            "is a path of this machine, which a worker does not have",
            _LOCAL_CURE,
        )
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise refused(
            f"is no requirement: {reason}",
            "Write it as `name`, `name==1.2` or `name>=1,<2`.",
        ) from error
    if requirement.url is not None and not allow_urls:
        raise refused(
            "names a URL",
            "Take the package from your index, or pass allow_urls=True.",
        )
    if requirement.url is not None and not requirement.url.startswith("https://"):
        raise refused(
            "names a URL that is not https://",
            "Take the package from your index, or from an https:// URL.",
        )
    return _text(requirement)


def _option_problem(option: str) -> tuple[str, str]:
    """Returns the problem of a line that holds this option, and the cure."""
    if option in _INDEX_OPTIONS:
        return (
            f"has the option {option}, which is no requirement",
            _INDEX_CURE,
        )
    if option in _FILE_OPTIONS:
        problem = f"has the option {option}: other files are not read"
        return problem, "Put the lines of that file here."
    if option in {"-e", "--editable"}:
        problem = "is an editable install: a path of this machine, which a worker does not have"
        return problem, _LOCAL_CURE
    return (
        f"has the option {option}, which is no requirement",
        "Leave the option out.",
    )


def _text(requirement: Requirement) -> str:
    """Returns one text for all ways to write the same requirement."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415  # see _canonical

    text: str = canonicalize_name(requirement.name)
    extras = sorted(set(map(canonicalize_name, requirement.extras)))
    if extras:
        text += f"[{','.join(extras)}]"
    if requirement.url is not None:
        text += f" @ {requirement.url} "  # a space must separate the URL from a marker
    else:
        text += ",".join(sorted(map(str, requirement.specifier)))
    if requirement.marker is not None:
        text += f"; {requirement.marker}"
    return text.rstrip()
