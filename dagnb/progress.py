"""The progress of a run in a terminal: bars that stay in place, or plain lines in files and pipes.

Everything shown is read from the run's state, ten times a second at most. So several processes can
watch one run, and one that starts late shows the same.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dagnb.errors import TaskError
from dagnb.failure import read_errors
from dagnb.handle import Run
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.run_description import RunDescription, counts
from dagnb.views.markup import plain, shortened
from dagnb.views.text import counts_text
from dagnb.views.wording import counted, seconds_text
from dagnb.worker_label import worker_text

TICK_S = 0.1
LINE_S = 5.0
"""Seconds between two lines without a terminal, at most."""

MAX_ROWS = 12
MAX_ERRORS = 20
"""Rows of functions, and lines of failed attempts, at most."""

_NAME = 28
_STYLES = {RunState.OK: "green", RunState.RUNNING: "blue"}


def watch(run: Run[Any], *, stream: TextIO | None = None) -> None:
    """Shows the run, with its errors, until it is over.

    An interrupt cancels the run and is raised again. stream: standard output by default; one that
    is not a terminal gets lines without control characters.
    """
    out = sys.stdout if stream is None else stream
    display = _Screen(out) if _is_terminal(out) else PlainLines(out)
    try:
        _follow(run, display)
    except KeyboardInterrupt:
        was_running = run.cancel("interrupted")
        outcome = "is cancelled" if was_running else f"was over already ({run.state})"
        display.end(f"interrupted: run {run.id} {outcome}.")
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The tasks of one function, or of all functions without a row of their own.

    counts: state byte -> tasks.
    """

    label: str
    counts: Counter[str]

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return self.counts.total()

    @property
    def n_done(self) -> int:
        """Number of tasks that are done."""
        return self.counts[TaskState.DONE]


def rows(states: str, functions: Sequence[str]) -> list[Row]:
    """Returns a row for each function; the last of MAX_ROWS stands for all others."""
    by_function: dict[str, Counter[str]] = {}
    for state, function in zip(states, functions, strict=True):
        by_function.setdefault(function, Counter())[state] += 1
    all_rows = [Row(label=_label(name), counts=counts) for name, counts in by_function.items()]
    if len(all_rows) <= MAX_ROWS:
        return all_rows
    shown, others = all_rows[: MAX_ROWS - 1], all_rows[MAX_ROWS - 1 :]
    total = Counter[str]()
    for row in others:
        total += row.counts
    return [*shown, Row(label=f"{len(others)} more functions", counts=total)]


def headline(seen: Observation, name: str) -> str:
    """Returns one line: name, state, time, workers, failures and tasks of the run."""
    parts = [
        f"{_label(name)} {seen.state}",
        seconds_text(_elapsed_s(seen)),
        counted(seen.n_instances, "worker"),
    ]
    if seen.errors:
        parts.append(counted(len(seen.errors), "failed attempt"))
    return " · ".join([*parts, counts_text(counts(seen))])


class _Display(Protocol):
    def show(self, seen: Observation, description: RunDescription) -> None: ...
    def print(self, line: str) -> None: ...
    def end(self, line: str) -> None: ...


def _follow(run: Run[Any], display: _Display) -> None:
    seen, description = run.look(), run.description
    shown: set[tuple[str, int]] = set()  # (task, attempt) of the errors
    while True:
        began = time.monotonic()
        # The headline goes before the errors, because at the first look the run may have failed
        # already.
        display.show(seen, description)
        if len(shown) < len(seen.errors):  # parsing them all takes long when there are many
            for error in read_errors(seen.errors, description.names, seen.failed):
                if (error.task, error.attempt) not in shown:
                    shown.add((error.task, error.attempt))
                    _print_error(error, len(shown), display)

        if seen.state is not RunState.RUNNING:
            break
        time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))
        seen = run.look(seen)
    display.end(_summary(seen))


def _print_error(error: TaskError, n: int, display: _Display) -> None:
    if n <= MAX_ERRORS:
        shown = replace(error, worker=worker_text(error.worker))
        display.print(f"error: {_one_line(shown.line())}")
    elif n == MAX_ERRORS + 1:
        display.print("error: more attempts fail; `dagnb errors RUN` shows them")


def _summary(seen: Observation) -> str:
    text = f"run {seen.run} {seen.state}"
    if seen.reason and seen.state is not RunState.OK:
        text += f" ({_one_line(seen.reason)})"
    return f"{text} · {counts_text(counts(seen))} · makespan {seconds_text(_elapsed_s(seen))}"


class PlainLines:
    """The display for files, pipes and logs: few lines, each of them complete."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._tenth = -1
        self._printed_at = 0.0

    def show(self, seen: Observation, description: RunDescription) -> None:
        """Prints a line at the start, after each tenth of the tasks, and after LINE_S seconds."""
        tenth = 10 * seen.states.count(TaskState.DONE) // len(seen.states)
        is_due = tenth > self._tenth or seen.now - self._printed_at >= LINE_S
        if self._tenth < 0:
            self.print(
                f"run {seen.run}: {_label(description.name)}, {counted(len(seen.states), 'task')}"
            )
        elif is_due and seen.state is RunState.RUNNING:
            self.print(headline(seen, description.name))
        else:
            return
        self._tenth, self._printed_at = tenth, seen.now

    def print(self, line: str) -> None:
        """Writes one line at once."""
        self._out.write(f"{line}\n")
        self._out.flush()

    def end(self, line: str) -> None:
        """Writes the last line."""
        self.print(line)


class _Screen:
    """The display for a terminal: a headline and a bar for each function, with errors above."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, markup=False, highlight=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def show(self, seen: Observation, description: RunDescription) -> None:
        """Draws the state in place of the last one."""
        style = f"bold {_STYLES.get(seen.state, 'red')}"
        title = Text(
            headline(seen, description.name), style=style, no_wrap=True, overflow="ellipsis"
        )
        self._live.update(
            Group(title, _bars(rows(seen.states, description.functions))), refresh=True
        )

    def print(self, line: str) -> None:
        """Prints a line that stays, above the bars."""
        self._console.print(Text(line, style="red"))

    def end(self, line: str) -> None:
        """Leaves the bars as they are, and prints the last line below."""
        self._live.stop()
        self._console.print(Text(line))


def _bars(functions: Sequence[Row]) -> Table:
    table = Table.grid(padding=(0, 1))
    for row in functions:
        style = "red" if row.counts[TaskState.FAILED] else "blue"
        bar = ProgressBar(
            row.n_tasks, row.n_done, width=32, complete_style=style, finished_style="green"
        )
        # The bar shows how many are done, so neither these nor the waiting ones are counted in
        # words.
        states = [state for state in TaskState if state not in _NOT_COUNTED]
        active = [f"{row.counts[state]:,} {state.word}" for state in states if row.counts[state]]
        done = Text(f"{row.n_done:,}/{row.n_tasks:,}")
        table.add_row(Text(row.label), bar, done, Text(", ".join(active)))
    return table


_NOT_COUNTED = (TaskState.DONE, TaskState.WAITING, TaskState.READY)


def _is_terminal(out: TextIO) -> bool:
    return out.isatty() and not Console(file=out).is_dumb_terminal


def _elapsed_s(seen: Observation) -> float:
    return max(0.0, (seen.finished_at or seen.now) - seen.submitted_at)


def _label(name: str) -> str:
    return shortened(_one_line(name), _NAME)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
