"""The stand-in of a task for IPython's shell: `!command`, `display` and a few magics.

A task runs as a script does: `get_ipython` is undefined, which tells libraries that there is no
notebook. Only the code that IPython makes of `!command` and `%magic` gets a shell, which is the
one in this file.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

from dagnb.errors import GraphError
from dagnb.graph.pickling.stand_in import SHELL_CALLS

_SET_UP = frozenset({"autoreload", "config", "load_ext", "matplotlib", "reload_ext"})
"""magics that prepare a notebook: they do nothing in a task"""

_DOLLAR = re.compile(r"(.*?)\$(\$?[\w.]+)(?=(?:[^']*'[^']*')*[^']*$)", re.DOTALL)
"""A name after a dollar sign outside single quotes, as IPython replaces it.

`_DOLLAR` of dagnb.graph.pickling.stand_in must find at least these names, because the variables
that they mean are pickled with the function.
"""


class Lines(list[str]):
    """The output of a command, line by line, as IPython gives it."""

    @property
    def l(self) -> list[str]:  # noqa: E743  # IPython's name
        """The lines."""
        return list(self)

    @property
    def n(self) -> str:
        """The lines, with a line break between them."""
        return "\n".join(self)

    @property
    def s(self) -> str:
        """The lines, with a blank between them."""
        return " ".join(self)


class TaskShell:
    """Runs the code that IPython made of `!command` and `%magic`; refuses all else with a cure."""

    config: Mapping[str, Any] = {}

    def system(self, command: str) -> None:
        """Run a command, which prints into the task's output. Sets the global `_exit_code`."""
        self._system(command, sys._getframe(1))

    def getoutput(self, command: str, split: bool = True, depth: int = 0) -> Lines | str:
        """Run a command. Returns what it prints, stderr included. split: as lines."""
        caller = sys._getframe(depth + 1)
        printed: list[str] = []
        caller.f_globals["_exit_code"] = _run(_expanded(command, caller), printed.append)
        text = "".join(printed)
        return Lines(text.splitlines()) if split else text

    def run_line_magic(self, name: str, line: str, _stack_depth: int = 1) -> object:
        """Run a magic that has a meaning in a task. Raises GraphError for one that has none."""
        caller = sys._getframe(_stack_depth)
        if name in _SET_UP:
            return None
        if name in {"system", "sx"}:
            return self.getoutput(line, depth=_stack_depth)
        if name not in _MAGICS:
            raise _refused(f"%{name}")
        return _MAGICS[name](_expanded(line, caller).strip(), caller)

    def run_cell_magic(self, name: str, line: str, cell: str) -> object:
        """Run the text of a `%%bash` or `%%sh` cell. Raises GraphError for any other."""
        if name in {"bash", "sh"} and not line.strip():
            self._system(f"{name} -c {_quoted(cell)}", None)
            return None
        raise _refused(f"%%{name}")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"the notebook's shell stays in the notebook, and a task has no {name!r} of it. "
            "Use it outside the task, and pass what it gives as an argument.",
            name=name,
            obj=self,
        )

    def __reduce__(self) -> str:
        """Unpickle as the shell of the process that reads it."""
        return "shell"

    def _system(self, command: str, caller: FrameType | None) -> None:
        if command.rstrip().endswith("&"):
            # The first sentence is IPython's own.
            raise OSError(
                "Background processes not supported. Start it with subprocess.Popen(...) in the "
                "task; it is ended with the run."
            )
        if caller is None:
            _run(command, _print)
            return
        caller.f_globals["_exit_code"] = _run(_expanded(command, caller), _print)


shell = TaskShell()
"""the shell of this process"""


def get_ipython() -> TaskShell:
    """Returns the shell to the code of `!command` and `%magic`. Raises NameError to other code."""
    if _calls_shell(sys._getframe(1).f_code):
        return shell
    raise NameError("name 'get_ipython' is not defined", name="get_ipython")


def imported_get_ipython() -> TaskShell | None:
    """Returns the shell as get_ipython does, but None to other code, as IPython's function does."""
    return shell if _calls_shell(sys._getframe(1).f_code) else None


def _calls_shell(code: CodeType) -> bool:
    return not SHELL_CALLS.isdisjoint(code.co_names)


