"""The style of our HTML applies to the elements below it, in the form that browsers read."""

from __future__ import annotations

import re

import pytest

from dagnb.views.page import fragment


@pytest.mark.parametrize(
    "selector",
    [
        ".dagnb h1,.dagnb h2,.dagnb h3",
        ".dagnb p",
        ".dagnb pre",
        ".dagnb table",
        ".dagnb.dagnb th,.dagnb.dagnb td",
        ".dagnb.dagnb .right",
        ".dagnb summary",
        ".dagnb .scroll svg",
        ".dagnb .meter",
        ".dagnb article",
    ],
)
def test_the_style_has_a_rule_for_each_element(selector: str) -> None:
    assert re.search(rf"}}{re.escape(selector)}{{[^{{}}]+}}", fragment("text"))


def test_values_of_several_words_keep_their_spaces() -> None:
    style = fragment("text")

    assert "'Segoe UI'" in style
    assert "padding:9px 12px" in style
    assert "border-bottom:1px solid var(--dagnb-grid)" in style
