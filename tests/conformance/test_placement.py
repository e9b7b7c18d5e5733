"""Placement shows in nothing: random programs come to the same by plain Python, inline, in
processes, in containers.
"""

from __future__ import annotations

import contextlib
import copy
import io
import linecache
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE
from dagnb_workers.launchers.docker.launcher import Docker
from dagnb_workers.launchers.process import Processes
from dagnb_workers.worker import exception, values
from hypothesis import HealthCheck, Phase, given, settings

from dagnb import registry
from dagnb.graph import payload
from dagnb.graph.pickling import packing
from dagnb.graph.resources import Resources
from dagnb.protocol import program as protocol_program
from dagnb.protocol.invocation import Invocation
from tests.conformance.agent import private_agent
from tests.conformance.lived import differences, lived
from tests.conformance.programs import Call, Choice, Program, programs
from tests.conformance.serial import Outcome, serial
from tests.docker.conftest import docker_engine, offline_base  # noqa: F401  # fixtures

PROGRAMS = {"inline": 60, "process": 60, "docker": 10}
SOAK_PROGRAMS = int(os.environ.get("DAGNB_SOAK_PROGRAMS", "2000"))
CELL = Path(__file__).with_name("cell.py")


class Tally:
    """The comparison on one launcher. differ: programs that did not come to what plain Python
    makes of them.
    """

    def __init__(self, launcher: str) -> None:
        self.launcher = launcher
        self.programs = self.calls = self.refused = self.differ = 0
        self.states: dict[str, int] = {}

    def note(self, program: Program, expected: Outcome, found: list[str]) -> None:
        self.programs += 1
        self.calls += len(program.calls)
        self.refused += bool(expected.refused)
        self.differ += bool(found)
        for state in expected.states.values():
            self.states[state] = self.states.get(state, 0) + 1

    def line(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.states.items()))
        told = f"{self.programs} programs of {self.calls} calls ({states}; {self.refused} refused)"
        return f"placement: {self.launcher} against plain Python: {told}, {self.differ} differ"


@pytest.fixture(scope="module")
def cell() -> Iterator[ModuleType]:
    """A notebook of one cell: its functions and classes live in `__main__`, and no worker can
    import them.
    """
    made = ModuleType("__main__")
    text = CELL.read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", made)
        patch.setitem(
            linecache.cache, "<cell>", (len(text), None, text.splitlines(keepends=True), "<cell>")
        )
        exec(compile(text, "<cell>", "exec"), vars(made))
        yield made


