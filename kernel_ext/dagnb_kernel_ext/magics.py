"""`%%dag` and `%dag`: parse the line, call dagnb, show the answer.

%%dag cell --> its line parsed to Flags, its body compiled and run to its target
           --> dagnb.run or dagnb.plan --> value bound to NAME
%dag line  --> a subcommand (commands.py), or `run`, which needs the cells of this notebook

`value` waits for a run and blocks the kernel; `awaited_value` lets its loop go on. Either way the
cell ends with the final picture of the run. Meanwhile a notebook shows a live view, and a terminal
prints the progress.

`TEXT` is what `%%dag -h`, `%%dag?` and `%dag?` show. The answer to a wrong word names the nearest
right one.

Cells that await
----------------
IPython turns the cell into a call of the magic, and a magic cannot await. So for a cell that
awaits, the magic returns a coroutine, and the input transformer puts an `await` before the call.
The `await` also makes IPython run the cell on its event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import keyword
import shlex
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import cell_magic
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

import dagnb
from dagnb import progress, registry
from dagnb.errors import ConfigError, UnknownNameError
from dagnb.handle import Run
from dagnb.trace.upload import strategy
from dagnb.views.show import bundle
from dagnb_kernel_ext.cell import (
    CellBody,
    await_body,
    awaits,
    checked,
    compiled,
    holds_nodes,
    is_runnable,
    run_body,
)
from dagnb_kernel_ext.commands import COMMANDS, CommandContext
from dagnb_kernel_ext.tracebacks import ShortTraceback
from dagnb_kernel_ext.widgets import LiveViews, put, say

# ---- the line ----


class Usage(NamedTuple):
    """A line of the help: names of the arguments, '' for none, and the meaning."""

    arguments: str
    meaning: str


FLAGS = {
    "--planner": Usage("NAME", "how tasks are given to workers: flexible, heft, best, ..."),
    "--workers": Usage("NAME", "where the tasks run: process, docker, inline, ..."),
    "--percentile": Usage(
        "P", "plan for this percentile of the duration: 50 is the median, 90 is cautious"
    ),
    "--metrics": Usage(
        "WHEN",
        "when workers upload measurements: each_task, at_exit, every:2.5 (seconds), when_full:64",
    ),
    "--plan": Usage("", "show the plan and run nothing; NAME is bound to the node"),
    "--detach": Usage("", "do not wait; NAME is bound to the run"),
    "--timeout": Usage("SECONDS", "end the run after so many seconds"),
    "--help": Usage("", "show this text; -h for short"),
}
"""flag -> its value and its meaning"""

HELP = frozenset({"-h", "--help"})

KINDS = {"--planner": "planner", "--workers": "launcher"}
"""flags whose value is a registered name -> the kind of name"""

_LISTED = 8
"""known names that a message lists at most"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The words after `%%dag`, parsed."""

    name: str
    planner: str | None = None
    workers: str | None = None
    percentile: float | None = None
    metrics: str | None = None
    plan: bool = False
    detach: bool = False
    timeout_s: float | None = None
    wants_help: bool = False


class _FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises: argparse's own would end the kernel."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, which IPython shows as one line."""
        stop = "" if message.endswith("?") else "."
        raise UsageError(f"%%dag: {message}{stop} `%%dag -h` explains.")


def _parser() -> _FlagParser:
    # No abbreviations: `--plan` would be one of `--planner`.
    parser = _FlagParser(prog="%dag", add_help=False, allow_abbrev=False)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--planner")
    parser.add_argument("--workers")
    parser.add_argument("--percentile", type=float)
    parser.add_argument("--metrics")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--timeout", type=float, dest="timeout_s")
    parser.add_argument(*HELP, action="store_true", dest="wants_help")
    return parser


def parse(line: str) -> Flags:
    """Parse the line after `%%dag`.

    Raises UsageError, which says what is wrong and what may have been meant.
    """
    parser = _parser()
    try:
        known, unknown = parser.parse_known_args(shlex.split(line, comments=True))
    except ValueError as error:
        raise UsageError(f"%%dag: {error} in {line!r}. `%%dag -h` explains.") from None
    if unknown:
        parser.error(_unknown(unknown[0]))
    flags = Flags(**vars(known))
    if not flags.wants_help:
        _check(parser, flags)
    return flags


