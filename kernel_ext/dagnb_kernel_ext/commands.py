"""The subcommands of `%dag` but `run`: each asks dagnb one thing and shows the answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import dagnb
from dagnb import client
from dagnb.doctor import IN_FORCE_HEADS, examine, findings_text, in_force
from dagnb.errors import AmbiguousNameError, RunNotStoredError, UnknownNameError
from dagnb.graph.task import Task
from dagnb.handle import Run
from dagnb.protocol.messages import RunState
from dagnb.protocol.naming import Purpose, find_task
from dagnb.storage.interface import RunLine
from dagnb.views.errors import errors_html, errors_text
from dagnb.views.markup import escaped, plain
from dagnb.views.page import fragment, pre, table
from dagnb.views.placeholder import attach_command
from dagnb.views.text import counts_text
from dagnb.views.wording import moment_text, seconds_text
from dagnb.views.worker_slots import EMPTY, HEADS, lines, rows
from dagnb_kernel_ext.output import put, say
from dagnb_kernel_ext.widgets import LiveViews

_SHOWN = 20


class CommandContext:
    """Where the subcommands find what they are about."""

    def __init__(self, shell: InteractiveShell, live_views: LiveViews) -> None:
        """No run was started yet. tasks: the names of the latest run's. cells: of the %%dag cells that were run."""
        self.shell = shell
        self.live_views = live_views
        self.tasks: tuple[str, ...] = ()
        self.cells: Collection[str] = ()
        self._runs: dict[str, Run[object]] = {}
        self._listed: dict[str, str] = {}

    @property
    def latest(self) -> Run[object] | None:
        """What is meant when no run is given: the one that was started or attached to last."""
        return next(reversed(self._runs.values()), None)

    @property
    def ids(self) -> list[str]:
        """Of the runs that were started here or attached to, the latest first."""
        return list(reversed(self._runs))

    @property
    def names(self) -> dict[str, str]:
        """Id -> name of the runs that were started here, attached to or listed, the latest first; no store is asked."""
        here = {run: self._runs[run].name for run in self.ids}
        return here | {run: name for run, name in self._listed.items() if run not in here}

    def note(self, lines: Iterable[RunLine]) -> None:
        """These runs were listed: they can be completed from now on."""
        self._listed = {line.run: line.name for line in lines}

    def remember(self, run: Run[object]) -> None:
        """Take the run for the latest. Asks the store only about a run that was planned elsewhere."""
        self.tasks = run.plan.names if run.plan is not None else run.description.names
        self._runs.pop(run.id, None)
        self._runs[run.id] = run
        for old in self.ids[_SHOWN:]:
            del self._runs[old]

    def drop(self, run: Run[object]) -> None:
        """It was forgotten."""
        self._runs.pop(run.id, None)
        self._listed.pop(run.id, None)

    def run(self, command: str, words: Sequence[str]) -> Run[object]:
        """The run meant: a variable, or what dagnb.client.find_run finds; by default the latest of this notebook."""
        if len(words) > 1:
            raise UsageError(f"%dag {command}: it takes one RUN, not {' '.join(words)!r}.")
        if not words:
            if self.latest is None:
                raise UsageError(
                    f"%dag {command}: this notebook started no run yet; `%dag runs` lists others."
                )
            return self.latest
        held = self.shell.user_ns.get(words[0])
        if isinstance(held, Run):
            return held
        with _refusing(command):
            known = client.find_run(words[0], purpose=_PURPOSES.get(command, Purpose.LOOK))
            return self._runs.get(known.run) or dagnb.attach(known.run)

    def task(self, command: str, words: Sequence[str]) -> tuple[str, Run[object]]:
        """The task meant, and its run."""
        if not words:
            raise UsageError(f"%dag {command}: it takes the name of a task, such as merge-0.")
        run = self.run(command, words[1:])
        with _refusing(command):
            return find_task(words[0], run.description.names), run


_PURPOSES = {"cancel": Purpose.CANCEL, "forget": Purpose.FORGET}


@contextlib.contextmanager
def _refusing(command: str) -> Iterator[None]:
    """Show a name that means nothing, or several things, as a wrong line: without a traceback."""
    try:
        yield
    except (AmbiguousNameError, UnknownNameError, RunNotStoredError) as error:
        raise UsageError(f"%dag {command}: {error}") from error


def _runs(desk: CommandContext, words: Sequence[str]) -> None:
    _nothing("runs", words)
    listed = dagnb.runs()[:_SHOWN]
    desk.note(listed)
    rows = [
        (
            line.run,
            line.name,
            str(line.state),
            f"{line.n_tasks:,}",
            moment_text(line.submitted_at),
            _lasted(line),
        )
        for line in listed
    ]
    _show_table(
        ("run", "name", "state", "tasks", "started", "took"), rows, empty="The store knows no runs."
    )


