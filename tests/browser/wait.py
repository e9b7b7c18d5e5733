"""Waiting for what a page will show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import SharedStatus

LIMIT_S = 30.0
POLL_MS = 20


def until(
    page: SharedStatus, condition: Callable[[], bool], what: str, told: Callable[[], object] = str
) -> None:
    """Look until it is so; fail with the name of what never came and what was there instead."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s. {told()}"
        page.wait_for_timeout(POLL_MS)