def _check(parser: _FlagParser, flags: Flags) -> None:
    if not flags.name:
        parser.error("it needs a name for the result, as in `%%dag total`")
    if not flags.name.isidentifier() or keyword.iskeyword(flags.name):
        parser.error(f"{flags.name!r} is no name a variable can have")
    if flags.plan and flags.detach:
        parser.error("--plan runs nothing, so there is nothing to --detach from")
    if flags.timeout_s is not None and not flags.timeout_s > 0:
        parser.error(f"--timeout {flags.timeout_s:g} must be more than 0 seconds")
    if flags.percentile is not None and not 0 < flags.percentile < 100:
        parser.error(f"--percentile {flags.percentile:g} must be above 0 and below 100")
    if flags.metrics is not None:
        _check_metrics(flags.metrics)
    for flag, name in (("--planner", flags.planner), ("--workers", flags.workers)):
        kind = KINDS[flag]
        if name is not None and name not in (known := registry.names(kind)):
            raise UsageError(f"%%dag: {UnknownNameError(kind, name, known)}")


def _check_metrics(text: str) -> None:
    try:
        strategy(text)
    except ConfigError as error:
        raise UsageError(f"%%dag: {error}") from None


def _unknown(argument: str) -> str:
    if not argument.startswith("-"):
        return f"expected one name, got also {argument!r}"
    return unknown_text("flag", argument.partition("=")[0], list(FLAGS))


def unknown_text(kind: str, name: str, known: Sequence[str]) -> str:
    """A message about an unknown name: the nearest known one, or the first of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"unknown {kind} '{name}'; did you mean '{close[0]}'?"
    some = ", ".join(known[:_LISTED]) or "none yet"
    if len(known) > _LISTED:
        some += ", ..."
    return f"unknown {kind} '{name}'; there is {some}"


SUBCOMMANDS = {
    "run": Usage("NAME", "run a node, or the last %%dag cell of that name again; gives the value"),
    "runs": Usage("", "list the runs in the store, newest first"),
    "status": Usage("[RUN]", "how many tasks are in which state"),
    "errors": Usage("[RUN]", "every failed attempt, with the lines of code"),
    "log": Usage("TASK [RUN]", "what a task printed in its last attempt"),
    "why": Usage(
        "[TASK [RUN]]",
        "why a task has not run yet, or what became of it; alone: where the time of the run went",
    ),
    "cancel": Usage("[RUN]", "end a run and its workers"),
    "attach": Usage(
        "[RUN]", "show a run and give it as an object; without RUN after a restart: what is running"
    ),
    "forget": Usage("RUN", "delete everything the store holds of a run"),
    "workers": Usage("", "the processes and containers where tasks run, or could start at once"),
    "predict": Usage(
        "FUNCTION [BYTES]", "expected duration and output size of a function, with the evidence"
    ),
    "config": Usage("", "the settings and variables in force, and where each value comes from"),
    "doctor": Usage("", "what is installed, what is missing, and what to do about it"),
}
"""subcommand of `%dag` -> its arguments and its meaning"""


def _rows(usages: Mapping[str, Usage]) -> str:
    lefts = [f"{name} {usage.arguments}".rstrip() for name, usage in usages.items()]
    wide = max(map(len, lefts))
    lines = []
    for left, usage in zip(lefts, usages.values(), strict=True):
        lines.append(f"    {left:<{wide}}  {usage.meaning}")
    return "\n".join(lines)


TEXT = f"""%%dag NAME [flags]: run this cell as a DAG and bind the result to NAME.

Every function at the top of the cell becomes a task, with or without @task; generators and classes
do not. A call of a task does not run it: it makes a node of the DAG. The last line says what to
run: a call of a task, or a list, dict or other structure of calls. NAME gets the value, or the same
structure of values. Everything else is ordinary Python, `await` included, and its names stay in the
notebook.

    %%dag total --planner heft
    def count(text): return len(text.split())
    def merge(counts): return sum(counts)
    merge([count(text) for text in texts])

Flags:
{_rows(FLAGS)}

