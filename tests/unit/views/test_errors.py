"""Errors for people."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from dagnb.errors import Frame, TaskError
from dagnb.views.errors import MAX_ERRORS, MAX_FRAMES, MAX_MESSAGE, MAX_OUTPUT, errors_html, errors_text, trace_lines
from tests.unit.views.samples import HOSTILE

OURS = {"div", "style", "article", "h3", "span", "p", "pre", "details", "summary"}


class Tags(HTMLParser):
    """What a browser makes of a page: its tags and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def failed(**changes: object) -> TaskError:
    fields: dict[str, object] = {
        "task": "outliers-0",
        "attempt": 3,
        "worker": "w2",
        "type": "ValueError",
        "message": "no rows",
    }
    return TaskError(**(fields | changes))  # type: ignore[arg-type]


def framed(source: str, **columns: int | None) -> list[str]:
    return trace_lines(
        failed(frames=(Frame(file="Cell In[4]", line=7, function="outliers", source=source, **columns),))
    )


def test_an_error_tells_task_attempt_worker_type_and_message() -> None:
    error = failed(final=True, exit_code=1, signal=9)
    html = Tags(errors_html([error])).text

    assert "outliers-0 ValueError: no rows" in html
    assert "attempt 3 on w2, not tried again, exit code 1, signal 9" in html
    assert errors_text([error]).splitlines() == [
        "task 'outliers-0', attempt 3 on w2, not tried again, exit code 1, signal 9",
        "  ValueError: no rows",
    ]


def test_carets_stand_below_the_columns_that_failed() -> None:
    """Columns count from the begin of the line in its file, whose indent is not shown."""
    assert framed("    return rows[0] / total\n", column=11, end_column=26) == [
        "Cell In[4], line 7, in outliers",
        "    return rows[0] / total",
        "           ^^^^^^^^^^^^^^^",
    ]


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("    return x\n", {}),
        ("    return x\n", {"column": 4, "end_column": 12}),
        ("    return x\n", {"column": 40, "end_column": 50}),
        ("return\x00 x", {"column": 8, "end_column": 9}),
        ("", {"column": 0, "end_column": 3}),
    ],
    ids=["unknown", "whole line", "beyond", "changed by cleaning", "no source"],
)
def test_no_carets_where_they_would_say_nothing_or_stand_wrong(source: str, columns: dict[str, int]) -> None:
    assert not any("^" in line for line in framed(source, **columns))


def test_a_call_over_several_lines_has_carets_to_the_end_of_its_first() -> None:
    assert framed("x = call(", column=4, end_column=1, end_line=9)[-1] == "        ^^^^^"


def test_carets_do_not_stand_below_the_indent() -> None:
    assert framed("    return x + y\n", column=0, end_column=10)[-1] == "    ^^^^^^"


def test_carets_are_as_wide_as_a_terminal_draws_characters() -> None:
    assert framed('f("数据", x)', column=8, end_column=9)[-1] == "    " + " " * 10 + "^"


def test_without_frames_pythons_own_traceback_is_shown() -> None:
    error = failed(
        traceback=("Traceback (most recent call last):\n", '  File "a.py", line 1\n', "ValueError: no rows\n")
    )

    assert trace_lines(error) == ["Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: no rows"]


def test_a_recursion_shows_both_ends() -> None:
    frames = tuple(Frame(file="a.py", line=i, function="f") for i in range(1_000))
    lines = trace_lines(failed(frames=frames))

    assert len(lines) == MAX_FRAMES + 1
    assert (lines[0], lines[-1]) == ("a.py, line 0, in f", "a.py, line 999, in f")
    assert lines[MAX_FRAMES // 2] == "  ... 980 more frames ..."


def test_stderr_is_shown_as_text_without_colours_and_progress_bars_once() -> None:
    error = failed(stderr_tail="10%\r100%\n\x1b[31mred\x1b[0m", stdout_tail="   ")

    assert Tags(errors_html([error])).text.endswith("stderr100%\nred")
    assert errors_text([error]).splitlines()[-3:] == ["  stderr:", "    100%", "    red"]
    assert "stdout" not in errors_text([error])


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_from_a_task_becomes_markup(text: str) -> None:
    frame = Frame(file=text, line=1, function=text, source=text, column=0, end_column=3)
    error = TaskError(
        task=text, attempt=1, worker=text, type=text, message=text, frames=(frame,), stderr_tail=text, stdout_tail=text
    )
    page = Tags(errors_html([error, failed(traceback=(text,))]))

    assert page.tags == OURS
    assert "\x1b" not in errors_text([error])
    assert "\x00" not in errors_text([error])


def test_sizes_are_limited_and_ends_are_kept() -> None:
    huge = failed(
        message="m" * 1_000_000,
        stderr_tail="e" * 1_000_000 + "the end",
        traceback=("t" * 1_000_000 + "last",),
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
