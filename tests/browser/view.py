"""The view of a run as its user sees it. Every selector of dagnb's own markup that browser tests
use stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.browser.wait import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator

ROOT = ".dagnb-view"
LIVE = "[data-live=true]"
"""not so any more when the run is over, or reopened, or exported"""

TABS = ("Graph", "Timeline", "Errors", "Functions")
_MARK = "data-under-test"

_READ = """(area, [any, live]) => {
  const root = area.querySelector(any);
  if (!root) return null;
  const text = (selector) => root.querySelector(selector)?.textContent.trim();
  const [boxes, colours] = [{}, {}];
  for (const box of root.querySelectorAll("[data-box]")) {
    const [name, frame] = [box.querySelector("text.strong").textContent, box.querySelector("rect.frame")];
    boxes[name] = [...frame.classList].find((look) => look.startsWith("stroke-")).slice("stroke-".length);
    colours[name] = getComputedStyle(frame).stroke;
  }
  return {
    is_live: root.matches(live),
    state: text(".state") ?? text("p.head span") ?? "",
    count: text(".count") ?? text("p.head")?.split(" · ")[1] ?? "",
    boxes,
    colours,
    errors: [...root.querySelectorAll("article")].map((article) => article.textContent.trim()),
  };
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All of it at one moment. boxes: name -> state; colours: name -> what the browser paints round
    the box.
    """

    is_live: bool
    state: str
    count: str
    boxes: dict[str, str]
    colours: dict[str, str]
    errors: list[str]


class View:
    """The first view in some part of a page; it may not be there yet."""

    def __init__(self, within: Locator) -> None:
        """within: a cell, or the body of an exported page."""
        self._within = within

    @property
    def root(self) -> Locator:
        """The live view, or the lasting one."""
        return self._within.locator(ROOT).first

    @property
    def picture(self) -> Locator:
        """The graph."""
        return self.root.locator(".graph svg")

    def redrawn(self) -> Reading:
        """Its text and picture at the moment in which its graph was drawn anew, before the browser's
        next frame.
        """
        script = f"""(area, names) => {{
          for (const live of window.dagnbLive.values()) live.learn(live.model);
          return ({_READ})(area, names);
        }}"""
        return Reading(**self._within.evaluate(script, [ROOT, LIVE]))

    def read(self) -> Reading | None:
        """What it shows now; None when there is no view."""
        found = self._within.evaluate(_READ, [ROOT, LIVE])
        return Reading(**found) if found else None

    def until(self, condition: Callable[[Reading], bool], what: str) -> Reading:
        """Wait until what is shown is so, and give it."""
        seen: list[Reading] = []

        def is_so() -> bool:
            now = self.read()
            if now is not None:
                seen[:] = [now]
            return now is not None and condition(now)

        until(self._within.page, is_so, what, lambda: f"Shown: {seen or 'no view'}")
        return seen[0]

    def until_boxes(self, **states: str) -> Reading:
        """Wait until these boxes have these states."""
        return self.until(lambda seen: states.items() <= seen.boxes.items(), f"boxes are {states}")

    def until_over(self) -> Reading:
        """Wait until the lasting view has taken the live one's place."""
        return self.until(lambda seen: not seen.is_live, "the run's last picture")

    def show(self, tab: str) -> None:
        """Click one of TABS."""
        self.root.get_by_role("tab", name=tab).click()

    def box(self, label: str) -> Locator:
        """The box of this name in the graph."""
        return self.root.locator("[data-box]").filter(
            has=self._within.page.get_by_text(label, exact=True)
        )

    def details(self) -> str:
        """What stands beside the picture; empty when nothing is chosen."""
        side = self.root.locator(".side")
        return side.inner_text() if side.count() and side.is_visible() else ""

    def until_details(self, *words: str) -> str:
        """Wait until all these words stand there, and give all that does."""
        until(
            self._within.page,
            lambda: all(word in self.details() for word in words),
            f"details with {words}",
            self.details,
        )
        return self.details()

    def until_hint(self, *words: str) -> str:
        """Wait until all these words stand under the header, and give all that does."""
        hint = self.root.locator(".hint")
        until(
            self._within.page,
            lambda: hint.count() > 0 and all(word in hint.inner_text() for word in words),
            f"a hint with {words}",
        )
        return hint.inner_text()

    def focused(self) -> str:
        """The name of what has the focus, if that is inside the view."""
        return str(
            self.root.evaluate(
                "(root) => { const at = document.activeElement; if (!root.contains(at)) return '';"
                " return at.getAttribute('aria-label') ?? at.textContent.trim(); }"
            )
        )

    def press_cancel(self) -> None:
        """Twice: it asks back."""
        button = self.root.locator("button.cancel")
        button.click()
        button.click()

    def state_text(self) -> str:
        """'running', 'ok', 'failed'; empty when there is no view, as below."""
        return seen.state if (seen := self.read()) else ""

    def count_text(self) -> str:
        """'1 of 2 tasks'."""
        return seen.count if (seen := self.read()) else ""

    def boxes(self) -> dict[str, str]:
        """Name -> state."""
        return seen.boxes if (seen := self.read()) else {}

    def errors(self) -> list[str]:
        """The text of each error shown."""
        return seen.errors if (seen := self.read()) else []

    def violations(self) -> list[str]:
        """The objections of axe to the view as it is now, a line a rule and element; the page
        around is not ours.
        """
        from axe_playwright_python.sync_playwright import Axe

        self.root.evaluate("(root, mark) => root.setAttribute(mark, '')", _MARK)
        try:
            found = Axe().run(self._within.page, context=f"[{_MARK}]").response["violations"]
        finally:
            self._within.page.evaluate(
                f"document.querySelector('[{_MARK}]')?.removeAttribute('{_MARK}')"
            )
        return [
            f"{rule['id']} ({rule['impact']}) {node['target']}: {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"]
        ]
