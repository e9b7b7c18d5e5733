from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.model.catalogue import LARGE, SMALL
from tests.model.configuration import Configuration
from tests.model.explorer import Exploration, explore


def name_of(configuration: Configuration) -> str:
    return configuration.name


@pytest.fixture(scope="module")
def explorations() -> Iterator[list[Exploration]]:
    """What was explored; with -s the sum is printed at the end."""
    done: list[Exploration] = []
    yield done
    n_wrong = sum(exploration.violation is not None for exploration in done)
    sys.stdout.write(
        f"\n{len(done)} configurations, {sum(e.n_states for e in done):,} states, "
        f"{n_wrong} violations\n"
    )


@pytest.mark.parametrize("configuration", SMALL, ids=name_of)
def test_every_state_is_sound_and_leads_to_the_end(
    configuration: Configuration, explorations: list[Exploration]
) -> None:
    exploration = explore(configuration)

    explorations.append(exploration)
    sys.stdout.write(exploration.story() + "\n")
    assert exploration.violation is None, exploration.story()


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("configuration", LARGE, ids=name_of)
def test_every_state_of_large_ones_too(
    configuration: Configuration, explorations: list[Exploration]
) -> None:
    exploration = explore(configuration)

    explorations.append(exploration)
    sys.stdout.write(exploration.story() + "\n")
    assert exploration.violation is None, exploration.story()
