"""Prints what was explored: `python -m tests.model [--large]`."""

from __future__ import annotations

import argparse
import sys

from tests.model.catalogue import LARGE, SMALL
from tests.model.explorer import explore
from tests.model.mutants import hunt
from tests.model.seeded_ends import ENDS
from tests.model.seeded_kept import KEPT
from tests.model.seeded_kinds import KINDS
from tests.model.seeded_order import ORDER
from tests.model.seeded_work import WORK


def main() -> int:
    """Explore. Exit code 0: no violation, and every mutant is caught as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="the large configurations too: minutes"
    )
    options = parser.parse_args()
    sound = _configurations(large=options.large)
    return 0 if _mutants() and sound else 1


def _configurations(*, large: bool) -> bool:
    _print(
        f"{'configuration':56} {'states':>9} {'transitions':>12} {'violations':>11} {'seconds':>8}"
    )
    n_states = n_transitions = n_violations = 0
    for configuration in (*SMALL, *LARGE) if large else SMALL:
        found = explore(configuration)
        wrong = int(found.violation is not None)
        _print(
            f"{found.configuration:56} {found.n_states:9,} {found.n_transitions:12,} "
            f"{wrong:11} {found.seconds:8.1f}"
        )
        if wrong:
            _print(found.story())
        n_states, n_transitions = n_states + found.n_states, n_transitions + found.n_transitions
        n_violations += wrong
    _print(f"{'total':56} {n_states:9,} {n_transitions:12,} {n_violations:11}")
    return n_violations == 0


def _mutants() -> bool:
    _print(f"\n{'mutant':56} {'caught by':14} {'steps':>5}  configuration")
    by_name = {configuration.name: configuration for configuration in SMALL}
    as_foreseen = True
    for mutant in (*WORK, *KEPT, *ENDS, *KINDS, *ORDER):
        found = hunt(mutant, SMALL if mutant.survives else (by_name[mutant.within],))
        if found is None or found.violation is None:
            _print(f"{mutant.name:56} survives: {mutant.survives}")
            as_foreseen = as_foreseen and bool(mutant.survives)
        else:
            _print(
                f"{mutant.name:56} {found.violation.invariant:14} "
                f"{len(found.steps):5}  {found.configuration}"
            )
            as_foreseen = as_foreseen and found.violation.invariant == mutant.law
    return as_foreseen


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
