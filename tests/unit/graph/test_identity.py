"""The lasting identity of a function: what changes it and what does not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from dagnb.graph import identity as identity_module
from dagnb.graph.identity import identity
from dagnb.graph.task import Task
from tests.unit.graph.cycles import lists_of_each_other

PLAIN = """
def f(x):
    return x + 1
"""

IN_A_NOTEBOOK = '''
import math

LIMITS = {"low", "high", "middle", "none"}

def inner(x):
    return x in {"a", "b", "c", "d"}

def helper(x, kinds=frozenset({"one", "two", "three"}), *, way=("up", None)):
    return inner(x) or way

def f(x, names={"p": 1, "q": [2.5, b"r"]}, mark=object()):
    """Counts."""
    try:
        return [helper(y) for y in x if y not in ("u", "v")], math.pi, names
    except KeyError:
        return {"k", "l", "m"}

def outer(k):
    def closed(x):
        return inner(x) + k
    return closed
'''


def made(source: str, name: str = "f") -> Callable[..., Any]:
    """The function of this name in a notebook of this source."""
    space: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), space)
    function: Callable[..., Any] = space[name]
    return function


def test_identity_is_sixteen_hexadecimal_digits() -> None:
    assert len(identity(made(PLAIN))) == 16
    int(identity(made(PLAIN)), 16)


def test_every_fresh_interpreter_gives_the_same_identity() -> None:
    program = (
        f"import runpy; identity = "
        f"runpy.run_path({sys.modules[identity.__module__].__file__!r})['identity']\n"
        f"space = {{'__name__': 'notebook'}}; exec({IN_A_NOTEBOOK!r}, space)\n"
        "print(identity(space['f']), identity(space['outer'](3)))"
    )
    here = f"{identity(made(IN_A_NOTEBOOK))} {identity(made(IN_A_NOTEBOOK, 'outer')(3))}"

    def there(seed: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert [there(1), there(2)] == [here, here]


@pytest.mark.parametrize(
    "other",
    [
        "\n\n\n# a comment\ndef f(x):\n    # another\n    return x + 1  # why\n",
        "LIMIT = 3\ndef unused(): pass\ndef f(x):\n    return (x\n            + 1)\n",
    ],
    ids=["comments", "lines"],
)
def test_comments_and_line_numbers_change_nothing(other: str) -> None:
    assert identity(made(other)) == identity(made(PLAIN))


def test_the_mark_of_a_task_changes_nothing() -> None:
    assert identity(Task(made(PLAIN))) == identity(made(PLAIN))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x + 1", "def f(x): return x + 1.0"),
        ("def f(x): return True", "def f(x): return 1"),
        ("def f(x): return x.upper()", "def f(x): return x.lower()"),
        ("def f(x): return max(x)", "def f(x): return min(x)"),
        ("def f(x=1): return x", "def f(x=2): return x"),
        ("def f(x={'a': [1]}): return x", "def f(x={'a': [2]}): return x"),
        ("def f(*, x=1): return x", "def f(*, x=2): return x"),
        ("def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}"),
        ("def f(x): return [y + 1 for y in x]", "def f(x): return [y + 2 for y in x]"),
        ("def f(x): return lambda: x", "def f(x): return lambda: -x"),
        ("async def f(x): return x", "def f(x): return x"),
        ("def f(a, b): return a", "def f(b, a): return a"),
        ("f = lambda x: (x, 'a', 'bc')", "f = lambda x: (x, 'ab', 'c')"),
    ],
)
def test_code_constants_and_defaults_change_it(before: str, after: str) -> None:
    assert identity(made(before)) != identity(made(after))


def test_what_a_try_block_covers_changes_it() -> None:
    before = "def f(x):\n    try:\n        x()\n        x.y()\n    except KeyError:\n        pass\n"
    after = "def f(x):\n    x()\n    try:\n        x.y()\n    except KeyError:\n        pass\n"

    assert identity(made(before)) != identity(made(after))


@pytest.mark.parametrize(
    "calling",
    [
        "def f(x): return helper(x)",
        "def f(x): return [helper(y) for y in x]",
        "def f(x): return (lambda y: helper(y))(x)",
        "def g(x): return helper(x)\ndef f(x): return g(x)",
        "def f(x): return f(x - 1) if x else helper(x)",
        "def outer(h):\n    def f(x): return h(x)\n    return f\nf = outer(helper)",
        "import functools\nf = functools.partial(helper, 3)",
        "from dagnb import task\nhelper = task(helper)\ndef f(x): return helper(x)",
    ],
    ids=[
        "direct",
        "comprehension",
        "lambda",
        "over another",
        "recursion",
        "enclosed",
        "partial",
        "task",
    ],
)
def test_a_helper_changes_it_wherever_it_is_called(calling: str) -> None:
    before, after = "def helper(x): return x + 1\n", "def helper(x): return x + 2\n"

    assert identity(made(before + calling)) == identity(made("\n" + before + calling))
    assert identity(made(before + calling)) != identity(made(after + calling))


@pytest.mark.parametrize(
    "calling",
    [
        "import functools\nhelper = functools.lru_cache(helper)\ndef f(x): return helper(x)",
        (
            "import functools\nhelper = functools.cache(functools.lru_cache(helper))\ndef f(x): "
            "return helper(x)"
        ),
        """import functools
