"""A run as it goes, for whoever looks on: a picture that stays in place on a terminal, plain lines anywhere else.

Everything is read from the run's state, at most ten times a second; who looks later, or twice, sees the same.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dagnb.errors import TaskError
from dagnb.handle import Run
from dagnb.protocol.messages import Observation, RunState, TaskState
from dagnb.protocol.run_description import RunDescription, counts, errors_of
from dagnb.views.markup import plain, shortened
from dagnb.views.text import counts_text
from dagnb.views.wording import counted, seconds_text

TICK_S = 0.1
LINE_S = 5.0
"""without a terminal: a line after so many seconds at the latest, and after each tenth of the tasks"""

MAX_ROWS = 12
MAX_ERRORS = 20
"""so many functions have a row, so many failed attempts a line"""

_NAME = 28
_STYLES = {RunState.OK: "green", RunState.RUNNING: "blue"}


def watch(run: Run[Any], *, stream: TextIO | None = None) -> None:
    """Show the run until it is over, errors as they come. An interrupt cancels the run, says so, and is raised again.

    stream: standard output by default. What is no terminal gets lines without control characters.
    """
    out = sys.stdout if stream is None else stream
    display = _Screen(out) if _is_terminal(out) else PlainLines(out)
    try:
        _follow(run, display)
    except KeyboardInterrupt:
        was_running = run.cancel("interrupted")
        said = "is cancelled" if was_running else f"was over already ({run.state})"
        display.end(f"interrupted: run {run.id} {said}.")
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One function, or all the functions that have no row of their own. counts: state byte -> tasks."""

    label: str
    counts: Counter[str]

    @property
    def n_tasks(self) -> int:
        """How many tasks it has."""
        return self.counts.total()

    @property
    def n_done(self) -> int:
        """How many of them are done."""
        return self.counts[TaskState.DONE]


def rows(states: str, functions: Sequence[str]) -> list[Row]:
    """A row a function, in order of appearance; the last of MAX_ROWS stands for all that are left."""
    by_function: dict[str, Counter[str]] = {}
    for state, function in zip(states, functions, strict=True):
        by_function.setdefault(function, Counter())[state] += 1
    found = [Row(label=_label(function), counts=mine) for function, mine in by_function.items()]
    if len(found) <= MAX_ROWS:
        return found
    shown, rest = found[: MAX_ROWS - 1], found[MAX_ROWS - 1 :]
    together = sum((row.counts for row in rest), Counter[str]())
    return [*shown, Row(label=f"{len(rest)} more functions", counts=together)]


def headline(seen: Observation, name: str) -> str:
    """Name, state, time, workers, failures, tasks: the run in one line."""
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
    def say(self, line: str) -> None: ...
    def end(self, line: str) -> None: ...


def _follow(run: Run[Any], display: _Display) -> None:
    """Look, show, wait a tick, until the run is over."""
    seen, description = run.look(), run.description
    told: set[tuple[str, int]] = set()
    while True:
        began = time.monotonic()
        display.show(seen, description)  # first: at the first look the run may have failed already
        for error in errors_of(seen, description) if len(told) < len(seen.errors) else ():
            if (error.task, error.attempt) not in told:
                told.add((error.task, error.attempt))
                _tell(error, len(told), display)
        if seen.state is not RunState.RUNNING:
            break
        time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))
        seen = run.look(seen)
    display.end(_verdict(seen))


def _tell(error: TaskError, n: int, display: _Display) -> None:
    if n <= MAX_ERRORS:
        display.say(f"error: {_one_line(error.line())}")
    elif n == MAX_ERRORS + 1:
        display.say("error: more attempts fail; `dagnb errors RUN` shows them")


def _verdict(seen: Observation) -> str:
    told = f"run {seen.run} {seen.state}"
    if seen.reason and seen.state is not RunState.OK:
        told += f" ({_one_line(seen.reason)})"
    return f"{told} · {counts_text(counts(seen))} · makespan {seconds_text(_elapsed_s(seen))}"


class PlainLines:
    """For files, pipes and logs: few lines, each of them complete."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._tenth = -1
        self._said_at = 0.0

    def show(self, seen: Observation, description: RunDescription) -> None:
        """A line at the start, then when another tenth is done or some seconds have gone."""
        tenth = 10 * seen.states.count(TaskState.DONE) // len(seen.states)
        if self._tenth < 0:
            self.say(
                f"run {seen.run}: {_label(description.name)}, {counted(len(seen.states), 'task')}"
            )
        elif seen.state is RunState.RUNNING and (
            tenth > self._tenth or seen.now - self._said_at >= LINE_S
        ):
            self.say(headline(seen, description.name))
        else:
            return
        self._tenth, self._said_at = tenth, seen.now

    def say(self, line: str) -> None:
        """One line, at once."""
        self._out.write(f"{line}\n")
        self._out.flush()

    def end(self, line: str) -> None:
        """The last line."""
        self.say(line)


class _Screen:
    """For a terminal: a headline and a bar a function, drawn over and over; errors above it."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, markup=False, highlight=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def show(self, seen: Observation, description: RunDescription) -> None:
        """Draw the state."""
        style = f"bold {_STYLES.get(seen.state, 'red')}"
        title = Text(
            headline(seen, description.name), style=style, no_wrap=True, overflow="ellipsis"
        )
        self._live.update(
            Group(title, _bars(rows(seen.states, description.functions))), refresh=True
        )

    def say(self, line: str) -> None:
        """A line that stays, above the picture."""
        self._console.print(Text(line, style="red"))

    def end(self, line: str) -> None:
        """Leave the picture as it is and go on below."""
        self._live.stop()
        self._console.print(Text(line))


def _bars(found: Sequence[Row]) -> Table:
    table = Table.grid(padding=(0, 1))
    for row in found:
        style = "red" if row.counts[TaskState.FAILED] else "blue"
        bar = ProgressBar(
            row.n_tasks, row.n_done, width=32, complete_style=style, finished_style="green"
        )
        others = [
            (row.counts[state], state.word)
            for state in TaskState
            if state not in _CALM and row.counts[state]
        ]
        words = ", ".join(f"{n:,} {word}" for n, word in others)
        table.add_row(Text(row.label), bar, Text(f"{row.n_done:,}/{row.n_tasks:,}"), Text(words))
    return table


_CALM = (TaskState.DONE, TaskState.WAITING, TaskState.READY)


def _is_terminal(out: TextIO) -> bool:
    return out.isatty() and not Console(file=out).is_dumb_terminal


def _elapsed_s(seen: Observation) -> float:
    return max(0.0, (seen.finished_at or seen.now) - seen.submitted_at)


def _label(name: str) -> str:
    return shortened(_one_line(name), _NAME)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
