"""Placement shows in nothing: random programs come to the same serially, inline, in processes and in containers."""

from __future__ import annotations

import collections
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE
from hypothesis import HealthCheck, Phase, given, settings

import dagnb
from dagnb import registry
from dagnb.errors import Cause, DagnbError, TaskError, ValueUnreadableError
from dagnb.handle import Run
from dagnb.protocol.story import errors_of
from dagnb.views.snapshot import Snapshot
from tests.conformance.agent import private_agent
from tests.conformance.programs import Call, Choice, Program, built, programs
from tests.conformance.serial import UNREADABLE, Outcome, Problem, serial
from tests.docker.conftest import docker_engine, offline_base  # noqa: F401  # fixtures

PROGRAMS = {"inline": 60, "process": 60, "docker": 10}
SOAK_PROGRAMS = 1_500
LIMIT_S = 60.0
CELL = Path(__file__).with_name("cell.py")


@pytest.fixture(scope="module")
def cell() -> Iterator[ModuleType]:
    """The notebook: its functions and classes live in `__main__`, and what they were written in is no module's file."""
    made = ModuleType("__main__")
    text = CELL.read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", made)
        patch.setitem(linecache.cache, "<cell>", (len(text), None, text.splitlines(keepends=True), "<cell>"))
        exec(compile(text, "<cell>", "exec"), vars(made))
        yield made
