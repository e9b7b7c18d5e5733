"""A task looks like its function to help, inspect, typing and pickle."""

from __future__ import annotations

import functools
import inspect
import pydoc
import typing
import warnings

import cloudpickle
import pytest

import dagnb
from dagnb import task
from dagnb.graph.options import TaskOptions
from dagnb.graph.task import Task


def plain(text: str, n: int = 3) -> list[str]:
    """Split a text."""
    return text.split()[:n]


@task(retries=2)
def marked(text: str, n: int = 3) -> list[str]:
    """Split a text."""
    return text.split()[:n]


@task
def undocumented(text):  # type: ignore[no-untyped-def]
    return text


class Caller:
    """Is called like a function."""

    def __call__(self, text: str) -> str:
        return text


@pytest.mark.parametrize("attribute", ["__doc__", "__module__", "__annotations__"])
def test_an_attribute_is_that_of_the_function(attribute: str) -> None:
    assert getattr(marked, attribute) == getattr(plain, attribute)


def test_every_attribute_that_functools_wraps_would_copy_is_that_of_the_function() -> None:
    for attribute in functools.WRAPPER_ASSIGNMENTS:
        if hasattr(marked.function, attribute):
            assert getattr(marked, attribute) == getattr(marked.function, attribute), attribute


def test_signature_type_hints_and_source_are_those_of_the_function() -> None:
    assert inspect.signature(marked) == inspect.signature(plain)
    assert typing.get_type_hints(marked) == {"text": str, "n": int, "return": list[str]}
    assert inspect.getsource(marked).startswith("@task(retries=2)\ndef marked(text")
    assert inspect.getdoc(marked) == "Split a text."
    assert inspect.unwrap(marked) is marked.function


def test_help_shows_the_function_and_nothing_of_the_class() -> None:
    shown = pydoc.render_doc(marked, renderer=pydoc.plaintext)

    assert shown.splitlines()[2:] == [
        "marked(text: 'str', n: 'int' = 3) -> 'list[str]'",
        "    Split a text.",
    ]


def test_help_of_a_task_without_a_docstring_shows_its_signature() -> None:
    shown = pydoc.render_doc(undocumented, renderer=pydoc.plaintext)

    assert shown.splitlines()[2:] == ["undocumented(text)"]
    assert undocumented.__doc__ is None


def test_a_task_of_a_callable_object_has_its_names_and_no_annotations() -> None:
    made = Task(Caller())

    assert (made.name, made.__doc__, typing.get_type_hints(made)) == (
        "Caller",
        "Is called like a function.",
        {},
    )


def test_a_task_of_a_class_is_the_task_itself_and_of_an_object_it_is_bound_to_it() -> None:
    class Steps:
        first = marked

    steps = Steps()

    assert Steps.first is marked
    assert steps.first(n=2).args == (steps,)
    assert steps.first(n=2).task is marked


def test_a_task_comes_through_pickle_as_it_was() -> None:
    again = cloudpickle.loads(cloudpickle.dumps(marked))
    from_cell = cloudpickle.loads(cloudpickle.dumps(task(lambda text="a": text)))

    assert (again.options, again.__doc__, inspect.signature(again)) == (
        marked.options,
        marked.__doc__,
        inspect.signature(plain),
    )
    assert (from_cell.name, str(inspect.signature(from_cell))) == ("lambda", "(text='a')")


def test_a_task_that_calls_itself_keeps_its_signature_on_its_way() -> None:
    space: dict[str, object] = {"task": task, "__name__": "__main__"}
    exec("@task\ndef down(n, step=1):\n    'Count down.'\n    return n and down(n - step)", space)

    again = cloudpickle.loads(cloudpickle.dumps(space["down"]))

    assert (str(inspect.signature(again)), again.__doc__) == ("(n, step=1)", "Count down.")
    assert again.function.__globals__["down"].function is again.function


def test_help_of_the_decorator_names_each_option_with_a_line() -> None:
    lines = (dagnb.task.__doc__ or "").splitlines()
    for option in TaskOptions.__dataclass_fields__:
        assert [line for line in lines if line.strip().startswith(f"{option}: ")], option


def test_the_signature_of_the_decorator_names_each_option_with_its_default() -> None:
    _, *options = inspect.signature(dagnb.task).parameters.values()
    defaults = {name: field.default for name, field in TaskOptions.__dataclass_fields__.items()}

    assert {option.name: option.default for option in options} == {**defaults, "requirements": None}
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("option", [{"cache": True}])
def test_an_option_without_effect_says_so_once_where_it_is_given(option: dict[str, bool]) -> None:
    name = next(iter(option))
    with pytest.warns(UserWarning, match=rf"@task\({name}=\w+\) has no effect yet") as told:
        made = task(**option)(plain)  # type: ignore[call-overload]  # chosen by name

    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.with_options(retries=1)("a")
    with pytest.warns(UserWarning, match="has no effect yet"):
        marked.with_options(**option)


def test_an_option_that_is_as_by_default_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(cache=False, pure=True)(plain)