Interrupting the kernel while it waits cancels the run. Restarting or shutting it down does not.

%dag SUBCOMMAND: look at runs, or change them.

{_rows(SUBCOMMANDS)}

RUN is a variable that holds a run, the name of a run, its id or the beginning of that, or `last`
for the newest run of all. Left out, it is the latest run of this notebook.
TASK is the name of a task, such as merge-0; merge is enough where it is called once."""


# ---- the magics ----


@magics_class
class DagMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell, live_views: LiveViews) -> None:
        """Begin without cells."""
        super().__init__(shell)
        self.transformer = CellTransformer(shell)
        self.context = CommandContext(shell, live_views)
        self._ipython = shell  # typed, which the trait `Magics.shell` is not
        self._space = shell.user_ns
        self._live_views = live_views
        self._cells: dict[str, tuple[Any, Flags]] = {}
        self.context.cells = self._cells.keys()

    @no_var_expand
    @line_cell_magic
    def dag(self, line: str, cell: str | None = None) -> object:  # noqa: D102  # it is set below
        __tracebackhide__ = True
        with ShortTraceback(self._ipython):
            return self._command(line) if cell is None else self._cell(line, cell)

    dag.__doc__ = TEXT

    def _cell(self, line: str, cell: str) -> Awaitable[None] | None:
        """Run a cell. Returns a coroutine for a cell that awaits; IPython awaits that."""
        __tracebackhide__ = True
        flags = parse(line)
        if flags.wants_help:
            say(TEXT)
            return None
        body = compiled(self._ipython, line, cell)
        if body.is_awaiting:
            return interruptible(self._awaited(body, flags))
        target = run_body(body, self._space)
        run = self._begin(target, flags)
        if run is not None:
            self._space[flags.name] = value(run, self._live_views)
        return None

    async def _awaited(self, body: CellBody, flags: Flags) -> None:
        """Run a cell that awaits; the kernel's loop goes on meanwhile."""
        __tracebackhide__ = True
        with ShortTraceback(self._ipython):
            target = await await_body(body, self._space)
            run = self._begin(target, flags)
            if run is not None:
                self._space[flags.name] = await awaited_value(run, self._live_views)

    def _begin(self, target: Any, flags: Flags) -> Run[Any] | None:
        """Plan or start the target of a cell. Returns the run to wait for, if any.

        With `--plan` the name is bound to the target, with `--detach` to the run.
        """
        __tracebackhide__ = True
        self._cells[flags.name] = (target, flags)
        # If the cell fails, NAME must not keep the value of an earlier run.
        self._space.pop(flags.name, None)
        if flags.plan:
            put(bundle(dagnb.plan(target, **_options(flags))))
            self._space[flags.name] = target
            return None
        run = _start(target, flags)
        if flags.detach:
            self._space[flags.name] = run
            return None
        return run

    def _command(self, line: str) -> object:
        __tracebackhide__ = True
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"%dag: {error} in {line!r}.") from None
        if not words or words[0] in {*HELP, "help"}:
            say(TEXT)
            return None
        if words[0] not in SUBCOMMANDS:
            known = list(SUBCOMMANDS)
            raise UsageError(f"%dag: {unknown_text('subcommand', words[0], known)}")
        if words[0] == "run":
            return self._run(words[1:])
        return COMMANDS[words[0]](self.context, words[1:])

    def _run(self, words: list[str]) -> object:
        """Run a node, or the last %%dag cell of that name again. Returns the value.

        The name of a cell is bound to the new value; that of a node stays bound to the node.
        """
        __tracebackhide__ = True
        if len(words) != 1:
            raise UsageError("%dag run: it takes one NAME, of a node or of a %%dag cell.")
        name = words[0]
        if name in self._space and holds_nodes(self._space[name]):
            return value(_start(self._space[name], Flags(name=name)), self._live_views)
        if name in self._cells:
            target, flags = self._cells[name]
            self._space[name] = value(_start(target, flags), self._live_views)
            return self._space[name]

        known: dict[str, bool] = {}  # a set that keeps its order
        for variable, content in self._space.items():
            if is_runnable(content) and not variable.startswith("_"):
                known[variable] = True
        for cell in self._cells:
            known[cell] = True
        raise UsageError(f"%dag run: {unknown_text('node', name, list(known))}")


