"""`dagnb image`: build, list and remove images of workers, and make a base without a registry."""
# ruff: noqa: T201  # a command line prints

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import docker.errors

from dagnb.errors import ConfigError, UnknownNameError
from dagnb.graph.requirements import parse, read
from dagnb.views.wording import bytes_text, counted, moment_text, seconds_text
from dagnb_workers.launchers.docker import engine
from dagnb_workers.launchers.docker.image import images, offline

_ACROSS = 100
"""characters of requirements in a line of the list"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """One tag of an image that dagnb made.

    n_bytes: size, which includes layers that images on the same base share. contents: its base and
    requirements as text.
    """

    tag: str
    is_base: bool
    n_bytes: int
    created_at: float
    contents: str


def main(argv: Sequence[str]) -> int:
    """Run a command. Returns the exit code: 1 when an image could not be removed."""
    options = _parser().parse_args(list(argv))
    with engine.answering():
        done: int = options.act(options)
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dagnb image", description="The images of Docker workers."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build", help="build the image of these requirements, if it is not there"
    )
    build.add_argument("requirements", metavar="REQUIREMENT", nargs="*", help="as in 'pandas>=2'")
    build.add_argument(
        "-r", dest="files", metavar="FILE", action="append", default=[], help="a requirements.txt"
    )
    build.add_argument(
        "--base",
        metavar="IMAGE",
        help=f"image to build on, instead of {images.BASE_VARIABLE} or {images.default_base()}",
    )
    build.add_argument("--allow-urls", action="store_true", help="allow `name @ https://...`")
    build.set_defaults(act=_build)

    base = commands.add_parser(
        "base", help="make a base image of this machine's Python, without a registry"
    )
    base.add_argument(
        "--tag",
        metavar="TAG",
        default=offline.default_tag(),
        help="its name (default: %(default)s)",
    )
    base.set_defaults(act=_base)

    commands.add_parser("list", help="the images that dagnb made").set_defaults(act=_list)
    remove = commands.add_parser("remove", help="remove images that dagnb made")
    remove.add_argument("tags", metavar="TAG", nargs="*")
    remove.add_argument("--all", action="store_true", help="all of them, bases too")
    remove.set_defaults(act=_remove)
    return parser


def _build(options: argparse.Namespace) -> int:
    """Print the tag to stdout, where scripts can read it; progress goes to stderr."""
    lines: list[str] = []
    for file in options.files:
        lines += read(file, allow_urls=options.allow_urls)
    lines += parse(options.requirements, allow_urls=options.allow_urls)
    requirements = parse(lines, allow_urls=options.allow_urls)

    recipe = images.Recipe(base=options.base or images.default_base(), requirements=requirements)
    engine.connect()
    began = time.perf_counter()
    tag = images.find(recipe)
    if tag:
        took = seconds_text(time.perf_counter() - began)
        _tell(f"image {tag} was there already; looking took {took}")
    print(tag or images.ensure(recipe, _tell))
    return 0


def _base(options: argparse.Namespace) -> int:
    tag = offline.make_base(options.tag, _tell)
    use = f"with --base or {images.BASE_VARIABLE}={tag}"
    if tag == offline.default_tag():
        use = "by default from now on"
    _tell(f"images of workers are built on it {use}")
    print(tag)
    return 0


def _list(options: argparse.Namespace) -> int:
    listed = sorted(_images(), key=lambda image: (image.is_base, -image.created_at))
    wide = max((len(image.tag) for image in listed), default=0)
    for image in listed:
        contents = image.contents
        if len(contents) > _ACROSS:
            contents = contents[:_ACROSS] + "..."
        size, created = bytes_text(image.n_bytes), moment_text(image.created_at)
        print(f"{image.tag:<{wide}}  {size:>7}  {created}  {contents}")
    if not listed:
        print("No images.")
    return 0


def _remove(options: argparse.Namespace) -> int:
    """Remove the named images. Those that a container uses stay, and are listed on stderr."""
    if options.all == bool(options.tags):
        raise ConfigError(
            "remove what? Give one TAG or more, or --all for every image that dagnb made."
        )
    # Bases last: a base cannot be removed before the images that are built on it.
    known = [image.tag for image in sorted(_images(), key=lambda image: image.is_base)]
    for tag in options.tags:
        if tag not in known:
            raise UnknownNameError("image of dagnb", tag, known)

    n_removed, api = 0, engine.connect().api
    for tag in options.tags or known:
        try:
            api.remove_image(tag)
            n_removed += 1
        except docker.errors.APIError as error:
            _tell(f"{tag} stays: {error.explanation}")

    print(f"{counted(n_removed, 'image')} removed.")
    return 0 if n_removed == len(options.tags or known) else 1


def _images() -> Iterator[_Image]:
    """Yield the tags of images that dagnb made itself.

    Images that users built on these inherit the labels, but have other tags.
    """
    for image in engine.connect().api.images(filters={"label": images.LABEL}):
        labels: dict[str, str] = image["Labels"] or {}
        is_base = labels[images.LABEL] == "base"
        for tag in image["RepoTags"] or ():
            if is_base and tag != labels.get(offline.TAG_LABEL):
                continue
            if not is_base and not tag.startswith(f"{images.REPOSITORY}:"):
                continue
            yield _Image(
                tag=tag,
                is_base=is_base,
                n_bytes=image["Size"],
                created_at=image["Created"],
                contents="a base" if is_base else _contents(labels),
            )


def _contents(labels: Mapping[str, str]) -> str:
    """Returns the base and the requirements of an image of workers, as text."""
    requirements: list[str] = []
    with contextlib.suppress(ValueError):  # the label of another version of dagnb
        requirements = json.loads(labels.get(images.REQUIREMENTS_LABEL, "[]"))
    text = f"on {labels.get(images.BASE_LABEL)}"
    if requirements:
        text += f" with {', '.join(requirements)}"
    return text


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