def _status(desk: CommandContext, words: Sequence[str]) -> None:
    run = desk.run("status", words)
    say(f"run {run.id} {run.state}: {counts_text(run.status)}")


def _errors(desk: CommandContext, words: Sequence[str]) -> None:
    errors = desk.run("errors", words).errors
    put({"text/html": errors_html(errors), "text/plain": errors_text(errors)})


def _log(desk: CommandContext, words: Sequence[str]) -> None:
    task, run = desk.task("log", words)
    text = run.log(task)
    if text:
        put({"text/html": fragment(pre(text)), "text/plain": plain(text).rstrip("\n")})
    else:
        say(f"there is no output of task '{task}'{'' if run.done else ' yet'}.")


def _why(desk: CommandContext, words: Sequence[str]) -> None:
    task, run = desk.task("why", words)
    say(run.why(task))


def _cancel(desk: CommandContext, words: Sequence[str]) -> None:
    run = desk.run("cancel", words)
    say(
        f"run {run.id} is cancelled."
        if run.cancel()
        else f"run {run.id} was over already ({run.state})."
    )


def _attach(desk: CommandContext, words: Sequence[str]) -> Run[object] | None:
    is_unnamed = not words and desk.latest is None
    run = _only_running() if is_unnamed else desk.run("attach", words)
    if run is not None:
        desk.remember(run)
        desk.live_views.show(run)
    return run


def _only_running() -> Run[object] | None:
    """The run to attach to where this notebook started none: the one that is running.

    When several are, lists them with the line to type for each. Raises UsageError when none is.
    """
    running = [line for line in dagnb.runs() if line.state is RunState.RUNNING]
    if not running:
        raise UsageError(
            "%dag attach: this notebook started no run yet, and no other run is going on; "
            "`%dag runs` lists those that are over."
        )
    if len(running) == 1:
        (line,) = running
        say(
            f"attached to the only run that is going on: {line.name}, started {moment_text(line.submitted_at)}."
        )
        return dagnb.attach(line.run)

    rows = [
        (
            line.name,
            str(line.state),
            moment_text(line.submitted_at),
            f"{line.n_tasks:,}",
            attach_command(line.run),
        )
        for line in running
    ]
    _show_table(("name", "state", "started", "tasks", "to see it, type"), rows)
    return None


def _forget(desk: CommandContext, words: Sequence[str]) -> None:
    if not words:
        raise UsageError("%dag forget: it takes a RUN; `%dag runs` lists them.")
    run = desk.run("forget", words)
    run.forget()
    desk.drop(run)
    say(f"run {run.id} is forgotten.")


def _workers(desk: CommandContext, words: Sequence[str]) -> None:
    _nothing("workers", words)
    _show_table(HEADS, rows(client.everywhere()), empty=EMPTY)


def _predict(desk: CommandContext, words: Sequence[str]) -> None:
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() for word in words[1:]):
        raise UsageError(
            "%dag predict: it takes the name of a FUNCTION, and the BYTES it reads if you like."
        )
    held = desk.shell.user_ns.get(words[0])
    n_bytes = int(words[1]) if words[1:] else None
    try:
        found = dagnb.predict(held if isinstance(held, Task) else words[0], n_bytes=n_bytes)
    except UnknownNameError as error:
        raise UsageError(f"%dag predict: {error}") from None
    put(found._repr_mimebundle_())


def _config(desk: CommandContext, words: Sequence[str]) -> None:
    _nothing("config", words)
    _show_table(IN_FORCE_HEADS, [setting.cells for setting in in_force()])


def _doctor(desk: CommandContext, words: Sequence[str]) -> None:
    _nothing("doctor", words)
    say(findings_text(examine()))


COMMANDS: dict[str, Callable[[CommandContext, Sequence[str]], object]] = {
    "runs": _runs,
    "status": _status,
    "errors": _errors,
    "log": _log,
    "why": _why,
    "cancel": _cancel,
    "attach": _attach,
    "forget": _forget,
    "workers": _workers,
    "predict": _predict,
    "config": _config,
    "doctor": _doctor,
}
"""subcommand -> what it does; what it returns is the cell's value"""


def _nothing(command: str, words: Sequence[str]) -> None:
    if words:
        raise UsageError(f"%dag {command}: it takes nothing, not {' '.join(words)!r}.")


def _show_table(heads: Sequence[str], found: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """A table as HTML and as text."""
    cells = list(found)
    if not cells:
        say(empty)
        return
    html = fragment(table(heads, [[escaped(cell) for cell in row] for row in cells]))
    put({"text/html": html, "text/plain": "\n".join(lines(heads, cells))})


def _lasted(line: RunLine) -> str:
    return seconds_text(line.finished_at - line.submitted_at) if line.finished_at else ""
