"""The message that starts workers reads back, and refuses other versions first of all."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace

import cloudpickle
import pytest

from dagnb.errors import VersionMismatchError
from dagnb.protocol.invocation import Invocation, versions
from dagnb.protocol.messages import PROTOCOL_VERSION

FULL = Invocation(
    run="01RUN",
    store="unix://:secret@/tmp/r.sock",
    key=bytes(range(32)),
    header="ab" * 16,
    n_workers=3,
    namespace="mine",
    records=(b"\x00\xff", b"", b"text"),
    worker="w1",
    nonce="n:1",
    kind="2cpu",
    cpus=2.5,
    lease_s=4.0,
    heartbeat_s=1.0,
    asked_at=1e9,
    versions=versions(),
    surroundings={"umask": 18, "path": ["", "/lib"], "environment": {"A": "\udcff"}},
)


@pytest.mark.parametrize(
    "invocation", [FULL, Invocation(run="r", store="memory://", key=b"")], ids=["full", "bare"]
)
def test_an_invocation_reads_back_from_one_line(invocation: Invocation) -> None:
    text = invocation.to_json()

    assert "\n" not in text
    assert Invocation.from_json(text) == invocation


def test_the_versions_name_what_must_be_equal_on_both_sides() -> None:
    assert f" {sys.version_info.major}.{sys.version_info.minor}," in versions()
    assert versions().startswith(platform.python_implementation())
    assert f"cloudpickle {cloudpickle.__version__}" in versions()
    assert versions().endswith(f"protocol {PROTOCOL_VERSION}")


def test_equal_versions_pass_and_so_does_who_does_not_say() -> None:
    FULL.check_versions()
    replace(FULL, versions="").check_versions()


def test_other_versions_are_refused_and_both_are_named() -> None:
    theirs = "CPython 3.8, cloudpickle 1.0.0, protocol 0"

    with pytest.raises(VersionMismatchError) as caught:
        replace(FULL, versions=theirs).check_versions()

    assert (caught.value.ours, caught.value.theirs) == (versions(), theirs)
    assert theirs in str(caught.value)
    assert versions() in str(caught.value)


def test_the_invocation_of_a_later_version_is_read_as_far_as_its_versions() -> None:
    later = {
        **json.loads(replace(FULL, versions="CPython 9.9, protocol 7").to_json()),
        "invented": [1, 2],
    }

    with pytest.raises(VersionMismatchError, match=r"made with CPython 9\.9, protocol 7"):
        Invocation.from_json(json.dumps(later)).check_versions()
