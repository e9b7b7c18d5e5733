"""Tasks of methods: the object is the first argument, however the method is marked."""

from __future__ import annotations

import abc
import dataclasses
import inspect
import pydoc
from typing import Any

import pytest

from dagnb.errors import GraphError
from dagnb.graph.context import TaskContext, entered
from dagnb.graph.task import Method, Node, Task, task


class Model:
    """With every kind of method."""

    def __init__(self, weight: int = 3) -> None:
        self.weight = weight

    @task(retries=1)
    def fit(self, x: int, *, scale: int = 1) -> int:
        """Fits."""
        return self.weight * x * scale

    @task
    @classmethod
    def outer(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @classmethod
    @task
    def inner(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @task(retries=2)
    @staticmethod
    def outer_static(x: int) -> int:
        return x

    @staticmethod
    @task
    def inner_static(x: int) -> int:
        return x

    @property
    @task
    def size(self) -> int:
        return self.weight

    @task
    def twice(self, x: int) -> Any:
        return self.fit(x), self.fit(x)


class Heavier(Model):
    """Calls the method of its base."""

    @task
    def fit(self, x: int) -> Any:  # type: ignore[override]
        return super().fit(x) + 100  # type: ignore[operator]


@dataclasses.dataclass(frozen=True)
class Offset:
    """Its own equality and hash."""

    by: int

    @task
    def add(self, n: int) -> int:
        return self.by + n


def value(node: Node[Any]) -> Any:
    """Returns the value that the task has on a worker."""
    here = TaskContext(run="r", task="t-0", attempt=1, seed=0, worker="w")
    with entered(here, whole_process=False):
        return node.task.function(*node.args, **node.kwargs)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Model().fit(2), 6),
        (Model().fit(2, scale=5), 30),
        (Model.fit(Model(4), 2), 8),
        (Model().outer(1), ("Model", 1)),
        (Heavier.inner(1), ("Heavier", 1)),
        (Heavier().outer(1), ("Heavier", 1)),
        (Model().outer_static(1), 1),
        (Model.inner_static(1), 1),
        (Model(7).size, 7),
        (Model().twice(2), (6, 6)),
        (Heavier().fit(1), 103),
        (Heavier().twice(1), (103, 103)),
        (Offset(1).add(2), 3),
    ],
)
def test_a_call_is_a_node_of_the_method_with_its_object(node: Node[Any], expected: object) -> None:
    assert isinstance(node, Node)
    assert value(node) == expected


def test_options_stay_with_the_method_whatever_stands_first() -> None:
    model = Model()

    assert (model.fit.options.retries, Model.outer_static.options.retries) == (1, 2)
    changed = model.fit.with_options(retries=9)(2)
    assert (changed.task.options.retries, changed.args) == (9, (model, 2))


def test_the_signature_has_no_self_and_help_shows_the_method() -> None:
    bound = Model().fit

    assert str(inspect.signature(bound)) == "(x: 'int', *, scale: 'int' = 1) -> 'int'"
    assert pydoc.render_doc(bound, renderer=pydoc.plaintext).endswith(
        "fit(x: 'int', *, scale: 'int' = 1) -> 'int'\n    Fits.\n"
    )
    assert (bound.__name__, bound.__qualname__, bound.__doc__) == ("fit", "Model.fit", "Fits.")
    assert repr(bound).startswith(
        "<bound task fit(self, x, scale): retries=1 of <tests.unit.graph.test_method.Model object"
    )


def test_two_looks_at_a_method_of_one_object_are_equal_and_of_another_object_not() -> None:
    model = Model()

    assert model.fit == model.fit
    assert hash(model.fit) == hash(model.fit)
    assert model.fit != Model().fit
    assert isinstance(model.fit, Method)


def test_a_wrong_argument_is_refused_at_the_call_by_the_name_of_the_method() -> None:
    with pytest.raises(TypeError, match=r"^fit\(\): missing a required argument: 'x'$"):
        Model().fit()


def test_an_abstract_task_keeps_its_class_abstract() -> None:
    class Shape(abc.ABC):
        @task
        @abc.abstractmethod
        def area(self) -> int: ...

    class Square(Shape):
        @task
        def area(self) -> int:
            return 4

    with pytest.raises(TypeError, match="abstract"):
        Shape()  # type: ignore[abstract]
    assert value(Square().area()) == 4  # type: ignore[arg-type]


def test_a_property_is_refused_at_its_definition_with_the_order_that_works() -> None:
    with pytest.raises(
        GraphError, match=r"not property .* Put @task below it: @property, then @task\.$"
    ):
        task(property(lambda self: 1))  # type: ignore[call-overload]


def test_parameters_may_have_any_name() -> None:
    @task
    def odd(
        self: int, args: int, kwargs: int, task: int, name: int, run: int, function: int
    ) -> tuple[int, ...]:
        return self, args, kwargs, task, name, run, function

    @task
    def both(*args: int, **kwargs: int) -> Any:
        return args, kwargs

    node = odd(self=1, args=2, kwargs=3, task=4, name=5, run=6, function=7)
    assert value(node) == (1, 2, 3, 4, 5, 6, 7)
    assert value(both(1, self=2, args=3, kwargs=4, here=5, call=6)) == (
        (1,),
        {"self": 2, "args": 3, "kwargs": 4, "here": 5, "call": 6},
    )


def test_attributes_of_the_function_are_those_of_the_task() -> None:
    import functools

    cached = Task(functools.lru_cache(lambda n: n))
    generic = Task(functools.singledispatch(lambda value: "any"))
    generic.register(int, lambda value: "int")

    assert cached.cache_info().currsize == 0
    assert value(generic(1)) == "int"
    with pytest.raises(
        AttributeError,
        match=r"neither the task 'lambda' nor its function has 'result'. A call of it",
    ):
        _ = cached.result


def test_a_node_in_the_place_of_a_function_is_refused_with_the_cure() -> None:
    with pytest.raises(
        GraphError, match=r"It is a call of the task 'fit': leave @task off what makes functions\.$"
    ):
        task(Model().fit(1))  # type: ignore[call-overload]
