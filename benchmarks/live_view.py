"""How far the live view lags behind the run, and what 10,000 tasks cost the browser. In a real JupyterLab and Chromium.

    python benchmarks/live_view.py

Lag: the store's moment at which the k-th task was done, until the page shows "k of 300 tasks"; both clocks are this
machine's. Frames: times between two animation frames while the run goes on, beside those of the same page at rest.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.chromium import Window, executable, opened_window, running_chromium
from tests.browser.lab import Lab, running_lab
from tests.browser.notebook import Notebook
from tests.browser.wait import until

SETUP = """%load_ext dagnb
import json, time
import dagnb
from dagnb import task

@task
def work(i):
    time.sleep({run_s})
    return i

@task
def gather(parts):
    return len(parts)
"""
RUN = """run = gather([work(i) for i in range({n})]).run()
run.result()"""
MOMENTS = (
    """print(json.dumps(sorted(event.at for event in run.look().events if event.kind == "done")))"""
)

WATCH = """() => {
  window.shown = []; window.frames_ms = []; window.long_ms = 0;
  const note = () => {
    const text = document.querySelector(".dagnb-view .count")?.textContent;
    const n = text && Number(text.split(" ")[0].replaceAll(",", ""));
    if (n > (window.shown.at(-1)?.[1] ?? 0)) window.shown.push([performance.timeOrigin + performance.now(), n]);
  };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
  const long = (list) => { for (const e of list.getEntries()) window.long_ms += e.duration; };
  new PerformanceObserver(long).observe({ type: "longtask" });
  let last = performance.now();
  const frame = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
}"""
ENDED = """() => {
  const prompt = document.querySelectorAll(".jp-Notebook .jp-InputPrompt")[1].textContent;
  return prompt.startsWith("[") && !prompt.includes("*");
}"""
RESET = "() => { window.frames_ms = []; window.long_ms = 0; }"
READ = """() => ({ shown: window.shown, frames_ms: window.frames_ms, long_ms: window.long_ms,
  heap_mb: performance.memory.usedJSHeapSize / 1e6, nodes: document.querySelectorAll("*").length })"""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Watched = tuple[dict[str, Any], dict[str, Any], list[float], int]


def watched(window: Window, lab: Lab, n: int, run_s: float) -> Watched:
    """A run of n tasks under its cell: the page at rest, afterwards, when tasks were done, the size of the file."""
    notebook = Notebook(
        window, lab, f"n{n}", (SETUP.format(run_s=run_s), RUN.format(n=n), MOMENTS)
    ).open()
    notebook.run_to_end(0)
    notebook.page.evaluate(WATCH)
    notebook.page.wait_for_timeout(3_000)
    rest = notebook.page.evaluate(READ)
    notebook.page.evaluate(RESET)
    notebook.run(1)
    notebook.page.wait_for_function(ENDED, polling=250, timeout=240_000)
    busy = notebook.page.evaluate(READ)
    notebook.run_to_end(2)
    until(
        notebook.page, lambda: notebook.output(2).inner_text().rstrip().endswith("]"), "the moments"
    )
    moments = json.loads(notebook.output(2).inner_text())
    saved = len(json.dumps(notebook.save()))
    notebook.close()
    return rest, busy, moments, saved


def lags_s(shown: Sequence[tuple[float, int]], moments: Sequence[float]) -> list[float]:
    """How long after each task was done the page first said so."""
    found, i = [], 0
    for k, moment in enumerate(moments, 1):
        while i < len(shown) and shown[i][1] < k:
            i += 1
        if i < len(shown):
            found.append(shown[i][0] / 1e3 - moment)
    return found


def frames(label: str, page: dict[str, Any]) -> None:
    """A line on the frames of a page."""
    times = page["frames_ms"][1:]
    p50, p95, longest = statistics.median(times), percentile(times, 0.95), max(times)
    between = f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, longest {longest:.1f} ms"
    held = f"heap {page['heap_mb']:.1f} MB, {page['nodes']:,} elements"
    print(
        f"  {label:<9} {len(times):>5} frames, {between}; long tasks {page['long_ms']:.0f} ms; {held}"
    )


def main() -> None:
    """Print the table."""
    path = executable()
    if path is None:
        sys.exit("no Chromium here: install it, or name it in $CHROMIUM")
    with running_chromium(path) as browser, running_lab() as lab, opened_window(browser) as window:
        for n, run_s in ((300, 0.02), (10_000, 0.0)):
            rest, busy, moments, saved = watched(window, lab, n, run_s)
            lags = lags_s(busy["shown"], moments)
            print(
                f"{n:,} tasks in {moments[-1] - moments[0]:.1f} s, the notebook's file {saved / 1e3:.0f} kB"
            )
            print(
                f"  lag       p50 {statistics.median(lags) * 1e3:.0f} ms, p95 {percentile(lags, 0.95) * 1e3:.0f} ms,"
                f" most {max(lags) * 1e3:.0f} ms (of {len(lags):,} tasks shown before the picture that stays)"
            )
            frames("at rest", rest)
            frames("running", busy)


if __name__ == "__main__":
    main()
