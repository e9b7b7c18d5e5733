"""Classes with `__slots__` that travel by value: they come back with their slots.

cloudpickle leaves the slots out where it makes such a class anew. Its objects then have a dictionary in a worker, and
the client, whose class has none, cannot read them.
"""

from __future__ import annotations

from typing import Any

_N_PARTS = 6
"""of the reduction of a class that travels by value: its maker, what that is given, the state, how that is set"""


def with_slots(kind: type, reduction: Any) -> Any:
    """The reduction of a class, its slots among the names that the class is made with; as it is for all others."""
    if "__slots__" not in vars(kind) or not isinstance(reduction, tuple) or len(reduction) != _N_PARTS:
        return reduction
    make, given, *rest = reduction
    slots = {"__slots__": vars(kind)["__slots__"]}
    given = tuple({**part, **slots} if isinstance(part, dict) else part for part in given)
    return (make, given, *rest)