class Display:
    """The handle that `display` returns for an id; an update is printed below the first output."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, thing: object, **_options: Any) -> None:
        """Print it again."""
        display(thing)

    update = display


def display(
    *things: object,
    raw: bool = False,
    display_id: str | bool | None = None,
    **_options: Any,
) -> Display | None:
    """Print what IPython would show as text. raw: the things are texts by MIME type."""
    for thing in things:
        if raw and isinstance(thing, Mapping):
            _print(f"{thing.get('text/plain', thing)}\n")
        else:
            _print(f"{thing!r}\n")
    if not display_id:
        return None
    if not isinstance(display_id, str):
        display_id = os.urandom(16).hex()
    return Display(display_id)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _run(command: str, tell: Callable[[str], object]) -> int:
    """Run the command with the user's shell. Returns the exit code, negative for a signal.

    tell: gets each line that it prints.
    """
    program = os.environ.get("SHELL")

    process = subprocess.Popen(  # noqa: S602  # a shell is what `!` is for
        command,
        shell=True,
        executable=program if program and shutil.which(program) else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )

    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                tell(line)
        # A time limit may interrupt the task while it waits for output: then the command must end.
        except BaseException:
            process.kill()
            raise
    return process.returncode


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _timed(statement: str, caller: FrameType) -> object:
    """Run the statement and print the time it took. Returns the value of an expression."""
    names = {**caller.f_globals, **caller.f_locals}
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    try:
        code = compile(statement, "<timed>", "eval")
    except SyntaxError:
        exec(statement, names)  # noqa: S102  # that is what `%time` is for
        value = None
    else:
        value = eval(code, names)  # noqa: S307  # as above

    spent_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    _print(f"CPU times: total: {cpu_s:.3g} s\nWall time: {spent_s:.3g} s\n")
    return value


def _cd(line: str, caller: FrameType) -> None:
    os.chdir(os.path.expanduser(line or "~"))


def _env(line: str, caller: FrameType) -> object:
    """Set a variable, by `NAME=value` or `NAME value`; else returns the value of one, or all."""
    if not line:
        return dict(os.environ)
    name, equals, value = line.partition("=") if "=" in line else line.partition(" ")
    if not equals:
        return os.environ.get(name)
    os.environ[name.strip()] = value.strip()
    _print(f"env: {name.strip()}={value.strip()}\n")
    return None


_MAGICS: dict[str, Callable[[str, FrameType], object]] = {
    "cd": _cd,
    "env": _env,
    "pwd": lambda line, caller: os.getcwd(),
    "set_env": _env,
    "time": _timed,
}
"""magics that have a plain meaning in a task"""


def _refused(magic: str) -> GraphError:
    cure = (
        "Write it in Python, or use it outside the function and pass what it gives as an argument."
    )
    if magic in {"%pip", "%conda", "%uv"}:
        cure = "Install packages outside the task, or name them: @task(requirements='pandas')."
    return GraphError(f"{magic} needs the notebook's shell, which a task does not have. {cure}")


def _expanded(command: str, caller: FrameType) -> str:
    """Returns the command with `{expression}` and `$name` replaced as IPython replaces them.

    Where one of them fails, the command stays as it is, as with IPython: braces may be the
    command's own.
    """
    try:
        return _Expansion().vformat(command, (), {**caller.f_globals, **caller.f_locals})
    except Exception:  # noqa: BLE001  # an expression is the user's code
        return command


class _Expansion(string.Formatter):
    """Expands `{expression}` and `$name`, the latter not between single quotes; `$$` means `$`."""

    def vformat(self, text: str, args: Any, names: Any) -> str:
        """Returns the text with all of them replaced."""
        parts = []
        for literal, field, rest, conversion in self.parse(text):
            parts.append(_with_dollars(literal, names))
            if field is not None:
                code = f"{field}:{rest}" if rest else field  # a colon may be part of the expression
                value = eval(code, dict(names))  # noqa: S307  # that is what `!` is for
                parts.append(format(self.convert_field(value, conversion or None)))
        return "".join(parts)


def _with_dollars(literal: str, names: Mapping[str, Any]) -> str:
    parts = []
    end = 0
    for match in _DOLLAR.finditer(literal):
        before, name = match.group(1, 2)
        parts.append(before)
        if name.startswith("$"):
            parts.append(name)
        else:
            parts.append(format(eval(name, dict(names))))  # noqa: S307  # that is what `!` is for
        end = match.end()
    return "".join([*parts, literal[end:]])
