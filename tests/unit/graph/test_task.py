"""`@task`: the things that can be marked, its options, and calls of it."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

from dagnb.errors import ConfigError, GraphError, RequirementError
from dagnb.graph.context import TaskContext, entered
from dagnb.graph.options import TaskOptions, options_from
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, Task, task


@task
def add(left: int, right: int = 1, *, scale: int = 1) -> int:
    """The scaled sum."""
    return (left + right) * scale


def test_a_marked_function_is_a_task_named_like_it() -> None:
    assert isinstance(add, Task)
    assert add.name == add.__name__ == "add"
    assert add.__wrapped__ is add.function
    assert add.options == TaskOptions()


def test_calling_a_task_gives_a_node_and_runs_nothing() -> None:
    ran: list[str] = []

    node = task(ran.append)("now")

    assert isinstance(node, Node)
    assert ran == []


def test_marking_twice_changes_nothing() -> None:
    assert task(add) is add


def test_the_signature_is_that_of_the_function() -> None:
    assert list(inspect.signature(add).parameters) == ["left", "right", "scale"]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda: 1, "lambda"),
        (functools.partial(print, 1), "partial"),
        (len, "len"),
        (math.floor, "floor"),
        (str.upper, "upper"),
    ],
    ids=["lambda", "partial", "builtin", "c function", "method"],
)
def test_any_callable_can_be_a_task(function: Any, name: str) -> None:
    assert Task(function).name == name


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda wrong: wrong(), "missing a required argument: 'left'"),
        (lambda wrong: wrong(1, 2, 3), "too many positional arguments"),
        (lambda wrong: wrong(1, weight=2), "got an unexpected keyword argument 'weight'"),
        (lambda wrong: wrong(1, left=2), "multiple values for argument 'left'"),
    ],
    ids=["missing", "too many", "unknown", "twice"],
)
def test_wrong_arguments_raise_at_the_call_and_name_the_task(
    call: Callable[[Any], Any], complaint: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call(add)

    assert str(caught.value) == f"add(): {complaint}"


def test_a_builtin_without_a_signature_takes_any_arguments_until_it_runs() -> None:
    without = task(max)

    assert without.signature is None
    assert without(1, 2).args == (1, 2)


def test_a_generator_function_is_refused_with_the_cure() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(
        GraphError, match=r"'numbers' is a generator: .* Return a list instead of yielding"
    ):
        task(numbers)


def test_an_asynchronous_generator_function_is_refused() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(GraphError, match="'numbers' is a generator"):
        task(numbers)


def test_what_cannot_be_called_is_no_task() -> None:
    with pytest.raises(GraphError, match="@task needs a function, not int 3"):
        Task(3)  # type: ignore[arg-type]  # the mistake under test


def test_inside_a_task_a_call_runs_the_function() -> None:
    here = TaskContext(run="r", task="outer-0", attempt=1, seed=1, worker="w0")

    with entered(here, whole_process=False):
        value: object = add(2, 3, scale=10)

    assert value == 50
    assert isinstance(add(2, 3), Node)


def test_inside_a_task_wrong_arguments_are_pythons_own_error() -> None:
    here = TaskContext(run="r", task="outer-0", attempt=1, seed=1, worker="w0")

    with (
        entered(here, whole_process=False),
        pytest.raises(TypeError, match="missing 1 required positional argument"),
    ):
        add()  # type: ignore[call-arg]  # the mistake under test


def test_every_option_of_the_decorator_is_kept() -> None:
    chosen: dict[str, Any] = {
        "retries": 2,
        "timeout_s": 30.0,
        "resources": Resources(memory_mb=512),
        "pure": False,
        "cache": True,
        "network": True,
        "requirements": ("numpy>=2",),
        "io": "power:1.5",
        "time_s": 0.5,
        "output_bytes": 10,
        "retry_on": (OSError, ValueError),
        "backoff_s": 0.0,
    }

    with pytest.warns(UserWarning, match="has no effect yet"):
        marked = task(**chosen)(len)

    assert marked.options == TaskOptions(**chosen)
    assert set(chosen) == {field.name for field in fields(TaskOptions)}


def test_one_of_something_stands_for_a_tuple_of_one() -> None:
    assert options_from(retry_on=OSError).retry_on == (OSError,)
    assert options_from(retry_on=[OSError, KeyError]).retry_on == (OSError, KeyError)
    assert options_from(requirements="numpy").requirements == ("numpy",)
    assert options_from(requirements=["numpy", "pandas"]).requirements == ("numpy", "pandas")
    assert options_from(requirements=None).requirements == ()


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"@task has no option 'retrys'\. Known: retries, timeout_s, "
    ):
        task(retrys=3)  # type: ignore[call-overload]  # the mistake under test


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("timeout_s", 0),
        ("timeout_s", -2.5),
        ("timeout_s", math.nan),
        ("backoff_s", -0.1),
        ("time_s", -1.0),
        ("time_s", math.nan),
        ("output_bytes", -1),
        ("io", "quadratic"),
        ("io", "power:"),
        ("io", "linearly"),
        ("io", ""),
    ],
)
def test_an_option_that_means_nothing_is_refused_by_name_and_value(option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        task(**{option: value})

    assert f"@task({option}={value!r}" in str(caught.value)


@pytest.mark.parametrize("io", ["constant", "linear", "affine", "power:2", "power:0.5", "power:-1"])
def test_every_relation_of_input_and_output_is_taken(io: str) -> None:
    assert options_from(io=io).io == io


def test_changed_options_are_read_as_those_of_the_decorator() -> None:
    marked = task(retry_on=OSError, requirements="tabulate", retries=2)(add.function)

    changed = marked.with_options(requirements="numpy>=1.20", retry_on=None).options

    assert changed == options_from(requirements="numpy>=1.20", retries=2)
    assert marked.with_options(timeout_s=5).options.requirements == ("tabulate",)
    with pytest.raises(ConfigError, match="is no type of exception"):
        marked.with_options(retry_on="OSError")
    with pytest.raises(ConfigError, match="has no option 'retry'"):
        marked.with_options(retry=3)
    with pytest.raises(RequirementError):
        marked.with_options(requirements="numpy >")


def test_with_options_changes_some_and_keeps_the_function() -> None:
    patient = task(retries=1, timeout_s=5)(add.function).with_options(retries=4)

    assert patient.function is add.function
    assert patient.options == TaskOptions(retries=4, timeout_s=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry_on": "KeyError"}, "'KeyError' is no type of exception"),
        ({"retry_on": 5}, "5 is no type of exception"),
        ({"retry_on": (OSError, int)}, "<class 'int'> is no type of exception"),
        ({"retries": None}, "retries=None"),
        ({"backoff_s": None}, "backoff_s=None"),
        ({"retries": 10**30}, "must be 0 to 1,000,000"),
        ({"network": "yes"}, "network='yes'): must be True or False"),
        ({"requirements": 5}, "requirements=5"),
        ({"requirements": [5]}, "requirements="),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_where_it_is_given(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        task(**options)(len)


def test_one_exception_type_or_several_may_be_retried_on() -> None:
    for given, kinds in (
        (OSError, (OSError,)),
        ([OSError, KeyError], (OSError, KeyError)),
        ((), ()),
    ):
        assert task(retry_on=given)(len).options.retry_on == kinds


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda a: a, ()),
        (lambda a: a, (1, 2)),
        (lambda a, b=2: a, (1, 2, 3)),
        (lambda a, /, *, b: a, (1,)),
        (lambda *many, b: many, (1, 2)),
    ],
)
def test_a_call_with_arguments_that_do_not_fit_is_refused(
    function: Callable[..., Any], args: tuple[int, ...]
) -> None:
    with pytest.raises(TypeError, match="argument"):
        Task(function)(*args)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda: 1, ()),
        (lambda a, b=2: a, (1,)),
        (lambda a, /, b=2, *, c=3, **more: a, (1, 2)),
        (lambda *many: many, (1, 2, 3)),
    ],
)
def test_a_call_with_arguments_that_fit_keeps_them(
    function: Callable[..., Any], args: tuple[int, ...]
) -> None:
    assert Task(function)(*args).args == args
