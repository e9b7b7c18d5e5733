"""`@task` and the nodes that calls of a task build. Nothing runs here."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, get_overloads, overload

from dagnb.errors import GraphError
from dagnb.graph import context, nested
from dagnb.graph.brief import changed, cut
from dagnb.graph.options import TaskOptions, default_of, options_from
from dagnb.graph.resources import Resources

if TYPE_CHECKING:
    from dagnb.handle import Run
    from dagnb.planning.plan import Plan
    from dagnb.trace.trace import Trace

P = ParamSpec("P")
R = TypeVar("R")

_serial = itertools.count()


class _Verbs(dict[str, Callable[..., Any]]):
    """The client is found by name, when a verb is first needed: this room may not import it, and workers lack it."""

    def __missing__(self, verb: str) -> Callable[..., Any]:
        importlib.import_module("dagnb.client")
        return {**self}[verb]


verbs: dict[str, Callable[..., Any]] = _Verbs()
"""`run`, `plan`, `simulate`: put here by the client, so that a node's methods are short for them"""


@dataclass(frozen=True, eq=False)
class Task(Generic[P, R]):
    """A function marked with @task: calling it builds a node, and .run() of the node computes it on workers.

    Inside a running task, calling it is an ordinary call of the function.
    """

    function: Callable[P, R]
    options: TaskOptions = field(default_factory=TaskOptions)
    signature: inspect.Signature | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Keep the signature, to check calls with; a builtin without one is checked when it runs."""
        if not callable(self.function):
            raise GraphError(f"@task needs a function, not {type(self.function).__name__} {self.function!r}.")
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise GraphError(
                f"task '{self.name}' is a generator: its values cannot be stored. Return a list instead of yielding."
            )
        self._look_like_the_function()
        if self.signature is None:
            try:
                signature = inspect.signature(self.function)
            except (TypeError, ValueError):
                return
            object.__setattr__(self, "signature", signature)

    def _look_like_the_function(self) -> None:
        """Be shown as the function by help, inspect, typing and IPython's `?`, as a wrapper of functools.wraps is."""
        # Not by functools.update_wrapper itself: it sets attributes, which a frozen class refuses.
        # A callable object has none of its own.
        taken: dict[str, Any] = {"__qualname__": self.name, "__annotations__": {}}
        attributes: tuple[str, ...] = functools.WRAPPER_ASSIGNMENTS
        for attribute in attributes:
            with contextlib.suppress(AttributeError):
                taken[attribute] = getattr(self.function, attribute)

        for attribute, value in taken.items():
            if attribute != "__name__":  # a property, which strips the brackets of <lambda>
                object.__setattr__(self, attribute, value)

    def __get__(self, instance: object, owner: type | None = None) -> Task[P, R]:
        """The task itself, also as an attribute of a class. `help` takes what has this method for a function."""
        return self

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

    def __call__(self, *args: Any, **kwargs: Any) -> Node[R]:
        """Build the node of this call. Any argument may be a node, or hold nodes. Raises TypeError for wrong ones."""
        # Types cannot say that a node may stand for any argument, or inside one: hence Any.
        if context.is_inside():
            return self.function(*args, **kwargs)  # type: ignore[return-value]  # ordinary call inside a task
        if self.signature is not None:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.name}(): {error}") from None
        return Node(self, args, kwargs)

    def with_options(self, **changes: Any) -> Task[P, R]:
        """The same function with some options changed."""
        chosen = replace(self.options, **changes)
        _warn_of_no_effect(chosen, self.options)
        return replace(self, options=chosen)

    def __repr__(self) -> str:
        parameters = "..." if self.signature is None else ", ".join(self.signature.parameters)
        options = changed(self.options).removeprefix("TaskOptions(").removesuffix(")")
        told = f"{cut(self.name)}({cut(parameters)})"
        return f"<task {told}{': ' if options else ''}{options}>"


