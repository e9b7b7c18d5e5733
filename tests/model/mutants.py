"""Seeded faults: each edits the text of the machine or the roster, and must be found.

An edit whose text is no longer there fails loudly, so mutants keep up with the code.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dagnb.protocol.machine import Machine
from dagnb.protocol.roster import Roster
from tests.model.configuration import Configuration
from tests.model.explorer import Exploration, explore


@dataclass(frozen=True, slots=True)
class Edit:
    """In `method` of a class `old`, which is there once, becomes `new`."""

    owner: type[Machine | Roster]
    method: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One wrong protocol. within: the configuration that shows it. law: the invariant it breaks.

    survives: why nothing can find it, when nothing does.
    """

    name: str
    within: str
    law: str
    edits: tuple[Edit, ...]
    survives: str = ""


def in_machine(
    name: str, within: str, law: str, *edits: tuple[str, str, str], survives: str = ""
) -> Mutant:
    places = tuple(Edit(Machine, *edit) for edit in edits)
    return Mutant(name=name, within=within, law=law, edits=places, survives=survives)


def in_roster(name: str, within: str, law: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(
        name=name, within=within, law=law, edits=tuple(Edit(Roster, *edit) for edit in edits)
    )


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Machine and Roster are the mutant's while this lasts."""
    originals = {
        (edit.owner, edit.method): getattr(edit.owner, edit.method) for edit in mutant.edits
    }
    try:
        for owner, method in originals:
            edits = [edit for edit in mutant.edits if (edit.owner, edit.method) == (owner, method)]
            setattr(owner, method, _edited(owner, method, edits))
        yield
    finally:
        for (owner, method), original in originals.items():
            setattr(owner, method, original)


def _edited(owner: type, method: str, edits: list[Edit]) -> object:
    original = getattr(owner, method)
    text = textwrap.dedent(inspect.getsource(original))
    for edit in edits:
        # Nothing is searched for by indentation deeper than the method's own.
        assert text.count(edit.old) == 1, (
            f"{owner.__name__}.{method} holds this {text.count(edit.old)} times: {edit.old}"
        )
        text = text.replace(edit.old, edit.new)
    namespace = dict(original.__globals__)
    exec(compile(text, f"<mutant of {owner.__name__}.{method}>", "exec"), namespace)
    return namespace[method]


def hunt(mutant: Mutant, configurations: tuple[Configuration, ...]) -> Exploration | None:
    """The first exploration that finds the mutant."""
    with planted(mutant):
        for configuration in configurations:
            exploration = explore(configuration)
            if exploration.violation is not None:
                return exploration
    return None
