"""One build of an image: reports progress, finds pip's errors, and removes what a failure leaves.

The engine runs the build, and sends its events in the answer to one request. It ends the build when
that connection is closed, but does not say when it has ended it.
"""

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
"""seconds; older leftovers are of builds that cannot be running any more"""

_LONGEST = 300
"""characters of a line in an error at most"""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"\s*error\b\s*:|\s+The user requested |\s+\S+ \S+ depends on ", re.IGNORECASE)
_ORIGIN = re.compile(r" \(from -r /opt/dagnb/build/[^()]*\(line \d+\)\)")
_PROGRESS = re.compile(r"\s*(Collecting|Downloading|Building wheel|Installing|WARNING: Retrying) ?")
_FINISHED = re.compile(r"Successfully built ([0-9a-f]+)$")

_QUIET_S, _CLEARING_S = 1.0, 8.0
"""Seconds without new leftovers after which an interrupted build counts as ended; seconds in all.

After its client closed the connection, an engine ends the build in about half a second.
"""


class FailedBuildError(Exception):
    """The engine could not build the image.

    lines: the last errors, or else the last lines of the output. output: its last 500 lines.
    """

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
    """Build an image from the context. Returns its id; it has no tag.

    Raises FailedBuildError. After an error or an interrupt, neither container nor image is left.
    build: the value of BUILD_LABEL in the context. tell: gets lines of progress.
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
        return _follow(events, tell)
    except FailedBuildError:
        # Unlike an interrupted build, a failed one has ended: no more leftovers will appear.
        clear(client, build)
        raise
    except docker.errors.APIError as error:
        clear(client, build)
        raise FailedBuildError([str(error.explanation or error)], []) from error
    except BaseException:
        if isinstance(events, Generator):
            events.close()  # closes the connection, and then the engine ends the build
        _clear_ending(client, build)
        raise


def clear(client: docker.DockerClient, build: str) -> int:
    """Remove the images of a build that have no tag. Returns their number."""
    return _remove_untagged(client, f"{BUILD_LABEL}={build}", before=time.time() + 1)


def _clear_ending(client: docker.DockerClient, build: str) -> None:
    """Remove the leftovers of a build that the engine is ending, until no more appear."""
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
        time.sleep(0.1)  # the engine does not say when it has ended the build


def clear_stale(client: docker.DockerClient) -> None:
    """Remove leftovers of builds that were killed STALE_S ago or earlier."""
    _remove_untagged(client, BUILD_LABEL, before=time.time() - STALE_S)


def _remove_untagged(client: docker.DockerClient, label: str, before: float) -> int:
    """Remove images without a tag, except those in use. Returns their number."""
    untagged = client.api.images(filters={"label": label, "dangling": True})
    old = [image["Id"] for image in untagged if image["Created"] < before]
    for image in old:
        with contextlib.suppress(docker.errors.APIError):
            client.api.remove_image(image)
    return len(old)


def _shortened(line: str) -> str:
    """Returns the line; of a long line both ends, because pip lists the newest versions last."""
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _follow(events: Iterable[Mapping[str, Any]], tell: Callable[[str], None]) -> str:
    """Report the progress of the build. Returns the id of the image that it made last.

    Raises FailedBuildError.
    """
    image, failure = "", ""
    begun = ""  # a line whose end comes with a later event
    output: deque[str] = deque(maxlen=500)
    for event in events:
        failure = event.get("error", failure)
        *lines, begun = (begun + event.get("stream", "")).split("\n")
        for line in lines:
            clean = _ORIGIN.sub("", _COLOUR.sub("", line)).rstrip()
            output.append(clean)
            if finished := _FINISHED.match(clean):
                image = finished[1]
            if _PROGRESS.match(clean):
                tell(masked(clean.strip()))
    if image and not failure:
        return image

    output.append(_COLOUR.sub("", begun).rstrip())
    errors = [line.strip() for line in output if _ERROR.match(line)]
    if not errors:  # pip did not fail, so the engine knows the reason
        last_lines = list(filter(None, output))[1 - MOST_LINES :]
        errors = [*last_lines, failure or "the engine ended the build early"]
    raise FailedBuildError(map(_shortened, errors[-MOST_LINES:]), output)
