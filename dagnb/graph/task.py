"""`@task` and the nodes that calls of a task build. Nothing runs here."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from dagnb.errors import ConfigError, GraphError
from dagnb.graph import context, nested
from dagnb.graph.requirements import parse, read
from dagnb.graph.resources import DEFAULT, Resources

if TYPE_CHECKING:
    from dagnb.handle import Run
    from dagnb.planning.plan import Plan
    from dagnb.trace.trace import Trace

P = ParamSpec("P")
R = TypeVar("R")

_IO_RELATION = re.compile(r"constant|linear|affine|power:[-+]?\d+(\.\d+)?")
_NUMBERS: dict[str, Any] = {
    "retries": int,
    "timeout_s": int | float,
    "backoff_s": int | float,
    "time_s": int | float,
    "output_bytes": int,
}
_serial = itertools.count()

verbs: dict[str, Callable[..., Any]] = {}
"""`run`, `plan`, `simulate`: put here by the client, so that a node's methods are short for them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What the user said of a task; times in seconds, sizes in bytes.

    retries: how often an exception of the task may be repeated; retry_on: only these exception types.
    backoff_s: upper bound of the first random wait, doubled each time, at most 60 s.
    """

    retries: int = 0
    timeout_s: float | None = None
    resources: Resources | None = None
    pure: bool = True
    cache: bool = False
    network: bool = False
    requirements: tuple[str, ...] = ()
    io: str | None = None
    time_s: float | None = None
    output_bytes: int | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, kind in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ConfigError(f"@task({name}={value!r}): must be a number, not {type(value).__name__}.")
        if self.resources is not None and not isinstance(self.resources, Resources):
            raise ConfigError(f"@task(resources={self.resources!r}): write Resources(cpus=..., memory_mb=...).")
        if self.retries < 0:
            raise ConfigError(f"@task(retries={self.retries}): must be 0 or more.")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ConfigError(
                f"@task(timeout_s={self.timeout_s}): must be more than 0 seconds; leave it out for no limit."
            )
        if self.backoff_s < 0:
            raise ConfigError(f"@task(backoff_s={self.backoff_s}): must be 0 seconds or more.")
        if self.io is not None and not _IO_RELATION.fullmatch(self.io):
            raise ConfigError(f"@task(io={self.io!r}): must be 'constant', 'linear', 'affine' or 'power:EXPONENT'.")
        if self.time_s is not None and not self.time_s >= 0:
            raise ConfigError(f"@task(time_s={self.time_s}): must be 0 seconds or more; leave it out if unknown.")
        if self.output_bytes is not None and not self.output_bytes >= 0:
            raise ConfigError(f"@task(output_bytes={self.output_bytes}): must be 0 or more; leave it out if unknown.")

    @property
    def needs(self) -> Resources:
        """What its worker must be given: the resources, with the packages and the network."""
        return _needs(self.resources or DEFAULT, self.requirements, self.network)


@functools.lru_cache(maxsize=1024)
def _needs(given: Resources, requirements: tuple[str, ...], network: bool) -> Resources:
    wanted = parse((*given.requirements, *requirements))
    return replace(given, requirements=wanted, network=given.network or network)


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[P, R]):
    """A function marked for running elsewhere. Calling it builds a node; inside a running task it just runs."""

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
        if self.signature is None:
            try:
                signature = inspect.signature(self.function)
            except (TypeError, ValueError):
                return
            object.__setattr__(self, "signature", signature)

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
        """A node for this call. Raises TypeError for wrong arguments, here and now.

        A node may stand for any argument, or inside one, which types cannot say: hence Any.
        """
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
        return replace(self, options=replace(self.options, **changes))


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
        return f"<node {self.task.name} of {len(self.upstream)} upstream; .run() computes it>"

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
    """
    if function is not None:
        return function if isinstance(function, Task) else Task(function)
    chosen = options_from(**options)
    return lambda function: Task(function, chosen)


def options_from(**options: Any) -> TaskOptions:
    """Options as a user writes them. Raises ConfigError naming an option that does not exist."""
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(f"@task has no option {name!r}. Known: {', '.join(known)}.")
    if options.get("retry_on") is not None:
        told = options["retry_on"]
        options["retry_on"] = (told,) if isinstance(told, type) else tuple(told)
    else:
        options.pop("retry_on", None)
    options["requirements"] = requirements_from(options.get("requirements"))
    return TaskOptions(**options)


def requirements_from(told: str | os.PathLike[str] | Iterable[str] | None) -> tuple[str, ...]:
    """Requirements as a user writes them: one, several, or the path of a file of them. Raises RequirementError."""
    if told is None:
        return ()
    if isinstance(told, os.PathLike) or (isinstance(told, str) and told.endswith(".txt")):
        return read(os.fspath(told))
    return parse((told,) if isinstance(told, str) else told)
