"""The nodes that a run is asked for, and the structure in which they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagnb.errors import GraphError, NoNodeError
from dagnb.failure import reason_of
from dagnb.graph.brief import brief
from dagnb.graph.node import Node
from dagnb.graph.pickling.packing import pack, unpack


@dataclass(frozen=True, slots=True)
class Targets:
    """Nodes to compute. structure: the pickle of what they stand in; b'' for nodes that were given one by one."""

    nodes: tuple[Node[Any], ...]
    structure: bytes = b""

    __repr__ = brief

    @classmethod
    def of(cls, *asked: Any) -> Targets:
        """The nodes asked for: one, several, or structures that hold nodes, such as a list or a dict of them.

        Raises GraphError for what holds no node, or cannot be pickled.
        """
        if asked and all(isinstance(one, Node) for one in asked):
            return cls(asked)

        for one in asked:
            if not isinstance(one, Node) and not _packed(one)[0]:
                raise NoNodeError(type(one).__name__, f"{one!r:.60}")
        if not asked:
            raise GraphError("there is nothing to run. Give at least one node: dagnb.run(node).")
        return cls(*_packed(asked[0] if len(asked) == 1 else asked))


def shaped(structure: bytes, values: Sequence[Any]) -> Any:
    """Returns the structure with a value in the place of each node. Verified bytes only: they are unpickled."""
    return unpack(structure, values, ())


def _packed(value: Any) -> tuple[tuple[Node[Any], ...], bytes]:
    try:
        packed = pack(value, Node, in_band=True)
    except Exception as error:  # pickling runs the user's code, which may raise anything
        raise GraphError(
            f"the {type(value).__name__} that was asked for cannot be pickled: {reason_of(error)}. "
            "Put only nodes and plain data into it."
        ) from error
    return packed.references, packed.body
