"""Chromium without a screen and without a network, and what it has to complain of."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Request, SharedStatus

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # needs rights that containers lack; every page here is ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # what the routes below would let through
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
LOOPBACK = r"(https?|wss?)://127\.0\.0\.1[:/]"
_INLINE = r"(data|blob|about|chrome-error):"
_SIZE = {"width": 1280, "height": 900}


def executable() -> str | None:
    """$CHROMIUM, else the first of the usual names on PATH."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def running_chromium(path: str) -> Iterator[Browser]:
    """A browser, which ends with the block.

    Playwright keeps a loop running in this thread meanwhile, so no coroutine can be tested inside
    the block.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="dnb") as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=list(FLAGS),
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home},
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Window:
    """A fresh profile. errors: of consoles and scripts; strangers: what was asked of hosts that are
    not allowed.

    forgiven: words of complaints that are not about dagnb; each says whose they are.
    """

    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    forgiven: dict[str, str] = field(default_factory=dict)

    def complaints(self) -> list[str]:
        """Errors and strangers that are not forgiven."""
        return [
            said
            for said in (*self.errors, *self.strangers)
            if not any(word in said for word in self.forgiven)
        ]

    def page(self) -> SharedStatus:
        """Another tab."""
        return self.context.new_page()

    def photograph(self, folder: Path) -> list[Path]:
        """Every open tab, as PNG files."""
        pictures = [folder / f"tab-{i}.png" for i in range(len(self.context.pages))]
        for page, picture in zip(self.context.pages, pictures, strict=True):
            page.screenshot(path=picture)
        return pictures


@contextlib.contextmanager
def opened_window(browser: Browser, *, allowed: str = LOOPBACK) -> Iterator[Window]:
    """A window that may ask only for what the pattern allows, closed with the block; its lists are
    complete then.
    """
    outside = re.compile(rf"^(?!{_INLINE}|{allowed})")
    context = browser.new_context(viewport=_SIZE)
    window = Window(context)

    def note(request: Request) -> None:
        if outside.match(request.url):
            window.strangers.append(request.url)

    def note_tab(page: SharedStatus) -> None:
        page.on(
            "websocket",
            lambda socket: outside.match(socket.url) and window.strangers.append(socket.url),
        )

    context.on("request", note)
    context.on("page", note_tab)
    context.on(
        "console",
        lambda said: said.type == "error" and window.errors.append(f"{said.text} {said.location}"),
    )
    context.on("weberror", lambda thrown: window.errors.append(str(thrown.error)))
    context.route(outside, lambda route: route.abort())
    try:
        yield window
    finally:
        context.close()


def file_pattern(file: Path) -> str:
    """Allows this file and nothing else."""
    return re.escape(file.as_uri())
