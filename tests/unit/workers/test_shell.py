"""The shell of a task: commands, a few magics, display; otherwise there is no notebook."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from dagnb_workers.surroundings import shell

from dagnb.errors import GraphError


def ran(source: str, **names: Any) -> Any:
    """Returns the value of the function `f` of a notebook with these names.

    IPython has made its `!` and `%` into calls.
    """
    space: dict[str, Any] = {"get_ipython": shell.get_ipython, "display": shell.display, **names}
    exec(textwrap.dedent(source), space)
    return space["f"]()


def test_the_output_of_a_command_is_a_list_of_lines_with_those_of_stderr() -> None:
    lines = ran("def f(): return get_ipython().getoutput('echo one; echo two >&2')")

    assert lines == ["one", "two"]
    assert (lines.l, lines.n, lines.s) == (["one", "two"], "one\ntwo", "one two")


def test_what_a_command_prints_is_printed_and_its_exit_code_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = ran(
        "def f():\n"
        "    get_ipython().system('echo out; echo err >&2; exit 3')\n"
        "    return _exit_code"
    )

    assert code == 3
    assert capsys.readouterr().out == "out\nerr\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("echo {greeting} $name", "hello you"),
        ("echo {n * 2} {rows[0:2]} {greeting!r}", "6 [1, 2] hello"),
        ("echo $place.name", "here"),
        ("echo $$HOME", os.environ.get("HOME", "")),
        ("echo '$name'", "$name"),
        ("echo a b | awk '{print $2}'", "b"),
        ("echo {missing} {n}", "{missing} {n}"),
    ],
)
def test_variables_are_expanded_as_ipython_expands_them(command: str, line: str) -> None:
    class Place:
        name = "here"

    source = (
        f"def f():\n    name, place = 'you', Place\n    return get_ipython().getoutput({command!r})"
    )

    assert ran(source, greeting="hello", n=3, rows=[1, 2, 3], Place=Place) == [line]


def asking(expression: str) -> str:
    """Returns a function that asks for a notebook as libraries do."""
    return f"def f():\n    try: return {expression}\n    except NameError: return 'a script'"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        (asking("bool(get_ipython())"), "a script"),
        (asking("get_ipython().__class__.__name__"), "a script"),
        (asking("'IPKernelApp' in get_ipython().config"), "a script"),
        ("def f(): return imported() is None", True),
        ("def f(): return 'IPKernelApp' in shell.config", False),
    ],
)
def test_who_asks_whether_there_is_a_notebook_is_told_what_a_script_is_told(
    source: str, answer: object
) -> None:
    assert ran(source, imported=shell.imported_get_ipython, shell=shell.shell) == answer


def test_a_function_imported_from_ipython_runs_commands_too() -> None:
    assert ran(
        "def f(): return imported().getoutput('echo x')", imported=shell.imported_get_ipython
    ) == ["x"]


def test_what_only_the_notebooks_shell_has_is_an_error_with_the_cure() -> None:
    with pytest.raises(
        AttributeError, match=r"a task has no 'user_ns' of it\. Use it outside the task, and pass"
    ):
        ran("def f(): return shell.user_ns", shell=shell.shell)


def test_a_magic_that_has_a_plain_meaning_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    source = """
        def f():
            get_ipython().run_line_magic("matplotlib", "inline")
            get_ipython().run_line_magic("cd", "{folder}")
            folder = get_ipython().run_line_magic("pwd", "")
            return folder, get_ipython().run_line_magic("sx", "echo $word")
        """

    assert ran(source, folder=tmp_path, word="hi") == (str(tmp_path), ["hi"])


def test_a_variable_of_the_environment_is_set_and_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_TEST_WORD", "before")
    source = """
        def f():
            get_ipython().run_line_magic("env", "DAGNB_TEST_WORD={word}")
            return get_ipython().run_line_magic("env", "DAGNB_TEST_WORD")
        """

    assert ran(source, word="after") == os.environ["DAGNB_TEST_WORD"] == "after"
    assert capsys.readouterr().out == "env: DAGNB_TEST_WORD=after\n"


def test_time_prints_how_long_it_took_and_gives_the_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = ran("def f():\n    n = 4\n    return get_ipython().run_line_magic('time', 'n + 1')")

    assert value == 5
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "CPU times",
        "Wall time",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "run_line_magic('timeit', '1 + 1')",
            "%timeit needs the notebook's shell, .* Write it in Python, or use it outside",
        ),
        (
            "run_line_magic('pip', 'install x')",
            "%pip needs the notebook's shell, .* @task\\(requirements='pandas'\\)",
        ),
        ("run_cell_magic('html', '', '<b>')", "%%html needs the notebook's shell"),
    ],
)
def test_any_other_magic_is_refused_by_its_name_with_the_cure(call: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ran(f"def f(): return get_ipython().{call}")


def test_a_cell_of_bash_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    ran("def f(): get_ipython().run_cell_magic('bash', '', \"echo 'a'\\necho b\")")

    assert capsys.readouterr().out == "a\nb\n"


def test_a_command_in_the_background_is_refused_in_the_words_of_ipython_with_the_cure() -> None:
    with pytest.raises(
        OSError, match=r"^Background processes not supported\. Start it with subprocess\.Popen"
    ):
        ran("def f(): get_ipython().system('sleep 1 &')")


def test_display_prints_what_ipython_shows_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    source = """
        def f():
            display("text", {"a": 1})
            display({"text/plain": "plain", "text/html": "<b>"}, raw=True)
            shown = display([1], display_id="id")
            shown.update([2])
            return shown.display_id
        """

    assert ran(source) == "id"
    assert capsys.readouterr().out == "'text'\n{'a': 1}\nplain\n[1]\n[2]\n"


def test_a_command_that_is_interrupted_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output of the command interrupts the task here, as a time limit would."""
    pid = tmp_path / "pid"

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell, "_print", interrupt)

    with pytest.raises(KeyboardInterrupt):
        ran("def f(): get_ipython().system('echo $$ > {pid}; echo begun; exec sleep 100')", pid=pid)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
