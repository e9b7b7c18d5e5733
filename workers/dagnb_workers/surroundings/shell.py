"""The shell of a task, in the place of IPython's: `!command`, `display` and a few magics, without IPython.

A task runs as a script does, so whoever asks whether there is a notebook is told that there is none: `get_ipython` is
undefined. Only the code that IPython makes of `!command` and `%magic` gets a shell, this one.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

from dagnb.errors import GraphError
from dagnb.graph.pickling.stand_in import SHELL_CALLS

_SET_UP = frozenset({"autoreload", "config", "load_ext", "matplotlib", "reload_ext"})
"""magics that prepare a notebook: a task has nothing to prepare"""

_DOLLAR = re.compile(r"(.*?)\$(\$?[\w.]+)(?=(?:[^']*'[^']*')*[^']*$)", re.DOTALL)
"""the other one finds at least the names that this one replaces, see `_DOLLAR` of dagnb.graph.pickling.stand_in"""


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
    """Runs what IPython made of `!command` and `%magic`; anything else it is asked for is an error with the cure."""

    config: Mapping[str, Any] = {}

    def system(self, command: str) -> None:
        """Run a command; what it prints is the task's output. Its exit code becomes the global `_exit_code`."""
        self._system(command, sys._getframe(1))

    def getoutput(self, command: str, split: bool = True, depth: int = 0) -> Lines | str:
        """Run a command and give what it prints, stderr included; split: as lines."""
        caller = sys._getframe(depth + 1)
        printed: list[str] = []
        caller.f_globals["_exit_code"] = _run(_expanded(command, caller), printed.append)
        text = "".join(printed)
        return Lines(text.splitlines()) if split else text

    def run_line_magic(self, name: str, line: str, _stack_depth: int = 1) -> object:
        """Run a magic that has a meaning in a task. Raises GraphError naming one that has not."""
        caller = sys._getframe(_stack_depth)
        if name in _SET_UP:
            return None
        if name in {"system", "sx"}:
            return self.getoutput(line, depth=_stack_depth)
        if name not in _MAGICS:
            raise _refused(f"%{name}")
        return _MAGICS[name](_expanded(line, caller).strip(), caller)

    def run_cell_magic(self, name: str, line: str, cell: str) -> object:
        """Run the text of a `%%bash` or `%%sh`. Raises GraphError naming any other."""
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
        """Be the one of whichever process it is read in."""
        return "shell"

    def _system(self, command: str, caller: FrameType | None) -> None:
        if command.rstrip().endswith("&"):
            raise OSError(  # as IPython says it, and the cure
                "Background processes not supported. Start it with subprocess.Popen(...) in the task; it is ended with "
                "the run."
            )
        text = command if caller is None else _expanded(command, caller)
        code = _run(text, _print)
        if caller is not None:
            caller.f_globals["_exit_code"] = code


shell = TaskShell()
"""the one of this process"""


def get_ipython() -> TaskShell:
    """The shell, for the code of `!command` and `%magic`. Raises NameError for all other, as in a script."""
    if _calls_shell(sys._getframe(1).f_code):
        return shell
    raise NameError("name 'get_ipython' is not defined", name="get_ipython")


def imported_get_ipython() -> TaskShell | None:
    """Returns the shell as get_ipython does, None where there is no shell, as IPython's own function does."""
    return shell if _calls_shell(sys._getframe(1).f_code) else None


def _calls_shell(code: CodeType) -> bool:
    return not SHELL_CALLS.isdisjoint(code.co_names)


class Display:
    """The answer of display to whoever asks for an id; an update is printed below."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, thing: object, **_options: Any) -> None:
        """Print it again."""
        display(thing)

    update = display


def display(
    *things: object, raw: bool = False, display_id: str | bool | None = None, **_options: Any
) -> Display | None:
    """Print what IPython would show as text: it is the task's output. raw: the things are texts by type."""
    for thing in things:
        _print(
            f"{thing.get('text/plain', thing) if raw and isinstance(thing, Mapping) else repr(thing)}\n"
        )
    if not display_id:
        return None
    return Display(display_id if isinstance(display_id, str) else os.urandom(16).hex())


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _run(command: str, tell: Any) -> int:
    """Run it with the user's shell. tell: is given what it prints. Returns the exit code, negative for a signal."""
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
        except BaseException:  # a time limit interrupts the task here
            process.kill()
            raise
    return process.returncode


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _timed(statement: str, caller: FrameType) -> object:
    """The value of an expression, after printing how long it took; a statement has none."""
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
    """All variables, the value of one, or nothing after setting one: by `NAME=value` or `NAME value`."""
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
"""those that have a plain meaning in a task"""


def _refused(magic: str) -> GraphError:
    cure = (
        "Write it in Python, or use it outside the function and pass what it gives as an argument."
    )
    if magic in {"%pip", "%conda", "%uv"}:
        cure = "Install packages outside the task, or name them: @task(requirements='pandas')."
    return GraphError(f"{magic} needs the notebook's shell, which a task does not have. {cure}")


def _expanded(command: str, caller: FrameType) -> str:
    """The command with `{expression}` and `$name` replaced as IPython does it; as it is where one of them fails."""
    try:
        return _Expansion().vformat(command, (), {**caller.f_globals, **caller.f_locals})
    except Exception:  # noqa: BLE001  # an expression is the user's; IPython lets such a command go as it is
        return command


class _Expansion(string.Formatter):
    """`{expression}` and `$name`; `$$` stands for `$`; nothing is expanded between single quotes."""

    def vformat(self, text: str, args: Any, names: Any) -> str:
        """The text with all of them replaced."""
        parts = []
        for literal, field, rest, conversion in self.parse(text):
            parts.append(_with_dollars(literal, names))
            if field is not None:
                value = eval(f"{field}:{rest}" if rest else field, dict(names))  # noqa: S307  # that is what `!` is for
                parts.append(format(self.convert_field(value, conversion or None)))
        return "".join(parts)


def _with_dollars(literal: str, names: Mapping[str, Any]) -> str:
    return "".join(_dollar_parts(literal, names))


def _dollar_parts(literal: str, names: Mapping[str, Any]) -> Iterator[str]:
    at = 0
    for found in _DOLLAR.finditer(literal):
        before, name = found.group(1, 2)
        yield before
        yield name if name.startswith("$") else format(eval(name, dict(names)))  # noqa: S307  # as above
        at = found.end()
    yield literal[at:]