class Node(Generic[R]):
    """One call of a task: a value that does not exist yet. Immutable; compared and hashed by identity."""

    __slots__ = ("__weakref__", "args", "kwargs", "serial", "task", "upstream")
    task: Task[..., R]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    serial: int
    upstream: tuple[Node[Any], ...]

    def __init__(self, task: Task[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take a copy of every container that holds a node, so that later changes do not reach it."""
        found = nested.leaves((args, kwargs), Node)
        if found:
            args, kwargs = nested.rebuild((args, kwargs), Node, lambda node: node)
        fill = object.__setattr__
        fill(self, "task", task)
        fill(self, "args", args)
        fill(self, "kwargs", dict(kwargs))
        fill(self, "upstream", tuple(dict.fromkeys(found)))
        fill(self, "serial", next(_serial))

    def run(self, **options: Any) -> Run[R]:
        """Start this node and all it needs; returns at once. See dagnb.run for the options."""
        run: Run[R] = verbs["run"](self, **options)
        return run

    def plan(self, **options: Any) -> Plan:
        """Decide who would run what; nothing runs. See dagnb.plan for the options."""
        plan: Plan = verbs["plan"](self, **options)
        return plan

    def simulate(self, **options: Any) -> Trace:
        """The run as it would be, in virtual time. See dagnb.simulate for the options."""
        trace: Trace = verbs["simulate"](self, **options)
        return trace

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The picture of the DAG up to this node; nothing runs by being looked at."""
        bundle: dict[str, str] = verbs["show"](self)
        return bundle

    def __repr__(self) -> str:
        return f"<node {cut(self.task.name)} of {len(self.upstream)} upstream; .run() computes it>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise GraphError(f"a node cannot be changed (tried to set {name!r}). Call the task again for another node.")

    def __reduce__(self) -> NoReturn:
        raise GraphError(
            f"the node of task '{self.task.name}' cannot be pickled: it is not a value yet. "
            "Pass it as an argument of the task that needs its value, or take run.result() first."
        )

    def __copy__(self) -> Node[R]:
        return self

    def __deepcopy__(self, memo: object) -> Node[R]:
        return self

    def __bool__(self) -> NoReturn:  # noqa: PLE0304  # it never returns
        self._refuse("has no truth value yet", "test it inside a task")

    def __len__(self) -> NoReturn:  # noqa: PLE0303  # it never returns
        self._refuse("has no length yet", "call len() inside a task")

    def __iter__(self) -> Iterator[Any]:
        self._refuse("cannot be iterated yet", "loop over it inside a task")

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse("has no items yet", "index it inside a task")

    def _refuse(self, what: str, cure: str) -> NoReturn:
        raise GraphError(
            f"the result of '{self.task.name}' {what}: it is not computed. Take .run().result(), or {cure}."
        )


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
    pure: whether equal arguments always give equal results. It has no effect yet.
    cache: whether a result may be reused in later runs. It has no effect yet.
    network: whether the task may use a network, where workers are containers.
    requirements: packages that its container needs: 'pandas>=2', several of them, or the path of a requirements.txt.
    io: how output grows with input: 'constant', 'linear', 'affine' or 'power:EXPONENT'; a hint for plans.
    time_s: how long it runs, in seconds; a hint for plans until runs were measured.
    output_bytes: how big its result is; a hint for plans until runs were measured.
    retry_on: the exception type or types after which it is run again; every Exception by default.
    backoff_s: upper bound of the random wait before the first retry, in seconds; doubled each time, at most 60.
    """
    if function is not None:
        return function if isinstance(function, Task) else Task(function)
    chosen = options_from(**options)
    _warn_of_no_effect(chosen)
    return lambda function: Task(function, chosen)


def _signature_of_task() -> inspect.Signature:
    """How `task` may be called: the options as its last overload writes them, with the defaults of TaskOptions."""
    parameters = [inspect.Parameter("function", inspect.Parameter.POSITIONAL_ONLY, default=None)]
    for option in inspect.signature(get_overloads(task)[-1]).parameters.values():
        default = None if option.name == "requirements" else default_of(option.name)
        parameters.append(option.replace(default=default))
    return inspect.Signature(parameters)


task.__signature__ = _signature_of_task()  # type: ignore[attr-defined]  # inspect and help read it, PEP 362


def _warn_of_no_effect(chosen: TaskOptions, before: TaskOptions | None = None) -> None:
    """Warn, at the line of the user's that gives them, of options that change nothing yet."""
    for name in chosen.without_effect:
        if before is None or getattr(before, name) != getattr(chosen, name):
            told = f"@task({name}={getattr(chosen, name)!r}) has no effect yet: this release accepts and ignores it."
            warnings.warn(told, stacklevel=3)
