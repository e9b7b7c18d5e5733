"""Colours that can be told apart and read, on light and on dark."""

from __future__ import annotations

import pytest

from dagnb.views.layout import PRESSING
from dagnb.views.palette import FUNCTIONS, PLAIN, SHEET, STATES, colours, style
from dagnb.views.timeline import TRAFFIC_COLOURS


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("ground", ["bg", "soft"])
def test_state_words_can_be_read_on_light_and_dark(state: str, ground: str) -> None:
    light, dark = SHEET[ground]

    assert contrast(STATES[state].light, light) >= 4.5
    assert contrast(STATES[state].dark, dark) >= 4.5


@pytest.mark.parametrize("role", ["ink", "dim"])
def test_text_can_be_read_on_light_and_dark(role: str) -> None:
    assert [
        contrast(ink, bg) >= 4.5 for ink, bg in zip(SHEET[role], SHEET["soft"], strict=True)
    ] == [True, True]


@pytest.mark.parametrize("colour", [*FUNCTIONS, PLAIN, *TRAFFIC_COLOURS.values()])
def test_bars_stand_out_on_light_and_dark(colour: str) -> None:
    assert [contrast(colour, ground) >= 3 for ground in SHEET["bg"]] == [True, True]


def test_states_differ_by_icon_and_by_colour() -> None:
    looks = list(STATES.values())

    assert (
        len({(look.icon, look.is_hollow) for look in looks})
        == len({look.light for look in looks})
        == 8
    )
    assert set(PRESSING) == set(STATES)


def test_a_name_keeps_its_colour_whoever_is_beside_it() -> None:
    alone = {name: colours([name])[name] for name in ("resize", "merge", "scan")}

    assert len(set(alone.values())) == 3
    assert colours(["scan", "merge", "resize", "merge"]) == alone


def test_up_to_twelve_names_have_twelve_colours() -> None:
    names = [f"f{i}" for i in range(12)]

    assert len(set(colours(names).values())) == 12
    assert set(colours([f"f{i}" for i in range(100)]).values()) == set(FUNCTIONS)


def test_the_notebooks_theme_goes_before_the_systems() -> None:
    css = style()
    dark, theme = css.index("prefers-color-scheme:dark"), css.index("[data-jp-theme-light=true]")

    assert dark < theme
    assert css.count("{") == css.count("}")
    assert css.count(f"--dagnb-done:{STATES['done'].dark};") == 2
    assert ".dagnb .fill-done{fill:#1e7e46;fill:var(--dagnb-done)}" in css
