"""The shell of a notebook never travels; what functions use of it is replaced by what workers have."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from dagnb_workers.surroundings import shell

from dagnb.graph.payload import decode_function, encode_function
from dagnb.graph.pickling.packing import unpack
from dagnb.graph.task import Task
from tests.unit.kernel_ext.conftest import Cells


def elsewhere(cells: Cells, name: str) -> Any:
    """The function of the notebook as a worker has it."""
    function, _ = decode_function(encode_function(Task(cells[name])))
    return function


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def f():\n    out = !echo hi\n    return out[0]", "hi"),
        ("word = 'hi'\ndef f():\n    out = !echo {word} $word\n    return out[0]", "hi hi"),
        (
            "def f():\n    def g():\n        out = !echo inner\n        return out[0]\n    return g()",
            "inner",
        ),
        (
            "def f():\n    try: return bool(get_ipython())\n    except NameError: return 'a script'",
            "a script",
        ),
        ("from IPython import get_ipython\ndef f(): return get_ipython() is None", True),
        (
            "ip = get_ipython()\nheld = {'shell': [ip]}\ndef f(): return type(held['shell'][0]).__name__",
            "TaskShell",
        ),
        ("ask = get_ipython().getoutput\ndef f(): return list(ask('echo bound'))", ["bound"]),
        (
            "import builtins\ndef f(): return open is builtins.open, open('/dev/null').close()",
            (True, None),
        ),
        ("import sys\ndef f(): return exit is sys.exit", True),
        ("def f(): return __IPYTHON__", True),
    ],
)
def test_what_a_function_uses_of_the_shell_is_what_workers_have(
    cells: Cells, source: str, value: object
) -> None:
    """The last of them is a builtin of this process."""
    cells.run(source)

    assert elsewhere(cells, "f")() == value


def test_display_is_that_of_workers_imported_or_not(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(
        "from IPython.display import display as show\ndef f():\n    display('a')\n    show('b')"
    )

    function = elsewhere(cells, "f")
    function()

    assert capsys.readouterr().out == "'a'\n'b'\n"
    assert function.__globals__["display"] is function.__globals__["show"] is shell.display


class Touched:
    """Notes that it was pickled."""

    times = 0

    def __reduce__(self) -> Any:
        Touched.times += 1
        return Touched, ()


def test_an_object_that_holds_the_shell_travels_without_it(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an attempt is made to pickle the shell: it may have effects, and takes long."""
    cells.run("class Model:\n    def __init__(self): self.shell = get_ipython()\nmodel = Model()")
    monkeypatch.setattr(type(cells.shell), "__getstate__", lambda self: {"first": Touched()})

    (model,), _ = unpack(Task(print)(cells["model"]).packed.body, [], [])

    assert model.shell is shell.shell
    assert Touched.times == 0


def test_a_worker_needs_no_ipython_for_any_of_it(cells: Cells) -> None:
    used = "display(1)\n    out = !echo hi\n    with open('/dev/null'): return out[0], len(exit.__name__)"
    cells.run(f"def f():\n    {used}")
    reads = (
        "import sys; sys.modules['IPython'] = None\nfrom dagnb.graph.payload import decode_function\n"
        f"print(decode_function(bytes.fromhex('{encode_function(Task(cells['f'])).hex()}'))[0]())"
    )

    ended = subprocess.run(
        [sys.executable, "-c", reads], capture_output=True, text=True, check=False
    )

    assert (ended.stdout, ended.stderr) == ("1\n('hi', 4)\n", "")


def test_the_output_of_a_command_of_the_notebook_is_for_a_task_what_its_own_commands_give(
    cells: Cells,
) -> None:
    cells.run("lines = !echo given\ndef f(): return lines")
    node = Task(print)(cells["lines"], cells["lines"].n)

    (lines, text), _ = unpack(node.packed.body, [], [])

    assert (lines, lines.s, text) == (["given"], "given", "given")
    assert type(lines) is type(elsewhere(cells, "f")()) is shell.Lines


@pytest.mark.parametrize(
    "command",
    [
        "echo {n} $n ${n}",
        "echo '{n} $n' \"{n} $n\"",
        "echo {rows[0:1]} {n!r} {n + 1}",
        "echo $place.name $place.missing",
        "echo {place.name:04}",
        "echo $HOME {n",
        "echo $$HOME",
        "printf 'a b' | awk '{print $2}'",
        "echo $(echo $n)",
    ],
)
def test_a_command_gives_what_ipython_itself_gives(cells: Cells, command: str) -> None:
    cells.run("class Place: name = 'here'\nn, place, rows = 3, Place(), [1, 2]")
    cells.run(f"def f():\n    out = !{command}\n    return list(out)")

    assert elsewhere(cells, "f")() == cells["f"]()


def test_commands_of_a_dag_cell_run_inside_and_outside_of_its_functions(cells: Cells) -> None:
    cells.run(
        "%%dag x\nhere = !echo outside\ndef f(word):\n    out = !echo inside {word}\n    return out[0]\nf(here[0])"
    )

    assert cells["x"] == "inside outside"
