"""The live view under a cell, and what it becomes when the run is over."""

from __future__ import annotations

import contextlib
import importlib.resources
import threading
import uuid
from typing import Any, ClassVar

import anywidget
import traitlets
from IPython.core.interactiveshell import InteractiveShell

from dagnb.errors import DagnbError, StorageError
from dagnb.handle import Run
from dagnb.views import view
from dagnb.views.graph import live_svg
from dagnb.views.markup import plain
from dagnb.views.palette import style
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.telling import Message, Telling, graph_of
from dagnb_kernel_ext.feed import Feed
from dagnb_kernel_ext.output import change, put

_STATIC = importlib.resources.files("dagnb_kernel_ext") / "static"
_SETTLE_S = 3.0
"""how long a cell waits for the last picture of its run"""


class LiveView(anywidget.AnyWidget):
    """What the browser needs. told: everything as of now and then; what happens between comes as messages."""

    _esm: ClassVar[str] = view.script() + (_STATIC / "live.js").read_text(encoding="utf-8")
    _css: ClassVar[str] = style() + view.look()
    icons = traitlets.Dict().tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    told = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run[Any]) -> None:
        """Of this run, of which nothing is known yet."""
        super().__init__(icons=view.icons(), graph={"title": run.id, "run": run.id})
        self._run = run
        self.n_pages = 0
        self.on_msg(self._hear)
        # ipykernel 7.4 hands what the browser sends to the shell that spoke last, and a cell may block it. Without
        # this it goes where JupyterLab sent it: to a thread that is free.
        setattr(self.comm, "_reply_subshell_for", None)  # noqa: B010  # a name of theirs, which older ones do not have

    def _hear(self, widget: object, content: Message, buffers: object) -> None:
        """What the browser asks for; in any thread, perhaps late."""
        kind = content.get("kind")
        if kind == "open":
            self.n_pages += 1
        elif kind == "gone":
            self.n_pages -= 1
            if self.n_pages <= 0:
                self.close()
        elif kind == "cancel":
            with contextlib.suppress(DagnbError):  # the run is gone or its store is: the feed says so in the view
                self._run.cancel("cancelled in the notebook")


class _Showing:
    """One run on show: its widget, the outputs it stands in, and the feed. Its methods run in the feed's thread."""

    def __init__(self, run: Run[Any]) -> None:
        self.run = run
        self._widget = LiveView(run)
        self._lock = threading.Lock()
        self._outputs: list[str] = []
        self._last: dict[str, str] | None = None
        self._feed: Feed | None = None
        self._telling: Telling | None = None
        self.is_lost = False

    def add_output(self) -> None:
        """Stand in the running cell's output too; the feed begins with the first."""
        with self._lock:
            if self._last is not None:
                put(self._last)
                return
            output = f"dagnb-{uuid.uuid4().hex}"
            put(self._live_bundle(), output=output)
            self._outputs.append(output)
        if self._feed is None:
            self._feed = Feed(self.run, self)

    def settle(self, timeout_s: float) -> bool:
        """Wait for the last picture, if the run is over."""
        return self._feed is None or self._feed.wait(timeout_s)

    def begin(self, telling: Telling) -> None:
        """Draw the boxes."""
        self._telling = telling
        svg, missing = picture_or(lambda: live_svg(telling.dag, telling.picture))
        shown = {"title": plain(telling.story.name), "run": self.run.id, "svg": svg, "missing": missing}
        self._widget.graph = {**graph_of(telling.story), **shown}

    def hear(self, news: Message) -> None:
        """Pass it on."""
        self._widget.send(news)

    def keep(self, checkpoint: Message) -> None:
        """Keep it in the widget's state."""
        self._widget.told = checkpoint

    def end(self, last: Snapshot) -> None:
        """Put the picture that stays in the place of the widget."""
        self._replace(view.bundle(last, self._telling))

    def lose(self, reason: str) -> None:
        """Say why there is no more to see."""
        self.is_lost = True
        self._replace({"text/plain": f"run {self.run.id}: {reason}"}, state="lost", reason=reason)

    def _replace(self, bundle: dict[str, str], **said: str) -> None:
        with self._lock:
            self._last = bundle
            for output in self._outputs:
                change(output, bundle)
        # A page that was loaded again, or made by Voila, does not know outputs by our ids: there the widget stays, and
        # tells the end. Elsewhere its view is gone now, which the browser says.
        if self._widget.n_pages <= 0 or self._telling is None:
            self._widget.close()
        else:
            self._widget.told = {**self._telling.everything(), **said}

    def _live_bundle(self) -> dict[str, object]:
        model = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {"application/vnd.jupyter.widget-view+json": model, "text/plain": f"run {self.run.id}"}


class Gallery:
    """Every run on show in this kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Nothing is on show yet. Widgets need a kernel; a terminal has none."""
        self._shell = shell
        self.is_notebook = hasattr(shell, "kernel")
        self._showings: dict[str, _Showing] = {}
        self._cells: dict[str, int] = {}

    def show(self, run: Run[Any]) -> None:
        """Put a live view of the run under the running cell; the last picture if it is over."""
        if not self.is_notebook:
            return
        self._cells[run.id] = self._shell.execution_count
        if run.done:
            self.settle(run)
            put(view.bundle(run.snapshot()))
            return
        if run.id not in self._showings or self._showings[run.id].is_lost:
            self._showings[run.id] = _Showing(run)
        self._showings[run.id].add_output()

    def show_again(self, run: Run[Any]) -> None:
        """As show, for a run that is a cell's value: once a cell is enough."""
        if self._cells.get(run.id) != self._shell.execution_count:
            self.show(run)

    def settle(self, run: Run[Any]) -> None:
        """If the run is over, let the cell end with its last picture, not before."""
        showing = self._showings.get(run.id)
        if showing is not None and showing.is_lost:
            del self._showings[run.id]
            return
        with contextlib.suppress(StorageError):  # what went wrong is said by whoever waits for the run
            if showing is not None and run.done and showing.settle(_SETTLE_S):
                del self._showings[run.id]

    def after_cell(self, result: object) -> None:
        """Settle what ended during the cell, so that the last pictures are in the file before the next cell runs."""
        for showing in list(self._showings.values()):
            self.settle(showing.run)