g = functools.singledispatch(lambda x: 0)
g.register(int, helper)
def f(x): return g(x)
""",
        (
            "import functools\nclass C:\n    m = functools.cached_property(helper)\ndef f(x): "
            "return C()"
        ),
        "import functools\nclass C:\n    m = functools.partialmethod(helper)\ndef f(x): return C()",
        "class C:\n    m = property(helper)\ndef f(x): return C()",
        "class C:\n    m = staticmethod(helper)\ndef f(x): return C.m(x)",
        "class C:\n    def m(self, x): return helper(x)\ndef f(x): return C().m(x)",
        """import functools
def more(g):
    @functools.wraps(g)
    def w(*a): return g(*a)
    return w
helper = more(more(more(helper)))
def f(x): return helper(x)
""",
        "import contextlib\nhelper = contextlib.contextmanager(helper)\ndef f(x): return helper(x)",
    ],
    ids=[
        "cached",
        "twice",
        "generic",
        "cached property",
        "partial method",
        "property",
        "static",
        "method",
        "wrapped",
        "library",
    ],
)
def test_a_decorated_helper_changes_it_too(calling: str) -> None:
    before, after = "def helper(x): return x + 1\n", "def helper(x): return x + 2\n"

    assert identity(made(before + calling)) == identity(made("\n" + before + calling))
    assert identity(made(before + calling)) != identity(made(after + calling))


def test_a_decorator_of_the_notebook_changes_it_and_one_of_a_library_does_not() -> None:
    own = (
        "import functools\ndef more(g):\n    @functools.wraps(g)\n    def w(*a): return "
        "g(*a) + 1\n    return w\n"
        "@more\ndef f(x): return x"
    )
    library = "import contextlib\n@contextlib.contextmanager\ndef f(x): yield x"

    assert identity(made(own)) != identity(made(own.replace("+ 1", "+ 2")))
    assert identity(made(library)) == identity(made("def f(x): yield x"))


def test_a_helper_at_the_end_of_a_long_line_of_helpers_changes_it() -> None:
    line = (
        "".join(f"def h{i}(x): return h{i + 1}(x)\n" for i in range(500))
        + "def f(x): return h0(x)\n"
    )

    assert identity(made(line + "def h500(x): return 1")) != identity(
        made(line + "def h500(x): return 2")
    )


def test_helpers_that_call_each_other_are_no_trap() -> None:
    source = (
        "def even(n): return n == 0 or odd(n - 1)\n"
        "def odd(n): return n != 0 and even(n - 1)\n"
        "def f(n): return even(n)"
    )

    assert identity(made(source)) == identity(made(source))
    assert identity(made(source)) != identity(made(source.replace("n != 0", "n > 0")))


def test_enclosed_values_change_it_and_enclosed_objects_count_by_their_type() -> None:
    source = "def f(k):\n    def inner(x):\n        return x, k\n    return inner\n"
    outer = made(source)

    assert identity(outer(2)) == identity(outer(2))
    assert identity(outer(2)) != identity(outer(3))
    assert identity(outer(object())) == identity(outer(object()))


def test_a_function_that_encloses_what_does_not_exist_yet_has_an_identity() -> None:
    source = "def f():\n    def inner():\n        return later\n    yield inner\n    later = 1\n"

    assert len(identity(next(made(source)()))) == 16


def test_values_of_other_globals_change_nothing() -> None:
    using = "def f(x): return x + OFFSET"

    assert identity(made("OFFSET = 1\n" + using)) == identity(made("OFFSET = 2\n" + using))


def test_partials_differ_by_function_and_arguments() -> None:
    partials = [
        functools.partial(made(PLAIN), 1),
        functools.partial(made(PLAIN), 2),
        functools.partial(len, 1),
    ]

    assert len({identity(partial) for partial in partials}) == 3


def test_the_code_of_an_object_that_is_called_counts() -> None:
    source = "class Add:\n    def __call__(self, x): return x + 1\nf = Add()"

    assert identity(made(source)) == identity(made(source))
    assert identity(made(source)) != identity(made(source.replace("+ 1", "+ 2")))


def test_builtins_differ_by_their_names() -> None:
    assert identity(len) == identity(len)
    assert identity(len) != identity(sum)
    assert identity(str.upper) != identity(str.lower)


# ---- values that are hard to look at ----


class Raising:
    """Raises whenever an attribute is asked for."""

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class Endless:
    """Has every attribute, and makes up a new one each time."""

    def __getattr__(self, name: str) -> Endless:
        return Endless()


def around(value: Any) -> Any:
    """A function that encloses a value."""

    def inside() -> Any:
        return value

    return inside


@pytest.mark.parametrize(
    "value",
    [Raising, Endless, lambda: [Raising()], lambda: lists_of_each_other(14), deque],
    ids=["raising", "endless", "raising inside", "fourteen lists", "deque"],
)
def test_a_function_that_encloses_anything_has_an_identity_that_stays(
    value: Callable[[], Any],
) -> None:
    assert identity(around(value())) == identity(around(value()))
    assert len(identity(around(value()))) == 16


def test_a_change_of_code_counts_beside_a_value_that_raises() -> None:
    def other(value: Any) -> Any:
        def inside() -> Any:
            return [value]

        return inside

    assert identity(around(Raising())) != identity(other(Raising()))


def test_nested_constants_have_the_text_of_earlier_releases() -> None:
    value = (1, [2.5, None], {"a": {"b": (b"c", ...)}}, frozenset({"x", "y"}), True)

    text = "[1,[2.5,None],{'a':{'b':[b'c',Ellipsis]}},{'x','y'},True]"
    assert identity_module._text(value) == text