def _start(target: Any, flags: Flags) -> Run[Any]:
    __tracebackhide__ = True
    return dagnb.run(
        target,
        name=flags.name,
        deadline_s=flags.timeout_s,
        metrics=flags.metrics,
        **_options(flags),
    )


def _options(flags: Flags) -> dict[str, Any]:
    percentile = None if flags.percentile is None else flags.percentile / 100
    return {"planner": flags.planner, "workers": flags.workers, "percentile": percentile}


_WAKE_S = 0.1


def value(run: Run[Any], live_views: LiveViews) -> Any:
    """Wait for a run's value. Raises what Run.result does; an interrupt cancels the run."""
    __tracebackhide__ = True
    try:
        if not live_views.is_notebook:
            _watch(run)
        return run.result()
    finally:
        live_views.settle(run)


async def awaited_value(run: Run[Any], live_views: LiveViews) -> Any:
    """Wait in a running loop, where an interrupt comes as CancelledError."""
    __tracebackhide__ = True
    watching = None
    if not live_views.is_notebook:
        watching = asyncio.ensure_future(asyncio.to_thread(progress.watch, run))
    try:
        return await run
    finally:
        if watching is not None:
            await asyncio.gather(watching, return_exceptions=True)  # it ends when the run does
        live_views.settle(run)


async def interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; an interrupt cancels it at once, in a kernel and in a terminal."""
    __tracebackhide__ = True
    waking = asyncio.ensure_future(_wake())
    restore = _take_interrupts()
    try:
        await work
    finally:
        restore()
        waking.cancel()


async def _wake() -> None:
    """Wake the loop now and then.

    ipykernel takes notice of an interrupt when its loop next wakes, which may be never while a cell
    awaits (issue 881 of ipykernel).
    """
    while True:  # noqa: ASYNC110  # there is no event to wait for
        await asyncio.sleep(_WAKE_S)


def _take_interrupts() -> Callable[[], object]:
    """Let an interrupt cancel the current task, where Python's own handler is installed.

    In a terminal that handler would end the loop and leave the task behind, to go on later. Returns
    a function that restores the handler.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return lambda: None
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"

    def interrupt(number: int, frame: FrameType | None) -> None:
        if asyncio.current_task(loop) is task:
            raise KeyboardInterrupt  # the task is running Python code, not waiting
        loop.call_soon_threadsafe(task.cancel)

    signal.signal(signal.SIGINT, interrupt)
    return lambda: signal.signal(signal.SIGINT, signal.default_int_handler)


def _watch(run: Run[Any]) -> None:
    __tracebackhide__ = True
    try:
        progress.watch(run)
    except KeyboardInterrupt:  # `watch` has cancelled the run by then
        message = f"run {run.id} was cancelled, because waiting for it was interrupted."
        raise KeyboardInterrupt(message) from None


class CellTransformer:
    """An input transformer of one shell: the lines of a cell -> the lines that IPython runs."""

    # IPython skips transformers with side effects when it only asks whether a cell is complete.
    has_side_effects = True

    def __init__(self, shell: InteractiveShell) -> None:
        """Transform the cells of this shell."""
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """Transform a cell; cells without `%%dag` stay as they are.

        Raises UsageError for a cell without a body, SyntaxError for one that is not Python.
        """
        magic, _, line = lines[0].rstrip().partition(" ") if lines else ("", "", "")
        if magic != "%%dag":
            return lines
        if HELP & set(line.split()):  # IPython refuses `%%dag -h` without a body
            return ["%dag -h\n"]
        cell = "".join(lines[1:])
        if not cell.strip():
            parse(line)  # an error in the line is reported first
            raise UsageError("%%dag: the cell is empty below its first line. `%%dag -h` explains.")
        if self._awaits(line, cell):
            (call,) = cell_magic(lines)  # type: ignore[no-untyped-call]  # IPython's
            return [f"await {call}"]
        return lines

    def _awaits(self, line: str, cell: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are shown when the cell is compiled to be run
            return awaits(checked(self._shell, line, cell))
