"""That what the other tests rely on would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import opened_window
from tests.browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

FAINT = '<section class="dagnb dagnb-view"><p style="color:#999;background:#aaa">faint</p><button></button></section>'


def test_what_leaves_this_machine_and_what_goes_wrong_in_a_page_is_noticed(
    browser: Browser,
) -> None:
    with opened_window(browser) as window:
        page = window.page()
        page.set_content(
            "<img src='https://example.org/a.png'><script>setTimeout(() => { throw Error('oh') })</script>"
        )
        page.evaluate(
            "new Promise((done) => { new WebSocket('wss://example.org/b').onerror = done })"
        )
        page.evaluate("fetch('https://192.0.2.1/c').catch(() => 0)")

    assert set(window.strangers) == {
        "https://example.org/a.png",
        "wss://example.org/b",
        "https://192.0.2.1/c",
    }
    assert any("oh" in said for said in window.errors)
    assert sum("net::ERR" in said for said in window.errors) == 3


def test_what_cannot_be_read_or_named_is_noticed_in_the_view_only(browser: Browser) -> None:
    with opened_window(browser) as window:
        page = window.page()
        page.set_content(f"<button></button>{FAINT}")
        found = View(page.locator("body")).violations()

    assert sorted(line.split()[0] for line in found) == ["button-name", "color-contrast"]
