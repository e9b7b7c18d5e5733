"""One build: its progress, what pip says when it fails, and nothing left of it but the image."""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import IO, Any

import docker
import docker.errors

from dagnb.graph.requirements import masked
from dagnb_workers.launchers.docker.image.context import BUILD_LABEL

MOST_LINES = 10
STALE_S = 3600.0
"""a build whose leftovers are so old has died"""

_LONGEST = 300
"""characters of a line in an error"""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"\s*error\b\s*:|\s+The user requested |\s+\S+ \S+ depends on ", re.IGNORECASE)
_ORIGIN = re.compile(r" \(from -r /opt/dagnb/build/[^()]*\(line \d+\)\)")
_PROGRESS = re.compile(r"\s*(Collecting|Downloading|Building wheel|Installing|WARNING: Retrying) ?")
_FINISHED = re.compile(r"Successfully built ([0-9a-f]+)$")
_QUIET_S, _CLEARING_S = 1.0, 8.0
"""an engine that nobody waits for ends a build in about half a second; how long it must be quiet, and may go on"""


class FailedBuildError(Exception):
    """The engine could not build; `lines` are the last errors said, else the last lines of output."""

    def __init__(self, lines: Iterable[str], output: Iterable[str]) -> None:
        self.lines, self.output = tuple(lines), tuple(output)
        super().__init__("; ".join(self.lines))


def built(
    client: docker.DockerClient,
    context: IO[bytes],
    build: str,
    labels: Mapping[str, str],
    *,
    network: str | None,
    tell: Callable[[str], None],
) -> str:
    """The id of the image built from the context, without a tag. build: what BUILD_LABEL is in it.

    Raises FailedBuildError. Then, or when interrupted, neither a container nor an image is left of it.
    """
    events: Iterator[dict[str, Any]] | None = None
    try:
        events = client.api.build(
            fileobj=context,
            custom_context=True,
            decode=True,
            rm=True,
            forcerm=True,
            labels=dict(labels),
            network_mode=network,
        )
        return _followed(events, tell)
    except FailedBuildError:
        clear(client, build)
        raise
    except docker.errors.APIError as error:
        clear(client, build)
        raise FailedBuildError([str(error.explanation or error)], []) from error
    except BaseException:
        if isinstance(events, Generator):
            events.close()  # hangs up, upon which the engine ends the build
        _clear_ending(client, build)
        raise


def clear(client: docker.DockerClient, build: str) -> int:
    """Remove the images of a build that no tag names. Returns how many there were."""
    return _remove_untagged(client, f"{BUILD_LABEL}={build}", before=time.time() + 1)


def _clear_ending(client: docker.DockerClient, build: str) -> None:
    """Remove what is left of a build that the engine is just ending, until nothing more comes."""
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_S and time.monotonic() - began < _CLEARING_S:
        busy = client.api.containers(
            all=True, quiet=True, filters={"label": f"{BUILD_LABEL}={build}"}
        )
        for container in busy:
            with contextlib.suppress(docker.errors.APIError):
                client.api.remove_container(container["Id"], force=True)
        if clear(client, build) or busy:
            quiet_since = time.monotonic()
        time.sleep(0.1)  # the engine does not say when it is done


def clear_stale(client: docker.DockerClient) -> None:
    """Remove what builds left that were killed an hour ago or earlier."""
    _remove_untagged(client, BUILD_LABEL, before=time.time() - STALE_S)


def _remove_untagged(client: docker.DockerClient, label: str, before: float) -> int:
    """Remove images without a tag; returns how many there were. Those in use stay."""
    found = client.api.images(filters={"label": label, "dangling": True})
    old = [image["Id"] for image in found if image["Created"] < before]
    for image in old:
        with contextlib.suppress(docker.errors.APIError):
            client.api.remove_image(image)
    return len(old)


def _shortened(line: str) -> str:
    """Beginning and end: pip lists all versions there are, the newest last."""
    return (
        line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    )


def _followed(events: Iterable[Mapping[str, Any]], tell: Callable[[str], None]) -> str:
    """Tell how the build goes on. Returns the id of the last image."""
    image, failure, begun = "", "", ""
    output: deque[str] = deque(maxlen=500)
    for event in events:
        failure = event.get("error", failure)
        *lines, begun = (begun + event.get("stream", "")).split("\n")
        for line in lines:
            clean = _ORIGIN.sub("", _COLOUR.sub("", line)).rstrip()
            output.append(clean)
            image = finished[1] if (finished := _FINISHED.match(clean)) else image
            if _PROGRESS.match(clean):
                tell(masked(clean.strip()))
    if failure or not image:
        output.append(_COLOUR.sub("", begun).rstrip())
        told = [line.strip() for line in output if _ERROR.match(line)]
        if not told:  # it was not pip: the engine knows
            told = [
                *[*filter(None, output)][1 - MOST_LINES :],
                failure or "the engine ended the build early",
            ]
        raise FailedBuildError(map(_shortened, told[-MOST_LINES:]), output)
    return image
