"""`@task`: functions whose calls make nodes. Nothing runs here."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    get_overloads,
    overload,
)

from dagnb.errors import GraphError
from dagnb.graph import context, reload
from dagnb.graph.brief import changed, cut
from dagnb.graph.node import Node
from dagnb.graph.options import TaskOptions, default_of, options_from
from dagnb.graph.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")


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
            _refuse(self.function)
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise GraphError(
                f"task '{self.name}' is a generator: its values cannot be stored. Return a list instead of yielding."
            )
        self._look_like_the_function()
        reload.note(self)
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
        taken |= _names_of(self.function)
        for attribute, value in taken.items():
            if attribute != "__name__":  # a property, which strips the brackets of <lambda>
                object.__setattr__(self, attribute, value)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """The task of a method, bound to its object as a function would be; of the class, the task itself.

        `help` takes what has this method for a function.
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
            """An attribute of the function, such as `cache_clear` or `register`."""
            if name.startswith("__") or "function" not in vars(
                self
            ):  # pickle and copy ask before there is a function
                raise AttributeError(f"a task has no {name!r}", name=name, obj=self)
            try:
                return getattr(self.function, name)
            except AttributeError:
                told = f"neither the task '{self.name}' nor its function has {name!r}. A call of it gives a node."
                raise AttributeError(told, name=name, obj=self) from None

    @property
    def __isabstractmethod__(self) -> bool:
        return bool(getattr(self.function, "__isabstractmethod__", False))

    # Positional-only, here and wherever a call passes through: a function may have parameters of any name.
    def __call__(self, /, *args: Any, **kwargs: Any) -> Node[R]:
        """Build the node of this call, with the arguments as they are now. Any of them may be a node, or hold nodes.

        Raises TypeError for wrong arguments, UnserialisableError naming one that cannot be pickled.
        """
        # Types cannot say that a node may stand for any argument, or inside one: hence Any.
        if context.is_inside():
            return self.function(*args, **kwargs)  # type: ignore[return-value]  # ordinary call inside a task
        current: Task[P, R] = reload.newest(self)
        if current.signature is not None:
            try:
                current.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{current.name}(): {error}") from None
        return Node(current, args, kwargs)

    def with_options(self, **changes: Any) -> Task[P, R]:
        """The same function with some options changed."""
        current: Task[P, R] = reload.newest(self)
        chosen = replace(current.options, **changes)
        _warn_of_no_effect(chosen, current.options)
        changed = replace(current, options=chosen)
        reload.note_changes(changed, current, changes)
        return changed

    def __repr__(self) -> str:
        current: Task[P, R] = reload.newest(self)
        parameters = "..." if current.signature is None else ", ".join(current.signature.parameters)
        options = changed(current.options).removeprefix("TaskOptions(").removesuffix(")")
        told = f"{cut(self.name)}({cut(parameters)})"
        return f"<task {told}{': ' if options else ''}{options}>"


@dataclass(frozen=True, eq=False)
class Method:
    """A task of a method, bound to its object: the object is the first argument of each call, and travels like one."""

    __func__: Task[..., Any]
    __self__: Any

    def __post_init__(self) -> None:
        """Be shown as the function by help and inspect, as the task is."""
        for name, value in _names_of(self.__func__).items():
            object.__setattr__(self, name, value)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Build the node of this call, or call the method inside a task."""
        return self.__func__(self.__self__, *args, **kwargs)

    def with_options(self, **changes: Any) -> Method:
        """The same method of the same object with some options changed."""
        return Method(self.__func__.with_options(**changes), self.__self__)

    if not TYPE_CHECKING:  # as above

        def __getattr__(self, name: str) -> Any:
            """An attribute of the task, such as its options."""
            if name.startswith("__"):
                raise AttributeError(f"a task of a method has no {name!r}", name=name, obj=self)
            return getattr(self.__func__, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(MethodType(self.__func__, self.__self__))

    def __get__(self, instance: object, owner: type | None = None) -> Method:
        """Itself: it is bound already."""
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Method):
            return NotImplemented
        return self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __repr__(self) -> str:
        return f"<bound {repr(self.__func__)[1:-1]} of {cut(object.__repr__(self.__self__))}>"


def _names_of(function: Any) -> dict[str, Any]:
    """The attributes that a wrapper takes over, of those the function has."""
    names: tuple[str, ...] = functools.WRAPPER_ASSIGNMENTS
    found = {}
    for name in names:
        with contextlib.suppress(AttributeError):
            found[name] = getattr(function, name)
    return found


def _refuse(thing: Any) -> NoReturn:
    cure = ""
    if isinstance(thing, property):
        cure = " Put @task below it: @property, then @task."
    elif isinstance(thing, Node):
        cure = (
            f" It is a call of the task '{thing.task.name}': leave @task off what makes functions."
        )
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
        return function if isinstance(function, Task) else _marked(function, TaskOptions())
    chosen = options_from(**options)
    _warn_of_no_effect(chosen)
    return lambda function: _marked(function, chosen)


def _marked(function: Any, options: TaskOptions) -> Any:
    """The task of a function; of a class method or a static method again one, whichever decorator stands first."""
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_marked(function.__func__, options))
    return Task(function, options)


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
