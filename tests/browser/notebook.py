"""A notebook as its user handles it: cells are clicked and run by keys, and waiting is for what can
be seen.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nbformat

from tests.browser.view import View
from tests.browser.wait import LIMIT_S, until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, SharedStatus

    from tests.browser.chromium import Window
    from tests.browser.lab import Lab

Place = Literal["lab", "notebook", "voila"]
RUNNING = "[*]:"
_ENDED = re.compile(r"^\[\d+\]:$")
_THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
_PLACES = {
    "lab": "lab/workspaces/{name}/tree/{file}",
    "notebook": "notebooks/{file}",
    "voila": "voila/render/{file}",
}

_HAS_KERNEL = """(isBusy) => {
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === "connected" && (isBusy || kernel.status === "idle");
}"""
"""asked of the application: its signs say 'idle' before there is a kernel, and a cell run then is
dropped in silence
"""

_ERROR = """(k) => {
  const outputs = jupyterapp.shell.currentWidget.content.widgets[k].model.outputs.toJSON();
  const error = outputs.find((output) => output.output_type === "error");
  return error ? `${error.ename}: ${error.evalue}` : "";
}"""
"""asked of the application: on the page an error and a warning look the same"""


class Notebook:
    """One notebook file, open in a tab. Cells are counted from 0."""

    page: SharedStatus

    def __init__(self, window: Window, lab: Lab, name: str, cells: tuple[str, ...]) -> None:
        """Write the file; it is not open yet."""
        self._window = window
        self._lab = lab
        self.name = name
        self.path = lab.folder / f"{name}.ipynb"
        self._n_cells = len(cells)
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        written = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": spec},
        )
        nbformat.write(written, self.path)

    def open(self, place: Place = "lab", *, is_busy: bool = False) -> Notebook:
        """In a new tab; returns when the kernel is there, and idle unless it is known to be busy.

        Voila runs all cells by itself, so nothing of the kernel is waited for.
        """
        self.page = self._window.page()
        self.page.set_default_timeout(1000 * LIMIT_S)
        if place != "voila":
            self._lab.start_kernel(
                self.path
            )  # the page would ask for it last; so they start side by side
        path = _PLACES[place].format(name=self.name, file=self.path.name)
        self.page.goto(f"{self._lab.url}{path}?token={self._lab.token}")
        if place != "voila":
            self.page.wait_for_function(_HAS_KERNEL, arg=is_busy)
            until(self.page, lambda: all(map(self.prompt, range(self._n_cells))), "every cell")
        return self

    def close(self) -> None:
        """The tab only: the kernel goes on."""
        self.page.close()

    def reopen(self, place: Place = "lab", *, is_busy: bool = False) -> Notebook:
        """As when a tab was closed by mistake: the same kernel, the outputs of the file."""
        self.close()
        return self.open(place, is_busy=is_busy)

    def end_kernels(self) -> None:
        """As after a reboot."""
        self._lab.end_kernels()

    def cell(self, k: int) -> Locator:
        """The whole cell."""
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{k}']")

    def output(self, k: int) -> Locator:
        """What stands below the cell."""
        return self.cell(k).locator(".jp-Cell-outputArea")

    def view(self, k: int) -> View:
        """The run shown below the cell."""
        return View(self.cell(k))

    def prompt(self, k: int) -> str:
        """'[ ]:', '[*]:' while it is queued or runs, '[3]:' after."""
        return self._prompt(k).inner_text().strip()

    def run(self, k: int) -> None:
        """Click the cell and press Shift+Enter; returns when it is queued."""
        before = self.prompt(k)
        self.cell(k).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        until(self.page, lambda: self.prompt(k) != before, f"cell {k} is queued")

    def run_to_end(self, k: int) -> None:
        """As run, and wait for its end; fails when the cell does."""
        self.run(k)
        self.await_end(k)
        assert not self.error_text(k), self.error_text(k)

    def is_running(self, k: int) -> bool:
        """Queued counts."""
        return self.prompt(k) == RUNNING

    def await_end(self, k: int) -> None:
        """Wait until the cell has its number."""
        until(self.page, lambda: bool(_ENDED.match(self.prompt(k))), f"cell {k} ends")

    def error_text(self, k: int) -> str:
        """What the cell failed with, 'ValueError: ...'; empty when it did not."""
        return str(self.page.evaluate(_ERROR, k))

    def interrupt(self) -> None:
        """The square in the toolbar."""
        self.page.locator("[data-command='notebook:interrupt-kernel']").first.click()

    def restart(self) -> None:
        """The arrow in the toolbar, and its dialog; returns when the new kernel is idle."""
        self.page.locator("[data-command='notebook:restart-kernel']").first.click()
        self.page.locator(".jp-Dialog button.jp-mod-accept").last.click()
        self.page.wait_for_function(_HAS_KERNEL, arg=False)

    def save(self) -> dict[str, Any]:
        """Ctrl+S; returns what is in the file then."""
        with self.page.expect_response(
            lambda answer: _is_saving(answer.request.method, answer.url)
        ):
            self.page.keyboard.press("Control+s")
        saved: dict[str, Any] = json.loads(self.path.read_text())
        return saved

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """The whole application's."""
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })",
            _THEMES[theme],
        )
        self.page.locator(f"body[data-jp-theme-light='{str(theme == 'light').lower()}']").wait_for(
            state="attached"
        )

    def screenshot(self, name: str) -> None:
        """Of the tab, into $DAGNB_SCREENSHOTS if there is such a folder."""
        if folder := os.environ.get("DAGNB_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder, f"{self.name}-{name}.png"))

    def picture(self, k: int, name: str) -> None:
        """Of the output of a cell, as for a README; into the same folder."""
        if folder := os.environ.get("DAGNB_SCREENSHOTS"):
            self.output(k).screenshot(path=Path(folder, f"{name}.png"))

    def _prompt(self, k: int) -> Locator:
        return self.cell(k).locator(".jp-InputPrompt")


def _is_saving(method: str, url: str) -> bool:
    return method == "PUT" and "/api/contents/" in url
