"""What notebooks hold, in a real kernel, run by worker processes: shell commands, decorators,
reloaded modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.home import own_home
from tests.notebooks.kernel import Kernel, running_kernel, text

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.redis,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),
]

LOAD = "%load_ext dagnb\nimport dagnb, functools, sys\nfrom dagnb import task\ndagnb.configure(workers='process');"

TASKS = """
from dagnb import task

def helper(x):
    return x + 1

@task(retries=1)
def load(x):
    return "first", helper(x)

class Model:
    @task
    def fit(self):
        return "first"
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """With dagnb loaded and processes as workers."""
    with own_home(), running_kernel() as kernel:
        kernel.run(LOAD)
        yield kernel


def value(kernel: Kernel, source: str) -> str:
    """What the cell's value is shown as."""
    return text(kernel.run(source)[-1])


def test_a_task_runs_shell_commands_with_its_variables_and_what_they_print_is_its_output(
    kernel: Kernel,
) -> None:
    commands = "lines = !echo {n + 1} $place\n    !echo told; exit 3"
    kernel.run(f"place = 'here'\n@task\ndef f(n):\n    {commands}\n    return lines, _exit_code")

    assert (
        value(kernel, "run = f(1).run()\nrun.result(60), run.log('f-0')")
        == "((['2 here'], 3), 'told\\n')"
    )


def test_a_task_is_told_that_it_is_in_no_notebook(kernel: Kernel) -> None:
    kernel.run(
        "def is_notebook():\n    try: return get_ipython() is not None\n    except NameError: return False"
    )
    kernel.run("@task\ndef f(): return is_notebook()")

    assert value(kernel, "is_notebook(), f().run().result(60)") == "(True, False)"


def test_what_a_task_displays_is_its_output(kernel: Kernel) -> None:
    kernel.run("@task\ndef f():\n    display([1, 2])\n    return 1")

    assert value(kernel, "run = f().run()\nrun.result(60), run.log('f-0')") == "(1, '[1, 2]\\n')"


def test_cached_and_decorated_functions_of_a_dag_cell_run_on_workers(kernel: Kernel) -> None:
    kernel.run(
        "%%dag x\n"
        "def plus_one(fn):\n    @functools.wraps(fn)\n    def wrapper(n): return fn(n) + 1\n    return wrapper\n"
        "@functools.lru_cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@plus_one\ndef f(n): return fib(n)\nf(20)"
    )

    assert value(kernel, "x") == "6766"


def test_the_task_of_a_method_of_the_notebook_runs_on_a_worker(kernel: Kernel) -> None:
    kernel.run(
        "class Model:\n    weight = 3\n    @task\n    def fit(self, x): return self.weight * x"
    )

    assert value(kernel, "Model().fit(2).run().result(60)") == "6"


def test_an_edited_module_is_what_runs_next_whatever_was_imported_of_it(
    kernel: Kernel, tmp_path: Path
) -> None:
    """First the body of a task, then a helper alone, then the options with what autoreload cannot
    patch in place.
    """
    file = tmp_path / "autoreloaded_tasks.py"
    file.write_text(TASKS, "utf-8")
    kernel.run(f"sys.path.insert(0, {str(tmp_path)!r})\n%load_ext autoreload\n%autoreload 2")
    kernel.run(
        "import autoreloaded_tasks\nfrom autoreloaded_tasks import load, Model\nmodel, old = Model(), load"
    )
    show = (
        "nodes = load(1), old(1), autoreloaded_tasks.load(1), model.fit()\n"
        "[node.run().result(60) for node in nodes], nodes[0].task.options.retries"
    )
    shown = [value(kernel, show)]

    for n, (before, after) in enumerate(
        [("first", "second"), ("x + 1", "x + 10"), ("retries=1", "retries=5")], 1
    ):
        edited = file.read_text("utf-8").replace(before, after)
        # Autoreload looks at the time of the file alone, and two edits may have the same.
        kernel.run(
            f"import os\nwith open({str(file)!r}, 'w') as file: count = file.write({edited!r})\n"
            f"was = os.stat({str(file)!r}).st_mtime\nos.utime({str(file)!r}, (was + {n}, was + {n}))"
        )
        shown.append(value(kernel, show))

    assert shown == [
        "([('first', 2), ('first', 2), ('first', 2), 'first'], 1)",
        "([('second', 2), ('second', 2), ('second', 2), 'second'], 1)",
        "([('second', 11), ('second', 11), ('second', 11), 'second'], 1)",
        "([('second', 11), ('second', 11), ('second', 11), 'second'], 5)",
    ]
