"""Generators of random numbers: those without a seed get another one, those with one keep it."""

from __future__ import annotations

import random

import pytest
from dagnb_workers.surroundings.generator import Unseeded


def test_generators_that_were_made_without_a_seed_get_one() -> None:
    unseeded = Unseeded()
    with unseeded.watched():
        free, seeded, seeded_later = random.Random(), random.Random(7), random.Random()
        seeded_later.seed(7)
        system = random.SystemRandom()
    before = [each.getstate() for each in (free, seeded, seeded_later)]

    for reseed in unseeded.reseeds:
        reseed()

    after = [each.getstate() for each in (free, seeded, seeded_later)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]
    assert free.seed in unseeded.reseeds
    assert system.seed not in unseeded.reseeds


def test_a_class_of_its_own_and_the_state_of_the_module_work_while_it_watches() -> None:
    class Dice(random.Random):
        def throw(self) -> int:
            return self.randint(1, 6)

    before = random.getstate()
    unseeded = Unseeded()
    with unseeded.watched():
        thrown = Dice(3).throw()

    assert thrown == Dice(3).throw()
    assert random.getstate() == before
    assert not any(getattr(each, "__self__", None).__class__ is Dice for each in unseeded.reseeds)


def test_generators_of_numpy_that_were_made_without_a_seed_get_one() -> None:
    numpy_random = pytest.importorskip("numpy").random
    unseeded = Unseeded()
    with unseeded.watched():
        free, old = numpy_random.default_rng(), numpy_random.RandomState()
        seeded, old_seeded = numpy_random.default_rng(5), numpy_random.RandomState(5)
    free_state, old_state = free.bit_generator.state, old.get_state()[1].tolist()

    for reseed in unseeded.reseeds:
        reseed()

    assert free.bit_generator.state != free_state
    assert old.get_state()[1].tolist() != old_state
    assert seeded.random() == numpy_random.default_rng(5).random()
    assert old_seeded.random() == numpy_random.RandomState(5).random()
