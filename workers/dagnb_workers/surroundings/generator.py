"""Generators of random numbers that an import made without a seed, and new seeds for them.

Packages make generators when they are imported, as global names or defaults of arguments. In
processes that are forked afterwards these would all give the same numbers. One that was made
without a seed gets another one in each process. One with a seed stays as it is: each process that
imports the package by itself has the same numbers, too.

    kind                    made without a seed if
    random.Random           its method `seed` was called without a value while it was watched
    numpy's Generator       the entropy of its seed has more than 64 bits, as only numpy draws it
    numpy's RandomState     no integer as seed gives its state
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Reseed = Callable[[], object]
"""gives one generator another seed, from the system's random numbers"""

_LONGEST_SEED = 1 << 64


@dataclass(slots=True)
class Unseeded:
    """The generators without a seed. reseeds: one for each, once the watch is over."""

    reseeds: tuple[Reseed, ...] = ()
    _plain: dict[int, random.Random] = field(default_factory=dict)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Collect the generators that are made in the block."""
        own = random.Random.seed
        plain = self._plain

        def seed(self: random.Random, a: Any = None, *arguments: Any, **named: Any) -> None:
            plain.pop(id(self), None)
            if a is None:
                plain[id(self)] = self  # which keeps it, so that no other object gets its id
            own(self, a, *arguments, **named)

        setattr(random.Random, "seed", seed)  # noqa: B010  # mypy refuses to assign to a method
        try:
            yield
        finally:
            setattr(random.Random, "seed", own)  # noqa: B010  # as above
        self.reseeds = (*(item.seed for item in plain.values()), *_of_numpy())


def _of_numpy() -> list[Reseed]:
    """Returns one for each generator of numpy's that is not frozen by gc.freeze."""
    numpy_random = sys.modules.get("numpy.random")
    reseeds: list[Reseed] = []
    if numpy_random is None:
        return reseeds
    make = numpy_random.RandomState
    for item in gc.get_objects():
        # Not isinstance, which asks the object for its class, and so could run code of packages.
        if issubclass(type(item), numpy_random.Generator):
            bits = item.bit_generator
            if bits.seed_seq.entropy >= _LONGEST_SEED:
                reseeds.append(functools.partial(_reseed, bits))
        elif issubclass(type(item), make) and not _is_seeded(item, make):
            reseeds.append(functools.partial(_reseed_old, item, make))
    return reseeds


def _reseed(bits: Any) -> None:
    bits.state = type(bits)().state


def _reseed_old(generator: Any, make: Callable[..., Any]) -> None:
    generator.set_state(make().get_state())


def _is_seeded(generator: Any, make: Callable[..., Any]) -> bool:
    """Returns whether a RandomState was made with an integer, and gave no number since.

    make: the class RandomState. True for one of another algorithm than its own: that was made on
    purpose, most likely with a seed.
    """
    state = generator.get_state()
    if not isinstance(state, tuple):
        return True
    kind, words, *position = state
    # The first word of the state is the seed itself, if that was an integer.
    like_kind, like_words, *like_position = make(int(words[0])).get_state()
    is_like = (kind, position) == (like_kind, like_position)
    return is_like and bool((words == like_words).all())
