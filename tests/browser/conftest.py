"""What browser tests may ask for: a window, and notebooks open in it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import NAMES, Window, executable, opened_window, running_chromium
from tests.browser.gates import Gates
from tests.browser.lab import Lab, running_lab
from tests.browser.notebook import Notebook
from tests.conftest import missing_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for this folder, and no longer: while it is there, this thread can run no other loop."""
    path = executable()
    if path is None:
        missing_service(f"no {', '.join(NAMES)} on PATH, and CHROMIUM names no program")
    if importlib.util.find_spec("playwright") is None:
        missing_service("no package playwright: install dagnb[test]")
    with running_chromium(path) as browser:
        yield browser


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """One server for this folder."""
    if importlib.util.find_spec("jupyterlab") is None:
        missing_service("no package jupyterlab: install dagnb[test]")
    with running_lab() as lab:
        yield lab


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """A fresh profile. The test fails if a page complained, or asked for anything beyond this
    machine.
    """
    with opened_window(browser) as window:
        yield window
    assert window.complaints() == []


@pytest.fixture
def notebook(
    window: Window, lab: Lab, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """A function: sources of cells -> a new notebook, which is not open yet. Its kernel ends with
    the test.
    """
    names = (f"{_plain(request.node.name)}{i or ''}" for i in range(100))
    yield lambda *cells: Notebook(window, lab, next(names), cells)
    lab.end_kernels()


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """All shut."""
    folder = tmp_path / "gates"
    folder.mkdir()
    return Gates(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """A test that fails leaves a picture of each tab in its folder."""
    report = yield
    used = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and {"window", "tmp_path"} <= used.keys():
        pictures = used["window"].photograph(used["tmp_path"])
        report.sections.append(("tabs", "\n".join(map(str, pictures))))
    return report


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
