"""The progress of a run, on a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import threading
from dataclasses import replace

import pytest

import dagnb
from dagnb import session, task
from dagnb.handle import Run
from dagnb.progress import LINE_S, MAX_ERRORS, MAX_ROWS, PlainLines, rows, watch
from dagnb.protocol.messages import RunState

PATIENCE_S = 20


class Gate:
    """For tasks to wait at. A class, because it is pickled by name: its event stays this one."""

    opened = threading.Event()


@pytest.fixture(autouse=True)
def closed_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)
    Gate.opened.clear()


class Opening(io.StringIO):
    """Opens the gate when these words are written to it."""

    def __init__(self, words: str, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._words, self._is_terminal = words, is_terminal

    def write(self, text: str) -> int:
        if self._words in text:
            Gate.opened.set()
        return super().write(text)

    def isatty(self) -> bool:
        return self._is_terminal


@task
def wait_at_the_gate() -> bool:
    assert Gate.opened.wait(PATIENCE_S), "the gate stayed closed"
    return True


@task
def refuse(number: int) -> int:
    raise ValueError(f"[bold]{number}[/bold] \x1b[31mrefused\nlate")


@task
def count(*parts: object) -> int:
    return len(parts)


def with_a_failure() -> Run[tuple[bool, int]]:
    """wait_at_the_gate, refuse: the second fails while the first still waits."""
    return dagnb.run(
        wait_at_the_gate(), refuse(3), workers="inline", on_error="continue", name="both"
    )


@pytest.mark.parametrize("is_terminal", [False, True])
def test_an_error_is_shown_while_the_run_still_goes(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Opening("refused", is_terminal=is_terminal)

    watch(with_a_failure(), stream=out)

    assert Gate.opened.is_set()
    text = out.getvalue()
    assert text.index("refused") < text.rindex("makespan")


def test_without_a_terminal_there_are_lines_and_no_control_characters() -> None:
    out = Opening("refused")
    run = with_a_failure()

    watch(run, stream=out)

    first, *_, last = lines = out.getvalue().splitlines()
    assert first == f"run {run.id}: both, 2 tasks"
    assert "error: task 'refuse-0' attempt 1 on worker " in out.getvalue()
    assert [line for line in lines if line.endswith("ValueError: [bold]3[/bold] refused late")]
    assert last.startswith(f"run {run.id} failed")
    assert "makespan " in last
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out.getvalue())


def test_an_error_that_is_there_at_the_first_look_comes_after_the_line_of_the_run() -> None:
    out = io.StringIO()
    run = dagnb.run(refuse(3), workers="inline", name="late")
    with contextlib.suppress(dagnb.TaskFailedError):
        run.result(30)

    watch(run, stream=out)

    first, second, *_ = out.getvalue().splitlines()
    assert first == f"run {run.id}: late, 1 task"
    assert second.startswith("error: task 'refuse-0'")


def test_a_dumb_terminal_gets_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Opening("refused", is_terminal=True)

    run = with_a_failure()

    watch(run, stream=out)

    assert out.getvalue().startswith(f"run {run.id}: both, 2 tasks\n")
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_there_is_a_bar_a_function_and_errors_are_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    out = Opening("refused", is_terminal=True)

    watch(with_a_failure(), stream=out)

    text = out.getvalue()
    assert "\x1b[2K" in text
    assert "━" in text
    assert "[bold]3[/bold] refused late" in text
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"wait_at_the_gate ━+ 1/1", bare)
    assert re.search(r"refuse +━+ 0/1 1 failed", bare)


def test_many_errors_are_told_up_to_a_limit() -> None:
    out = Opening("more attempts fail")
    refused = [refuse(n) for n in range(MAX_ERRORS + 5)]

    watch(
        dagnb.run(wait_at_the_gate(), *refused, workers="inline", on_error="continue"), stream=out
    )

    told = [line for line in out.getvalue().splitlines() if line.startswith("error:")]
    assert len(told) == MAX_ERRORS + 1
    assert "dagnb errors" in told[-1]


def test_progress_is_a_line_a_tenth_and_a_line_after_a_silence() -> None:
    run = count().run(workers="inline")
    run.result(PATIENCE_S)
    begin = replace(
        run.look(),
        state=RunState.RUNNING,
        states="W" * 200,
        n_instances=2,
        submitted_at=0,
        finished_at=0,
    )
    out = io.StringIO()
    lines = PlainLines(out)

    for n in range(200):
        lines.show(replace(begin, states="D" * n + "W" * (200 - n), now=n / 100), run.description)
    assert len(out.getvalue().splitlines()) == 10
    lines.show(replace(begin, states="D" * 199 + "X", now=2.0 + LINE_S), run.description)

    assert (
        out.getvalue().splitlines()[-1]
        == "count running · 7 s · 2 workers · 199 of 200 tasks done, 1 running"
    )


def test_an_interrupt_cancels_the_run_and_says_so() -> None:
    out = Opening("interrupted")
    run = wait_at_the_gate().run(workers="inline")
    ringing = Ringing(out)

    with pytest.raises(KeyboardInterrupt):
        watch(run, stream=ringing)

    assert run.state == "cancelled"
    assert out.getvalue().endswith(f"interrupted: run {run.id} is cancelled.\n")


class Ringing(io.StringIO):
    """Interrupts this process at the first write; hands on what is written."""

    def __init__(self, out: io.StringIO) -> None:
        super().__init__()
        self._out, self._has_rung = out, False

    def write(self, text: str) -> int:
        written = self._out.write(text)
        if not self._has_rung:
            self._has_rung = True
            signal.raise_signal(
                signal.SIGINT
            )  # to this very thread, so that it is not lost on the way
        return written


def test_more_functions_than_rows_share_the_last_one() -> None:
    functions = [f"f{n}" for n in range(40)] + ["f0"]

    shown = rows("D" * 20 + "W" * 20 + "D", functions)

    assert len(shown) == MAX_ROWS
    assert (shown[0].label, shown[0].n_done, shown[0].n_tasks) == ("f0", 2, 2)
    assert (shown[-1].label, shown[-1].n_done, shown[-1].n_tasks) == (
        f"{41 - MAX_ROWS} more functions",
        9,
        29,
    )
