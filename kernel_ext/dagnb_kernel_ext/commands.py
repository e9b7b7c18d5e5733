"""The subcommands of `%dag`, except `run`: each asks dagnb one thing and shows the answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import dagnb
from dagnb import client, session
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
from dagnb.views.store_usage import USAGE_HEADS, usage_cells, usage_text
from dagnb.views.text import counts_text
from dagnb.views.view import attach_command
from dagnb.views.wording import moment_text, seconds_text
from dagnb.views.worker_slots import EMPTY, HEADS, lines, rows
from dagnb_kernel_ext.widgets import LiveViews, put, say

_SHOWN = 20
"""runs that are listed, and that a notebook remembers"""


class CommandContext:
    """The runs, tasks and cells of a notebook that subcommands refer to."""

    def __init__(self, shell: InteractiveShell, live_views: LiveViews) -> None:
        """Begin without runs.

        tasks: names of the tasks of the latest run. cells: names of the `%%dag` cells that ran.
        """
        self.shell = shell
        self.live_views = live_views
        self.tasks: tuple[str, ...] = ()
        self.cells: Collection[str] = ()
        self._runs: dict[str, Run[object]] = {}
        self._listed: dict[str, str] = {}

    @property
    def latest(self) -> Run[object] | None:
        """The run that was started or attached to last; commands without a RUN mean it."""
        return next(reversed(self._runs.values()), None)

    @property
    def ids(self) -> list[str]:
        """Ids of the runs that were started here or attached to, the latest first."""
        return list(reversed(self._runs))

    @property
    def names(self) -> dict[str, str]:
        """Id -> name of the runs that this notebook started, attached to or listed.

        The latest is first. No store is asked.
        """
        names = {run: self._runs[run].name for run in self.ids}
        for run, name in self._listed.items():
            names.setdefault(run, name)
        return names

    def note(self, lines: Iterable[RunLine]) -> None:
        """Remember the names of runs that were listed, for completion."""
        self._listed = {line.run: line.name for line in lines}

    def remember(self, run: Run[object]) -> None:
        """Make the run the latest. Asks the store only about a run that was planned elsewhere."""
        plan = run.plan_now
        self.tasks = plan.names if plan is not None else run.description.names
        self._runs.pop(run.id, None)  # else the key would keep its old position in the dict
        self._runs[run.id] = run
        for old in self.ids[_SHOWN:]:
            del self._runs[old]

    def drop(self, run: Run[object]) -> None:
        """Remove a run that was forgotten."""
        self._runs.pop(run.id, None)
        self._listed.pop(run.id, None)

    def run(self, command: str, words: Sequence[str]) -> Run[object]:
        """The run that a line means: a variable, else what dagnb.client.find_run finds.

        Without words it is the latest run of this notebook. Raises UsageError.
        """
        if len(words) > 1:
            raise UsageError(f"%dag {command}: it takes one RUN, not {' '.join(words)!r}.")
        if not words:
            if self.latest is None:
                raise UsageError(
                    f"%dag {command}: this notebook started no run yet; `%dag runs` lists others."
                )
            return self.latest
        variable = self.shell.user_ns.get(words[0])
        if isinstance(variable, Run):
            return variable
        with _refusing(command):
            known = client.find_run(words[0], purpose=_PURPOSES.get(command, Purpose.LOOK))
            return self._runs.get(known.run) or dagnb.attach(known.run)

    def task(self, command: str, words: Sequence[str]) -> tuple[str, Run[object]]:
        """The task that a line means, and its run. Raises UsageError."""
        if not words:
            raise UsageError(f"%dag {command}: it takes the name of a task, such as merge-0.")
        run = self.run(command, words[1:])
        with _refusing(command):
            return find_task(words[0], run.description.names), run


# A name of several runs is enough to look at the latest, but not to end or delete one.
_PURPOSES = {"cancel": Purpose.CANCEL, "forget": Purpose.FORGET}


@contextlib.contextmanager
def _refusing(command: str) -> Iterator[None]:
    """Report unknown and ambiguous names as UsageError, which IPython shows without traceback."""
    try:
        yield
    except (AmbiguousNameError, UnknownNameError, RunNotStoredError) as error:
        raise UsageError(f"%dag {command}: {error}") from error


def _runs(context: CommandContext, words: Sequence[str]) -> None:
    _nothing("runs", words)
    listed = dagnb.runs()[:_SHOWN]
    context.note(listed)
    usage = session.usage(session.settings())
    rows = []
    for line in listed:
        started, n_tasks = moment_text(line.submitted_at), f"{line.n_tasks:,}"
        facts = (line.run, line.name, str(line.state), n_tasks, started, _duration(line))
        rows.append((*facts, *usage_cells(usage.runs.get(line.run))))
    heads = ("run", "name", "state", "tasks", "started", "took", *USAGE_HEADS)
    _show_table(heads, rows, empty="The store knows no runs.")
    say(usage_text(usage))


def _status(context: CommandContext, words: Sequence[str]) -> None:
    run = context.run("status", words)
    say(f"run {run.id} {run.state}: {counts_text(run.status)}")


def _errors(context: CommandContext, words: Sequence[str]) -> None:
    errors = context.run("errors", words).errors
    put({"text/html": errors_html(errors), "text/plain": errors_text(errors)})


def _log(context: CommandContext, words: Sequence[str]) -> None:
    task, run = context.task("log", words)
    text = run.log(task)
    if text:
        put({"text/html": fragment(pre(text)), "text/plain": plain(text).rstrip("\n")})
    else:
        yet = "" if run.done else " yet"
        say(f"there is no output of task '{task}'{yet}.")


def _why(context: CommandContext, words: Sequence[str]) -> None:
    if not words:
        say(context.run("why", words).why())
        return
    task, run = context.task("why", words)
    say(run.why(task))


def _cancel(context: CommandContext, words: Sequence[str]) -> None:
    run = context.run("cancel", words)
    if run.cancel():
        say(f"run {run.id} is cancelled.")
    else:
        say(f"run {run.id} was over already ({run.state}).")


def _attach(context: CommandContext, words: Sequence[str]) -> Run[object] | None:
    is_unnamed = not words and context.latest is None
    run = _only_running() if is_unnamed else context.run("attach", words)
    if run is not None:
        context.remember(run)
        context.live_views.show(run)
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
        started = moment_text(line.submitted_at)
        say(f"attached to the only run that is going on: {line.name}, started {started}.")
        return dagnb.attach(line.run)

    rows = []
    for line in running:
        started, n_tasks = moment_text(line.submitted_at), f"{line.n_tasks:,}"
        rows.append((line.name, str(line.state), started, n_tasks, attach_command(line.run)))
    _show_table(("name", "state", "started", "tasks", "to see it, type"), rows)
    return None


def _forget(context: CommandContext, words: Sequence[str]) -> None:
    if not words:
        # Unlike the other subcommands, this one takes no default run: it cannot be undone.
        raise UsageError("%dag forget: it takes a RUN; `%dag runs` lists them.")
    run = context.run("forget", words)
    run.forget()
    context.drop(run)
    say(f"run {run.id} is forgotten.")


def _workers(context: CommandContext, words: Sequence[str]) -> None:
    _nothing("workers", words)
    _show_table(HEADS, rows(client.everywhere()), empty=EMPTY)


def _predict(context: CommandContext, words: Sequence[str]) -> None:
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() for word in words[1:]):
        raise UsageError(
            "%dag predict: it takes the name of a FUNCTION, and the BYTES it reads if you like."
        )
    # A variable that holds the task gives its hints, too; a name gives past runs only.
    variable = context.shell.user_ns.get(words[0])
    function = variable if isinstance(variable, Task) else words[0]
    n_bytes = int(words[1]) if words[1:] else None
    try:
        forecast = dagnb.predict(function, n_bytes=n_bytes)
    except UnknownNameError as error:
        raise UsageError(f"%dag predict: {error}") from None
    put(forecast._repr_mimebundle_())


def _config(context: CommandContext, words: Sequence[str]) -> None:
    _nothing("config", words)
    _show_table(IN_FORCE_HEADS, [setting.cells for setting in in_force()])


def _doctor(context: CommandContext, words: Sequence[str]) -> None:
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
"""subcommand -> function; what it returns is the cell's value"""


def _nothing(command: str, words: Sequence[str]) -> None:
    if words:
        raise UsageError(f"%dag {command}: it takes nothing, not {' '.join(words)!r}.")


def _show_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Show a table as HTML and as text; `empty` instead of one without rows."""
    if not rows:
        say(empty)
        return
    html = fragment(table(heads, [list(map(escaped, row)) for row in rows]))
    put({"text/html": html, "text/plain": "\n".join(lines(heads, rows))})


def _duration(line: RunLine) -> str:
    if not line.finished_at:  # it is running, or its end is unknown
        return ""
    return seconds_text(line.finished_at - line.submitted_at)
