"""Errors for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.errors import Cause, Frame, TaskError
from dagnb.views.errors import (
    MAX_ERRORS,
    MAX_MESSAGE,
    MAX_OUTPUT,
    errors_html,
    errors_lines,
    errors_text,
    trace_lines,
)
from tests.unit.views.samples import HOSTILE, Tags

OURS = {"div", "style", "article", "h3", "span", "p", "pre", "details", "summary"}


def failed(**changes: object) -> TaskError:
    fields: dict[str, object] = {
        "task": "outliers-0",
        "attempt": 3,
        "worker": "w2",
        "type": "ValueError",
        "message": "no rows",
    }
    return TaskError(**(fields | changes))  # type: ignore[arg-type]


def test_an_error_tells_task_attempt_worker_type_and_message() -> None:
    error = failed(final=True, exit_code=1, signal=9)
    html = Tags(errors_html([error])).text

    assert "outliers-0 ValueError: no rows" in html
    assert "attempt 3 on w2, not tried again, exit code 1, signal 9" in html
    assert errors_text([error]).splitlines() == [
        "task 'outliers-0', attempt 3 on w2, not tried again, exit code 1, signal 9",
        "ValueError: no rows",
    ]


def test_without_frames_pythons_own_traceback_is_shown() -> None:
    error = failed(
        traceback=(
            "Traceback (most recent call last):\n",
            '  File "a.py", line 1\n',
            "ValueError: no rows\n",
        )
    )

    assert trace_lines(error) == [
        "Traceback (most recent call last):",
        '  File "a.py", line 1',
        "ValueError: no rows",
    ]


def test_pythons_text_is_left_out_where_it_only_repeats_the_message() -> None:
    error = failed(traceback=("ValueError: no rows\n",))

    assert trace_lines(error) == []
    assert errors_text([error]).count("no rows") == 1


def test_the_own_message_follows_the_frames_only_where_something_follows_it() -> None:
    frame = Frame(file="Cell In[4]", line=7, function="outliers")

    assert trace_lines(failed(frames=(frame,))) == ["Cell In[4], line 7, in outliers"]
    assert trace_lines(failed(frames=(frame,), notes=("look at row 3",))) == [
        "Cell In[4], line 7, in outliers",
        "",
        "ValueError: no rows",
        "look at row 3",
    ]


def test_an_error_is_told_in_full_for_a_terminal() -> None:
    frame = Frame(
        file="Cell In[4]", line=7, function="outliers", source="    raise ValueError('no rows')"
    )
    cause = Cause(how="cause", type="KeyError", message="'z'")

    assert errors_text(
        [failed(frames=(frame,), causes=(cause,), stdout_tail="row 1\nrow 2\n")]
    ).splitlines() == [
        "task 'outliers-0', attempt 3 on w2",
        "KeyError: 'z'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Cell In[4], line 7, in outliers",
        "----> 7 raise ValueError('no rows')",
        "",
        "ValueError: no rows",
        "stdout:",
        "  row 1",
        "  row 2",
    ]


def test_lines_are_as_many_as_one_asks_for() -> None:
    lines = errors_lines([failed(stderr_tail="e" * 900)] * 4, most=2, n_output=100)

    assert [line.text for line in lines if "more error" in line.text] == ["and 2 more errors"]
    assert max(len(line.text) for line in lines) == 102


def test_stderr_is_shown_as_text_without_colours_and_progress_bars_once() -> None:
    error = failed(stderr_tail="10%\r100%\n\x1b[31mred\x1b[0m", stdout_tail="   ")

    assert Tags(errors_html([error])).text.endswith("stderr100%\nred")
    assert errors_text([error]).splitlines()[-3:] == ["stderr:", "  100%", "  red"]
    assert "stdout" not in errors_text([error])


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_from_a_task_becomes_markup(text: str) -> None:
    frame = Frame(file=text, line=1, function=text, source=text, column=0, end_column=3)
    cause = Cause(
        how="part",
        type=text,
        message=text,
        frames=(replace(frame, is_library=True),),
        notes=(text,),
    )
    told = {"type": text, "message": text, "frames": (frame,), "causes": (cause,), "notes": (text,)}
    error = failed(task=text, worker=text, stderr_tail=text, stdout_tail=text, **told)
    page = Tags(errors_html([error, failed(traceback=(text,))]))

    assert page.tags == OURS
    assert "\x1b" not in errors_text([error])
    assert "\x00" not in errors_text([error])


def test_sizes_are_limited_and_ends_are_kept() -> None:
    huge = failed(
        message="m" * 1_000_000,
        stderr_tail="e" * 1_000_000 + "the end",
        traceback=("Traceback (" + "t" * 1_000_000 + "last",),
        stdout_tail="o" * 1_000_000,
    )
    html = errors_html([huge] * 500)

    assert len(html) < MAX_ERRORS * (MAX_MESSAGE + 3 * MAX_OUTPUT + 2_000) + 20_000
    assert "the end" in html
    assert "tlast" in html
    assert "and 470 more errors" in html
    assert errors_text([huge] * 31).endswith("and 1 more error")


def test_a_message_of_several_lines_has_its_first_as_the_title() -> None:
    html = errors_html([failed(message="first\nsecond\nthird")])

    assert "ValueError: first</span>" in html
    assert "<pre>second\nthird</pre>" in html


def test_no_errors_are_said_so() -> None:
    assert errors_text([]) == "No errors."
    assert "No errors." in errors_html([])
