from __future__ import annotations

import pytest

from tests.model.catalogue import SMALL
from tests.model.mutants import Mutant, hunt
from tests.model.seeded_ends import ENDS
from tests.model.seeded_kept import KEPT
from tests.model.seeded_kinds import KINDS
from tests.model.seeded_order import ORDER
from tests.model.seeded_work import WORK

CONFIGURATIONS = {configuration.name: configuration for configuration in SMALL}
MUTANTS = (*WORK, *KEPT, *ENDS, *KINDS, *ORDER)


def name_of(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not m.survives], ids=name_of)
def test_the_exploration_catches_it(mutant: Mutant) -> None:
    exploration = hunt(mutant, (CONFIGURATIONS[mutant.within],))

    assert exploration is not None
    assert exploration.violation is not None
    assert exploration.violation.invariant == mutant.law, exploration.story()


@pytest.mark.soak
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.survives], ids=name_of)
def test_a_redundant_defence_is_redundant(mutant: Mutant) -> None:
    """If this fails, the mutant is caught now: say by what instead of why it survives."""
    assert hunt(mutant, SMALL) is None
