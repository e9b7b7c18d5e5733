"""Nodes: calls of tasks, whose values do not exist yet. Nothing runs here.

A node stands for a value, so people use it like one: they add it, index it, loop over it.
Operations that need the value are refused at once, with the cure, because a wrong answer, such as a
true `bool(node)`, would be noticed much later.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from dagnb.errors import ArgumentChangedError, GraphError, UnserialisableError
from dagnb.failure import reason_of
from dagnb.graph.brief import cut
from dagnb.graph.client_hook import Shown, client
from dagnb.graph.lineage import summary
from dagnb.graph.pickling.blame import blame
from dagnb.graph.pickling.packing import Content, Packed, pack, pack_call

if TYPE_CHECKING:
    from dagnb.graph.task import Task
    from dagnb.handle import Run
    from dagnb.planning.plan import Plan
    from dagnb.trace.trace import Trace

R = TypeVar("R")

_serial = itertools.count()

# The named arguments of all calls without any, which saves 64 bytes a node.
_NO_NAMES: dict[str, Any] = {}


class Node(Shown, Generic[R]):
    """One call of a task: a value that does not exist yet.

    Immutable, hashable, equal only to itself.
    The arguments are pickled when the node is made: a later change of them does not reach the task.

    packed: the pickled arguments, with the nodes among them as references.
    summary: a hash of the arguments, by which later runs recognise the call, see lineage.py.
    serial: larger than that of every node made before, so larger than those of its upstream nodes.
    """

    __slots__ = (
        "__weakref__",
        "args",
        "kwargs",
        "packed",
        "serial",
        "summary",
        "task",
    )
    task: Task[..., R]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    packed: Packed[Node[Any]]
    summary: bytes
    serial: int

    __array_ufunc__ = None  # numpy then leaves operators to the node, which refuses them

    def __init__(
        self,
        task: Task[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Pickle the arguments. Raises UnserialisableError naming the one that cannot be."""
        fill = object.__setattr__  # the node's own refuses
        fill(self, "task", task)
        fill(self, "args", args)
        fill(self, "kwargs", kwargs or _NO_NAMES)
        try:
            fill(self, "packed", pack_call(args, kwargs, Node))
        except Exception:  # pickling runs the user's code, which may raise anything
            self._blame()
            raise
        fill(self, "summary", summary(args, kwargs, Node))
        fill(self, "serial", next(_serial))

    @property
    def upstream(self) -> tuple[Node[Any], ...]:
        """The nodes among the arguments, each once, in the order in which pickle reaches them."""
        return self.packed.references

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments by name, or by position where the function has no signature."""
        if self.task.signature is not None:
            bound: dict[str, Any] = self.task.signature.bind(*self.args, **self.kwargs).arguments
            return bound
        return {str(number): value for number, value in enumerate(self.args)} | self.kwargs

    def _blame(self) -> None:
        """Raises an error that names the argument which cannot be pickled.

        Returns normally if each argument can be pickled alone.
        """
        for argument, value in self.arguments().items():
            try:
                pack(value, Node)
            except Exception as error:  # as above
                what = f"argument '{argument}' ({type(value).__name__})"
                part = blame(value, reason_of(error), root=argument, apart=Node)
                raise UnserialisableError(self.task.name, what, part.reason, part.cure) from error

    def change_error(self, name: str, content: Content) -> ArgumentChangedError:
        """Returns the error that names the argument which was changed since the call.

        name: of the call in its DAG. content: the argument's memory, whose bytes are different now.
        """
        for argument, value in self.arguments().items():
            if any(content.is_of(part) for part in pack(value, Node).contents):
                return ArgumentChangedError(name, argument, type(value).__name__)
        return ArgumentChangedError(name, "", "")

    def run(self, **options: Any) -> Run[R]:
        """Start this node and all it needs; returns at once. See dagnb.run for the options."""
        return client().run(self, **options)

    def plan(self, **options: Any) -> Plan:
        """Plan which worker runs which task; nothing runs. See dagnb.plan for the options."""
        return client().plan(self, **options)

    def simulate(self, **options: Any) -> Trace:
        """Simulate the run in virtual time. See dagnb.simulate for the options."""
        return client().simulate(self, **options)

    def __repr__(self) -> str:
        return f"<node {cut(self.task.name)} of {len(self.upstream)} upstream; .run() computes it>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise GraphError(
            f"a node cannot be changed (tried to set {name!r}). "
            "Call the task again for another node."
        )

    def __reduce__(self) -> NoReturn:
        raise GraphError(
            f"the node of task '{self.task.name}' cannot be pickled: it is not a value yet. "
            "Pass it as an argument of the task that needs its value, or take run.result() first."
        )

    # A copy of an immutable node is the node itself. Another object would be another call.
    def __copy__(self) -> Node[R]:
        return self

    def __deepcopy__(self, memo: object) -> Node[R]:
        return self

    # ---- refused: what only a value can do ----

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            self._refuse("cannot be compared yet", "compare it inside a task")
        return self is other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __getattr__(self, name: str) -> NoReturn:
        # Protocols of Python and IPython look up such names to see whether they are there.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        text = self._refusal(f"has no attribute {name!r} yet", "take it inside a task")
        raise AttributeError(text, name=name, obj=self)

    def __iter__(self) -> Iterator[Any]:
        self._refuse("cannot be iterated yet", "loop over it inside a task")

    def _refuse(self, problem: str, cure: str) -> NoReturn:
        raise GraphError(self._refusal(problem, cure))

    def _refusal(self, problem: str, cure: str) -> str:
        name = self.task.name
        return (
            f"the result of '{name}' {problem}: it is not computed. "
            f"{name}(...) only made a node, which stands for the result. "
            f"Take .run().result(), or {cure}."
        )


_COMPARISONS = "lt le gt ge"
_CONVERSIONS = "int float complex index round trunc floor ceil"
_ITEMS = "getitem setitem delitem contains"
_UNARY = "neg pos abs invert"
_BINARY = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor"

_CALCULATIONS = _UNARY.split()
# x + y, and its forms with the node on the right, and in place
for _prefix in ("", "r", "i"):
    _CALCULATIONS += [_prefix + _name for _name in _BINARY.split()]

# problem -> the cure, and the special methods that are refused for it.
_REFUSED = {
    "has no truth value yet": ("test it inside a task", ["bool"]),
    "has no length yet": ("call len() inside a task", ["len"]),
    "has no items yet": ("index it inside a task", _ITEMS.split()),
    "cannot be put into a text yet": ("format it inside a task", ["format"]),
    "is no number yet": ("convert it inside a task", _CONVERSIONS.split()),
    "cannot be compared yet": (
        "compare it inside a task",
        _COMPARISONS.split(),
    ),
    "cannot be calculated with yet": (
        "calculate inside a task",
        _CALCULATIONS,
    ),
}


def _refusing(problem: str, cure: str) -> Callable[..., NoReturn]:
    def refuse(self: Node[Any], *others: Any) -> NoReturn:
        self._refuse(problem, cure)

    return refuse


# Python looks special methods up on the class, never by __getattr__.
for _problem, (_cure, _methods) in _REFUSED.items():
    for _method in _methods:
        setattr(Node, f"__{_method}__", _refusing(_problem, _cure))
