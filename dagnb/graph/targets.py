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
    """Nodes to compute.

    structure: the pickle of the structure that contains them; b'' for nodes given one by one.
    """

    nodes: tuple[Node[Any], ...]
    structure: bytes = b""

    __repr__ = brief

    @classmethod
    def of(cls, *targets: Any) -> Targets:
        """Returns the nodes asked for: one, several, or structures of nodes, such as a list.

        Raises NoNodeError for a structure without a node, GraphError if it cannot be pickled.
        """
        if targets and all(isinstance(target, Node) for target in targets):
            return cls(targets)

        for target in targets:
            if not isinstance(target, Node) and not _packed(target)[0]:
                raise NoNodeError(type(target).__name__, f"{target!r:.60}")
        if not targets:
            raise GraphError("there is nothing to run. Give at least one node: dagnb.run(node).")
        return cls(*_packed(targets[0] if len(targets) == 1 else targets))


def shaped(structure: bytes, values: Sequence[Any]) -> Any:
    """Returns the structure with a value in the place of each node.

    The bytes must be verified: unpickling runs code.
    """
    return unpack(structure, values, ())


def _packed(value: Any) -> tuple[tuple[Node[Any], ...], bytes]:
    try:
        packed = pack(value, Node, in_band=True)
    except Exception as error:  # pickling runs the user's code, which may raise anything
        raise GraphError(
            f"the {type(value).__name__} that was asked for cannot be pickled: "
            f"{reason_of(error)}. "
            "Put only nodes and plain data into it."
        ) from error
    return packed.references, packed.body
