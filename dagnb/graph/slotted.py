"""Classes with `__slots__` that travel by value: they come back with their slots.

cloudpickle leaves the slots out where it makes such a class anew. Its objects then have a dictionary in a worker, and
the client, whose class has none, cannot read them.
"""

from __future__ import annotations

from typing import Any

_N_PARTS = 6
"""Parts of the reduction of a class that travels by value: its maker, what that is given, the state, how it is set."""


def with_slots(kind: type, reduction: Any) -> Any:
    """The reduction of a class, its slots among the names that the class is made with; as it is for all others.

    Classes of tuples have none of their own, and those that NamedTuple makes refuse to be told so.
    """
    is_slotted = "__slots__" in vars(kind) and not issubclass(kind, tuple)
    if not is_slotted or not isinstance(reduction, tuple) or len(reduction) != _N_PARTS:
        return reduction
    make, given, *rest = reduction
    slots = {"__slots__": vars(kind)["__slots__"]}
    # An enumeration is given its members as another dictionary.
    given = tuple({**part, **slots} if isinstance(part, dict) and "__module__" in part else part for part in given)
    return (make, given, *rest)
