"""`@task`: functions whose calls make nodes, and these nodes. Nothing runs here.

    @task
    def double(number): ...      Task   a function, with options
    double(4)                    Node   one call of it: a value that does not exist yet

A node stands for a value, so people use it like one: they add it, index it, loop over it.
Operations that need the value are refused at once, with the cure, because a wrong answer, such as a
true `bool(node)`, would be noticed much later.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    get_overloads,
    overload,
)

from dagnb.errors import ArgumentChangedError, GraphError, UnserialisableError
from dagnb.failure import reason_of
from dagnb.graph import context, reload
from dagnb.graph.brief import changed, cut
from dagnb.graph.client_hook import Shown, client
from dagnb.graph.lineage import summary
from dagnb.graph.options import TaskOptions, default_of, options_from
from dagnb.graph.pickling.blame import blame
from dagnb.graph.pickling.packing import Content, Packed, pack, pack_call
from dagnb.graph.resources import Resources

if TYPE_CHECKING:
    from dagnb.handle import Run
    from dagnb.planning.plan import Plan
    from dagnb.trace.trace import Trace

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Task(Generic[P, R]):
    """A function marked with @task: calling it builds a node, which workers compute on .run().

    Inside a running task, calling it is an ordinary call of the function.
    signature: to check calls with; None for a builtin without one, which is checked when it runs.
    """

    function: Callable[P, R]
    options: TaskOptions = field(default_factory=TaskOptions)
    signature: inspect.Signature | None = field(default=None, repr=False)
    # Numbers of arguments without names that fit the signature: (fewest, most).
    _positional: ClassVar[tuple[int, int]] = (1, 0)

    def __post_init__(self) -> None:
        """Raises GraphError for what cannot be a task. Copies the name and docs of the function."""
        if not callable(self.function):
            _refuse(self.function)
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise GraphError(
                f"task '{self.name}' is a generator: its values cannot be stored. "
                "Return a list instead of yielding."
            )
        self._look_like_the_function()
        reload.note(self)
        if self.signature is None:
            try:
                signature = inspect.signature(self.function)
            except (TypeError, ValueError):
                return
            object.__setattr__(self, "signature", signature)
        object.__setattr__(self, "_positional", _positional(self.signature))

    def _look_like_the_function(self) -> None:
        """Take over what help, inspect and IPython's `?` show of a function."""
        # Not by functools.update_wrapper itself: it sets attributes, which a frozen class refuses.
        # A callable object has no such attributes of its own.
        shown: dict[str, Any] = {
            "__qualname__": self.name,
            "__annotations__": {},
        }
        shown |= _names_of(self.function)
        for attribute, value in shown.items():
            if attribute != "__name__":  # a property, which strips the brackets of <lambda>
                object.__setattr__(self, attribute, value)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind the task of a method to its object, as for a function; returns itself for the class.

        `help` treats an object with this method as a function.
        """
        return self if instance is None else Method(self, instance)

    @property
    def name(self) -> str:
        """The function's own name."""
        return getattr(self.function, "__name__", type(self.function).__name__).strip("<>")

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.function

    if not TYPE_CHECKING:  # a checker of types should still find misspelt names

        def __getattr__(self, name: str) -> Any:
            """Returns an attribute of the function, such as `cache_clear` or `register`."""
            # pickle and copy ask before there is a function; without this they recurse for ever.
            if name.startswith("__") or "function" not in vars(self):
                raise AttributeError(f"a task has no {name!r}", name=name, obj=self)
            try:
                return getattr(self.function, name)
            except AttributeError:
                text = (
                    f"neither the task '{self.name}' nor its function has {name!r}. "
                    "A call of it gives a node."
                )
                raise AttributeError(text, name=name, obj=self) from None

    @property
    def __isabstractmethod__(self) -> bool:
        return bool(getattr(self.function, "__isabstractmethod__", False))

    # Positional-only, here and wherever a call passes through: a function may have parameters of
    # any name, also one called `self`. Types cannot say that a node may stand for any argument, or
    # inside one: hence Any.
    def __call__(self, /, *args: Any, **kwargs: Any) -> Node[R]:
        """Build the node of this call, with the arguments as they are now.

        Any argument may be a node, or hold nodes. Inside a task it calls the function.
        Raises TypeError for wrong arguments, UnserialisableError naming one that cannot be pickled.
        """
        if context.is_inside():
            return self.function(*args, **kwargs)  # type: ignore[return-value]  # its value
        current: Task[P, R] = reload.newest(self)
        # Binding takes microseconds, and people make a hundred thousand calls. Most fit at once.
        fewest, most = current._positional
        is_bound = not kwargs and fewest <= len(args) <= most
        if current.signature is not None and not is_bound:
            try:
                current.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{current.name}(): {error}") from None
        return Node(current, args, kwargs)

    def with_options(self, **changes: Any) -> Task[P, R]:
        """Returns a task of the same function with some options changed. Raises as @task does."""
        current: Task[P, R] = reload.newest(self)
        chosen = options_from(current.options, **changes)
        _warn_of_no_effect(chosen, current.options)
        variant = replace(current, options=chosen)
        reload.note_changes(variant, current, changes)
        return variant

    def __repr__(self) -> str:
        current: Task[P, R] = reload.newest(self)
        parameters = "..." if current.signature is None else ", ".join(current.signature.parameters)
        options = changed(current.options).removeprefix("TaskOptions(").removesuffix(")")
        text = f"<task {cut(self.name)}({cut(parameters)})"
        return f"{text}: {options}>" if options else f"{text}>"