@pytest.fixture(
    scope="module",
    params=[
        "inline",
        pytest.param("process", marks=pytest.mark.redis),
        pytest.param("process, shared memory", marks=pytest.mark.redis),
        pytest.param("docker", marks=[pytest.mark.redis, pytest.mark.docker]),
        pytest.param("docker, shared memory", marks=[pytest.mark.redis, pytest.mark.docker]),
    ],
)
def launcher(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two workers on each; agent, image and containers once for all programs."""
    kind = registry.find("launcher", request.param.partition(",")[0])
    if request.param == "inline":
        yield kind(n=2)
        return
    with private_agent(), pytest.MonkeyPatch.context() as patch:
        if "shared memory" in request.param:
            patch.setattr("dagnb.storage.segments.SEGMENT_BYTES", 1)
            kind = ALL_SHARED[kind.name]
        if kind.name == "docker":
            patch.setenv(BASE_VARIABLE, request.getfixturevalue("offline_base"))
            yield kind(cap=2, memory_mb=160)
        else:
            yield kind(n=2)


class AllShared:
    """Hands over every value in shared memory, however small."""

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        await super().launch(replace(invocation, large_bytes=1), needs)  # type: ignore[misc]


class SharingProcesses(AllShared, Processes):
    """Processes of which every value lies in shared memory."""


class SharingContainers(AllShared, Docker):
    """Containers of which every value lies in shared memory."""


ALL_SHARED = {"process": SharingProcesses, "docker": SharingContainers}


def compared(program: Program, cell: ModuleType, launcher: Any, tally: Tally) -> list[str]:
    """Where the launcher differs from plain Python."""
    expected = serial(program, cell)
    with contextlib.redirect_stdout(io.StringIO()):  # inline tasks print into this process
        found = lived(program, cell, launcher)
    told = differences(expected, found, prints=launcher.name != "inline")
    tally.note(program, expected, told)
    return told


# No shrinking: it takes minutes where each run starts processes. Large values make large examples.
WALK = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def each(n: int, choice: Choice, compare: Callable[[Program], None], **terms: Any) -> None:
    """Compare so many random programs."""

    @settings(WALK, max_examples=n, **terms)
    @given(programs(choice))
    def attempt(program: Program) -> None:
        compare(program)

    attempt()


def choice_for(launcher: Any) -> Choice:
    """The containers of these tests have no numpy."""
    return Choice(arrays=launcher.name != "docker")


@pytest.mark.timeout(600)
def test_placement_shows_in_nothing(cell: ModuleType, launcher: Any, summary: list[str]) -> None:
    tally = Tally(launcher.name)

    def compare(program: Program) -> None:
        assert compared(program, cell, launcher, tally) == []

    each(PROGRAMS[launcher.name], choice_for(launcher), compare)
    summary.append(tally.line())


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_placement_shows_in_nothing_in_many_more_programs(
    cell: ModuleType, launcher: Any, summary: list[str]
) -> None:
    """Of another seed each time. DAGNB_SOAK_PROGRAMS says how many; in containers a tenth of them."""
    tally = Tally(launcher.name)

    def compare(program: Program) -> None:
        assert compared(program, cell, launcher, tally) == []

    n = SOAK_PROGRAMS // (10 if launcher.name == "docker" else 1)
    each(max(1, n), choice_for(launcher), compare, derandomize=False)
    summary.append(tally.line())


# ---- what random programs hold seldom, each on its own ----

UNREADABLE = ("no way back", "odd exception", "inside a list", "quitter")
UNPICKLED = ("lock", "generator", "no way out", "jumper")


def given_to(*readers: str, what: str) -> Program:
    """give(what) -> each reader"""
    source = Call(function="give", arguments=(("plain", what),))
    return Program(
        calls=(source, *(Call(function=name, arguments=(("node", 0),)) for name in readers))
    )


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_value_that_cannot_be_unpickled_is_the_failure_of_whoever_reads_it(
    cell: ModuleType, launcher: Any, what: str
) -> None:
    """give -> look, keep"""
    program = given_to("look", "keep", what=what)

    found = lived(program, cell, launcher)

    assert differences(serial(program, cell), found, prints=False) == []
    assert found.states == {"give-0": "done", "look-0": "failed", "keep-0": "failed"}
    assert found.values == {"give-0": "ValueUnreadableError"}
    read = "the value of task 'give-0', which task '{}' takes, cannot be unpickled: "
    assert sorted(failure[0] for failure in found.failures) == ["keep-0 1", "look-0 1"]
    assert all(
        failure[2].startswith(read.format(failure[0].split()[0])) for failure in found.failures
    )


@pytest.mark.parametrize("what", UNPICKLED)
def test_a_value_that_cannot_be_pickled_is_the_failure_of_who_gave_it_and_no_reader_runs(
    cell: ModuleType, launcher: Any, what: str
) -> None:
    """give -> look"""
    program = given_to("look", what=what)

    found = lived(program, cell, launcher)

    assert differences(serial(program, cell), found, prints=False) == []
    assert found.states == {"give-0": "failed", "look-0": "skipped"}
    assert [failure[:2] for failure in found.failures] == [("give-0 1", "UnserialisableError")]


@pytest.mark.parametrize("what", [what for what in UNPICKLED if what != "jumper"])
def test_an_argument_that_cannot_be_pickled_is_refused_before_anything_runs(
    cell: ModuleType, launcher: Any, what: str
) -> None:
    program = Program(calls=(Call(function="look", arguments=(("plain", 1), ("given", what))),))

    found = lived(program, cell, launcher)

    assert differences(serial(program, cell), found, prints=False) == []
    assert found.refused.startswith(
        "UnserialisableError: argument 'values' (tuple) of task 'look' cannot be pickled"
    )


# ---- values that only tasks read ----


def watched(program: Program) -> Program:
    """The program with a look at each value, by a call after the one that gives it."""
    calls: list[Call] = []
    for number, call in enumerate(program.calls):
        named = tuple((name, moved(spec)) for name, spec in call.named)
        arguments = tuple(map(moved, call.arguments))
        calls.append(replace(call, arguments=arguments, named=named))
        calls.append(Call(function="look", arguments=(("node", 2 * number),)))
    return replace(program, calls=tuple(calls))


def moved(spec: Any) -> Any:
    """The spec, where calls have the numbers 0, 2, 4, ..."""
    if not isinstance(spec, tuple) or spec[:1] == ("plain",):
        return spec
    if spec[:1] == ("node",):
        return ("node", 2 * spec[1])
    return tuple(map(moved, spec))


LOOKS = slice(1, None, 2)


def unlike(program: Program, cell: ModuleType, launcher: Any, tally: Tally) -> list[str]:
    """Return where the looks, which alone are asked for, differ from those of plain Python."""
    expected = serial(program, cell)
    with contextlib.redirect_stdout(io.StringIO()):
        found = lived(program, cell, launcher, LOOKS)
    values = {name: expected.values.get(name, "") for name in found.values}
    told = differences(replace(expected, values=values), found, prints=launcher.name != "inline")
    tally.note(program, expected, told)
    return told


@pytest.mark.timeout(600)
def test_a_value_that_only_tasks_read_shows_nothing_of_its_way(
    cell: ModuleType, launcher: Any, summary: list[str]
) -> None:
    tally = Tally(f"{launcher.name}, values that only tasks read,")

    def compare(program: Program) -> None:
        assert unlike(watched(program), cell, launcher, tally) == []

    each(PROGRAMS[launcher.name] // 2, choice_for(launcher), compare)
    summary.append(tally.line())


@pytest.mark.parametrize("what", ["large array", "large bytearray"])
def test_tasks_that_change_one_value_in_place_do_not_see_the_changes_of_others(
    cell: ModuleType, launcher: Any, what: str
) -> None:
    """first(what) -> change_and_look four times. Two workers: one of them runs two of these."""
    if what == "large array" and not choice_for(launcher).arrays:
        pytest.skip("the containers of these tests have no numpy")
    source = Call(function="first", arguments=((what,),))
    readers = [Call(function="change_and_look", arguments=(("node", 0),)) for _ in range(4)]
    program = Program(calls=(source, *readers))

    found = lived(program, cell, launcher, slice(1, None))

    expected = serial(program, cell)
    del expected.values["first-0"]
    assert differences(expected, found, prints=False) == []
    assert len(set(found.values.values())) == 1


# ---- the comparison notices what is wrong ----


def _handed_over(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same object for the same bytes: what one reader changes, the next one sees."""
    made: dict[bytes, Any] = {}

    def known(data: Any, *more: Any) -> Any:
        if bytes(data) not in made:
            made[bytes(data)] = function(data, *more)
        return made[bytes(data)]

    return known


def _apart(data: Any, *more: Any) -> Any:
    args, named = packing.unpack(data, *more)
    return tuple(map(copy.deepcopy, args)), named


def _none_for_unreadable(data: Any) -> Any:
    try:
        return payload.decode_value(data)
    except BaseException:  # noqa: BLE001  # unpickling runs the cell's code
        return None


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "values are handed over without a copy": (
        values,
        "decode_value",
        _handed_over(payload.decode_value),
    ),
    "an attempt gets what the one before it changed": (
        protocol_program,
        "unpack",
        _handed_over(packing.unpack),
    ),
    "two arguments no longer share a value": (protocol_program, "unpack", _apart),
    "a value that cannot be read is none": (values, "decode_value", _none_for_unreadable),
    "messages are cut": (exception, "message_of", lambda error: str(error)[:9]),
    "causes are lost": (exception, "_others", lambda error: iter(())),
    "nothing is tried again": (exception, "_delay_s", lambda offer, line: None),
}


ON_PURPOSE = (
    given_to("look", what="no way back"),
    Program(calls=(Call(function="fail", arguments=(("plain", "cause"),)),)),
)
"""what the first random programs happen not to hold"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_was_put_in_is_noticed(
    cell: ModuleType, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    inline, tally = registry.find("launcher", "inline")(n=1), Tally("inline")

    def compare(program: Program) -> None:
        assert compared(program, cell, inline, tally) == []

    def walk() -> None:
        for program in ON_PURPOSE:
            compare(program)
        each(PROGRAMS["inline"], Choice(), compare)

    with pytest.raises(AssertionError):
        walk()

    assert tally.differ > 0
