"""The public names of the package: each comes with the room it is of, and with no other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import dagnb

CLIENT_ONLY = ("graphviz", "rich", "docker", "IPython", "ipywidgets")
"""packages that a container of workers does not have"""


def printed(code: str) -> list[str]:
    """Returns the lines that a fresh interpreter prints in which these packages are missing."""
    text = f"import sys; sys.modules.update(dict.fromkeys({CLIENT_ONLY!r}))\n{code}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", ["context", "errors", "task", "Resources", "TaskFailedError"])
def test_what_tasks_use_is_there_where_the_packages_of_the_client_are_missing(name: str) -> None:
    assert printed(f"import dagnb; dagnb.{name}; print('dagnb.client' in sys.modules)") == ["False"]


def test_a_task_is_defined_and_called_in_a_module_that_such_a_worker_imports() -> None:
    code = """
from dagnb import context, task
from dagnb.graph.context import TaskContext, entered

@task
def twice(number):
    return [2 * number, context().task]

here = TaskContext(run="r", task="twice-0", attempt=1, seed=0, worker="w")
with entered(here, whole_process=True):
    print(*twice(4))
"""

    assert printed(code) == ["8", "twice-0"]


def test_a_node_finds_the_client_when_that_was_never_asked_for() -> None:
    code = """
import json, sys
from dagnb import task
before = "dagnb.client" in sys.modules
print(json.dumps([before, task(abs)(-3).run(workers="inline").result(30)]))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [False, 3]


def test_a_node_in_a_process_without_the_client_finds_it_for_its_picture() -> None:
    code = """
import json
from dagnb import task
from dagnb.graph.client_hook import loaded_client
before = loaded_client() is not None
shown = task(abs)(-3)._repr_mimebundle_()
print(json.dumps([before, "text/plain" in shown, loaded_client() is not None]))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [False, True, True]


def test_a_table_is_shown_as_text_where_the_client_was_not_imported() -> None:
    code = """
import json, sys
from dagnb.forecast.makespans import Makespans
shown = Makespans(real_s=1.0, replay_s=1.0)._repr_mimebundle_()
print(json.dumps([sorted(shown), "dagnb.client" in sys.modules]))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [["text/plain"], False]


def test_every_public_name_is_there() -> None:
    assert [name for name in dagnb.__all__ if getattr(dagnb, name, None) is None] == []