@dataclass(frozen=True, eq=False)
class Method:
    """A task of a method, bound to its object, which is the first argument of each call.

    The object is pickled like every argument.
    """

    __func__: Task[..., Any]
    __self__: Any

    def __post_init__(self) -> None:
        """Take over what help and inspect show of the function, as the task does."""
        for name, value in _names_of(self.__func__).items():
            object.__setattr__(self, name, value)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Build the node of this call, or call the method inside a task."""
        return self.__func__(self.__self__, *args, **kwargs)

    def with_options(self, **changes: Any) -> Method:
        """Returns a task of the same method and object with some options changed."""
        return Method(self.__func__.with_options(**changes), self.__self__)

    if not TYPE_CHECKING:  # as above

        def __getattr__(self, name: str) -> Any:
            """Returns an attribute of the task, such as its options."""
            if name.startswith("__"):
                raise AttributeError(f"a task of a method has no {name!r}", name=name, obj=self)
            return getattr(self.__func__, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(MethodType(self.__func__, self.__self__))

    def __get__(self, instance: object, owner: type | None = None) -> Method:
        """Returns itself: it is bound already."""
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Method):
            return NotImplemented
        return self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __repr__(self) -> str:
        return f"<bound {repr(self.__func__)[1:-1]} of {cut(object.__repr__(self.__self__))}>"


def _positional(signature: inspect.Signature | None) -> tuple[int, int]:
    """Returns the fewest and the most arguments without names with which a call is complete.

    (1, 0), which no number fits, if there is no such call, or no most.
    """
    fewest = most = 0
    for parameter in signature.parameters.values() if signature is not None else ():
        is_needed = parameter.default is parameter.empty
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            fewest += is_needed
        elif is_needed and parameter.kind is not parameter.VAR_KEYWORD:
            return 1, 0
    return fewest, most


def _names_of(function: Any) -> dict[str, Any]:
    """Returns the attributes that a wrapper takes over, of those the function has."""
    names: tuple[str, ...] = functools.WRAPPER_ASSIGNMENTS
    attributes = {}
    for name in names:
        with contextlib.suppress(AttributeError):
            attributes[name] = getattr(function, name)
    return attributes


def _refuse(thing: Any) -> NoReturn:
    cure = ""
    if isinstance(thing, property):
        cure = " Put @task below it: @property, then @task."
    elif isinstance(thing, Node):
        name = thing.task.name
        cure = f" It is a call of the task '{name}': leave @task off what makes functions."
    raise GraphError(f"@task needs a function, not {type(thing).__name__} {thing!r}.{cure}")


@overload
def task(function: Task[P, R], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    retries: int = ...,
    timeout_s: float | None = ...,
    resources: Resources | None = ...,
    pure: bool = ...,
    cache: bool = ...,
    network: bool = ...,
    requirements: str | os.PathLike[str] | Iterable[str] | None = ...,
    io: str | None = ...,
    time_s: float | None = ...,
    output_bytes: int | None = ...,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
    backoff_s: float = ...,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function as a task: calling it builds a node, and nothing runs yet.

    >>> @task
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(double(4))
    <node double of 1 upstream; .run() computes it>

    Options, as in `@task(retries=2, timeout_s=30)`:

    retries: how often the task is run again after an exception.
    timeout_s: a task that runs for more seconds is interrupted, then killed; None for no limit.
    resources: the CPUs and memory of its worker, Resources(cpus=..., memory_mb=...).
    pure: whether equal arguments give equal results, without effects. A task that is not pure is
      committed before its worker begins another one, so no later crash has it repeated.
    cache: whether a result may be reused in later runs. It has no effect yet.
    network: whether the task may use a network, where workers are containers.
    requirements: packages that its container needs: 'pandas>=2', several of them, or the path of a
        requirements.txt.
    io: growth of the output with the input, a hint for plans: 'constant', 'linear', 'affine' or
        'power:EXPONENT'.
    time_s: how long it runs, in seconds; a hint for plans until runs were measured.
    output_bytes: how big its result is; a hint for plans until runs were measured.
    retry_on: the exception type or types after which it is run again; every Exception by default.
    backoff_s: upper bound of the random wait before the first retry, in seconds; doubled each time,
        at most 60.
    """
    if function is not None:
        return function if isinstance(function, Task) else _marked(function, TaskOptions())
    chosen = options_from(**options)
    _warn_of_no_effect(chosen)
    return lambda function: _marked(function, chosen)


def _marked(function: Any, options: TaskOptions) -> Any:
    """Returns the task of a function.

    For a class method or static method, returns one again, so that decorators may come in any
    order.
    """
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_marked(function.__func__, options))
    return Task(function, options)


def _signature_of_task() -> inspect.Signature:
    """Returns the signature of `task`: the options of its last overload with their defaults."""
    parameters = [inspect.Parameter("function", inspect.Parameter.POSITIONAL_ONLY, default=None)]
    for option in inspect.signature(get_overloads(task)[-1]).parameters.values():
        # An empty tuple is not what a user would write for "no requirements".
        default = None if option.name == "requirements" else default_of(option.name)
        parameters.append(option.replace(default=default))
    return inspect.Signature(parameters)


# inspect and help read it, PEP 362; of overloads they show none.
task.__signature__ = _signature_of_task()  # type: ignore[attr-defined]  # functions take any


def _warn_of_no_effect(chosen: TaskOptions, before: TaskOptions | None = None) -> None:
    """Warn of options that change nothing yet; the warning names the user's own line."""
    for name in chosen.without_effect:
        value = getattr(chosen, name)
        if before is not None and getattr(before, name) == value:
            continue  # warned of when that task was made
        warnings.warn(
            f"@task({name}={value!r}) has no effect yet: this release accepts and ignores it.",
            stacklevel=3,
        )


# ---- nodes ----

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
