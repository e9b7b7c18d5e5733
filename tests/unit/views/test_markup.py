"""Text that nobody vouches for, on its way into markup."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.views.markup import element, escaped, number, plain, shortened


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x9b31mred", "red"),
        ("\x1bPq#0;2;0\x1b\\sixel", "sixel"),
        ("\x1b(Bascii", "ascii"),
        ("nul\x00bell\x07back\x08", "nulbellback"),
        ("half \ud800 pair", "half  pair"),
        ("not a character \ufffe\uffff", "not a character "),
        ("exe\u202efdp.txt\u2066x\u2069", "exefdp.txtx"),
        ("tab\tand\nline stay, é and 数 and 😀 too", "tab\tand\nline stay, é and 数 and 😀 too"),
    ],
)
def test_controls_are_dropped_and_text_stays(text: str, left: str) -> None:
    assert plain(text) == left


def test_sequences_that_never_end_take_no_long_time() -> None:
    for begin in ("\x1bP", "\x1b]", "\x1b[", "\x9b1;", "\r"):
        assert "\x1b" not in plain(begin * 100_000)


def test_a_carriage_return_leaves_what_was_written_last() -> None:
    assert plain("10%\r50%\r100%\nnext\r\nlast\r") == "100%\nnext\nlast"


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=30))
def test_any_text_makes_well_formed_elements_that_keep_it(text: str) -> None:
    root = ET.fromstring(element("a", escaped(text), data_name=text))

    assert "".join(root.itertext()) == plain(text)
    assert root.get("data-name", "").split() == plain(text).split()


def test_attributes_are_escaped_and_none_is_left_out() -> None:
    assert (
        element("a", class_="x", data_task='"><b>', id=None)
        == '<a class="x" data-task="&quot;&gt;&lt;b&gt;"/>'
    )


def test_numbers_have_two_decimals_at_most() -> None:
    assert [number(x) for x in (3, 3.0, 2.345678, 100.0, 1e6)] == [
        "3",
        "3",
        "2.35",
        "100",
        "1000000",
    ]


def test_a_long_text_keeps_both_ends() -> None:
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert {len(shortened("x" * 50, n)) for n in (4, 5, 6)} == {4, 5, 6}
