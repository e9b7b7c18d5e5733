"""What was raised, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dagnb.errors import Cause, Frame, TaskError
from dagnb.views.errors import MAX_FRAMES, MAX_LINES, MAX_MESSAGE, frame_lines, raised_lines

FRAME = Frame(
    file="Cell In[4]",
    line=7,
    function="outliers",
    before=("def outliers(s):", "    q = s[s.z > limit]"),
    source='    raise ValueError("no rows left")',
)
LIBRARY = Frame(
    file="/usr/lib/python3.11/json/decoder.py",
    line=355,
    function="raw_decode",
    source='        raise JSONDecodeError("", s, 4) from None',
    is_library=True,
)
ERROR = TaskError(task="t-0", attempt=1, worker="w", type="ValueError", message="no rows")


def shown(*frames: Frame) -> list[str]:
    return [line.text for line in frame_lines(frames)]


def framed(source: str, **columns: int | None) -> list[str]:
    return shown(Frame(file="Cell In[4]", line=7, function="outliers", source=source, **columns))


def told(error: TaskError | Cause) -> list[str]:
    return [line.text for line in raised_lines(error)]


# ---- frames ----


def test_a_frame_of_the_user_shows_the_lines_around_with_an_arrow_at_its_own() -> None:
    frame = replace(
        FRAME, source="    return clip(s)[0]", column=11, end_column=18, after=("", "    # done")
    )

    assert shown(frame) == [
        "Cell In[4], line 7, in outliers",
        "      5 def outliers(s):",
        "      6     q = s[s.z > limit]",
        "----> 7     return clip(s)[0]",
        "                   ^^^^^^^",
        "      8",
        "      9     # done",
    ]
    assert [line.kind for line in frame_lines([frame])] == [
        "place",
        "code",
        "code",
        "current",
        "carets",
        "code",
        "code",
    ]


def test_the_indent_that_all_lines_have_is_left_out_below_the_arrow_too() -> None:
    frame = Frame(
        file="Cell In[4]",
        line=103,
        function="f",
        before=("        x = 1",),
        source="        x.y",
        column=8,
        end_column=9,
    )

    assert shown(frame)[1:] == ["    102 x = 1", "--> 103 x.y", "        ^"]


def test_code_of_a_module_is_in_no_function() -> None:
    assert shown(Frame(file="Cell In[4]", line=1, function="<module>", source="run.result()")) == [
        "Cell In[4], line 1",
        "----> 1 run.result()",
    ]


def test_frames_of_libraries_in_a_row_are_one_line() -> None:
    outer = replace(LIBRARY, function="loads", file="/usr/lib/python3.11/json/__init__.py")
    numpy = replace(
        LIBRARY,
        file="/venv/lib64/site-packages/numpy/core/_methods.py",
        line=3,
        function="sum",
        source="",
    )

    assert shown(FRAME, outer, LIBRARY, replace(FRAME, before=()), numpy) == [
        "Cell In[4], line 7, in outliers",
        "      5 def outliers(s):",
        "      6     q = s[s.z > limit]",
        '----> 7     raise ValueError("no rows left")',
        '  ... 2 frames in json (json/decoder.py, line 355, in raw_decode: raise JSONDecodeError("", s, 4) from None)',
        "",
        "Cell In[4], line 7, in outliers",
        '----> 7 raise ValueError("no rows left")',
        "  ... 1 frame in numpy (numpy/core/_methods.py, line 3, in sum)",
    ]


@pytest.mark.parametrize(
    ("file", "where"),
    [
        (r"C:\Python311\Lib\site-packages\numpy\linalg.py", r"numpy (numpy\linalg.py,"),
        ("pandas/_libs/index.pyx", "_libs (_libs/index.pyx,"),
        ("<frozen importlib._bootstrap>", "importlib (<frozen importlib._bootstrap>,"),
    ],
)
def test_a_package_is_named_wherever_it_lies(file: str, where: str) -> None:
    assert f"  ... 1 frame in {where}" in shown(replace(LIBRARY, file=file))[0]


def test_a_recursion_is_one_frame() -> None:
    assert shown(replace(FRAME, times=990), FRAME)[4:6] == ["  ... 989 more times ...", ""]


def test_of_many_frames_both_ends_are_shown() -> None:
    lines = shown(*(Frame(file="a.py", line=i, function="f") for i in range(1_000)))

    assert len(lines) == MAX_FRAMES + 1
    assert (lines[0], lines[-1]) == ("a.py, line 0, in f", "a.py, line 999, in f")
    assert lines[MAX_FRAMES // 2] == "  ... 980 more frames ..."


# ---- carets ----


def test_carets_stand_below_the_columns_that_failed() -> None:
    """Columns count from the begin of the line in its file, whose indent is not shown."""
    assert framed("    return rows[0] / total\n", column=11, end_column=26) == [
        "Cell In[4], line 7, in outliers",
        "----> 7 return rows[0] / total",
        "               ^^^^^^^^^^^^^^^",
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
def test_no_carets_where_they_would_say_nothing_or_stand_wrong(
    source: str, columns: dict[str, int]
) -> None:
    assert not any("^" in line for line in framed(source, **columns))


def test_a_call_over_several_lines_has_carets_to_the_end_of_its_first() -> None:
    assert framed("x = call(", column=4, end_column=1, end_line=9)[-1] == "            ^^^^^"


def test_carets_do_not_stand_below_the_indent() -> None:
    assert framed("    return x + y\n", column=0, end_column=10)[-1] == "        ^^^^^^"


def test_carets_are_as_wide_as_a_terminal_draws_characters() -> None:
    assert framed('f("数据", x)', column=8, end_column=9)[-1] == " " * 8 + " " * 10 + "^"


# ---- chains ----


def test_the_oldest_exception_is_told_first_as_python_does() -> None:
    oldest = Cause(how="context", type="KeyError", message="'z'")
    middle = Cause(
        how="cause", type="LookupError", message="no z", notes=("in the table",), causes=(oldest,)
    )

    assert told(replace(ERROR, causes=(middle,), notes=("try again",))) == [
        "KeyError: 'z'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "LookupError: no z",
        "in the table",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "ValueError: no rows",
        "try again",
    ]


def test_the_parts_of_a_group_stand_below_it_each_with_its_frames() -> None:
    inner = Cause(how="part", type="OSError", message="gone")
    parts = (
        Cause(how="part", type="KeyError", message="1", frames=(replace(FRAME, before=()),)),
        Cause(how="part", type="ExceptionGroup", message="deeper", causes=(inner,)),
    )

    assert told(replace(ERROR, type="ExceptionGroup", message="two", causes=parts)) == [
        "ExceptionGroup: two",
        "  +---------------- 1 of 2 ----------------",
        "  | Cell In[4], line 7, in outliers",
        '  | ----> 7 raise ValueError("no rows left")',
        "  |",
        "  | KeyError: 1",
        "  +---------------- 2 of 2 ----------------",
        "  | ExceptionGroup: deeper",
        "  |   +---------------- 1 of 1 ----------------",
        "  |   | OSError: gone",
    ]


def test_the_first_line_of_a_message_is_told_from_the_others_and_its_length_is_limited() -> None:
    lines = raised_lines(replace(ERROR, message="first\nsecond"))

    assert [(line.text, line.kind) for line in lines] == [
        ("ValueError: first", "error"),
        ("second", "text"),
    ]
    assert len(told(replace(ERROR, message="m" * 1_000_000))[0]) == MAX_MESSAGE


def test_of_a_very_long_story_both_ends_are_told() -> None:
    cause: tuple[Cause, ...] = ()
    for i in range(200):
        cause = (Cause(how="context", type="KeyError", message=str(i), causes=cause),)

    lines = told(replace(ERROR, causes=cause))

    assert len(lines) == MAX_LINES + 1
    assert (lines[0], lines[-1]) == ("KeyError: 0", "ValueError: no rows")
