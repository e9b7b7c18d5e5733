"""The live view under a cell, and what it becomes when the run is over."""

from __future__ import annotations

import contextlib
import importlib.resources
import sys
import threading
import time
import uuid
from typing import Any, ClassVar

import anywidget
import ipywidgets
import traitlets
from IPython.core.interactiveshell import InteractiveShell

from dagnb.errors import DagnbError, StorageError
from dagnb.handle import Run
from dagnb.views import view
from dagnb.views.graph import live_svg
from dagnb.views.markup import plain
from dagnb.views.palette import style
from dagnb.views.placeholder import attach_command, place_bundle
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import Message, ViewUpdates, graph_of
from dagnb_kernel_ext.feed import Feed
from dagnb_kernel_ext.opened_pages import Arrivals, publishing_port
from dagnb_kernel_ext.output import change, put

_STATIC = importlib.resources.files("dagnb_kernel_ext") / "static"
_SETTLE_S = 3.0
"""how long a cell waits for the last picture of its run"""

_MISSED_S = 0.5
"""a page that was just told everything is told again after so long: it may have missed messages while it loaded"""


class LiveView(anywidget.AnyWidget):
    """What the browser needs. told: everything as of now and then; what happens between comes as messages.

    source: who numbers the messages; another kernel, or a later look at the same run, begins at 1 again.
    """

    _esm: ClassVar[str] = view.script() + (_STATIC / "live.js").read_text(encoding="utf-8")
    _css: ClassVar[str] = style() + view.look()
    icons = traitlets.Dict().tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    told = traitlets.Dict().tag(sync=True)
    source = traitlets.Unicode().tag(sync=True)

    def __init__(self, run: Run[Any]) -> None:
        """Of this run, of which nothing is known yet."""
        super().__init__(
            icons=view.icons(), graph={"title": run.id, "run": run.id}, source=uuid.uuid4().hex
        )
        self._run = run
        self.on_msg(self._hear)
        # ipykernel 7.4 hands what the browser sends to the shell that spoke last, and a cell may block it. Without
        # this it goes where JupyterLab sent it: to a thread that is free.
        setattr(self.comm, "_reply_subshell_for", None)  # noqa: B010  # a name of theirs, which older ones do not have

    def open_again(self) -> None:
        """Tell every page of this widget anew, as when it was made; pages that know it take the new one for the old."""
        for part in (self.layout, self):  # the widget refers to its layout
            data = {"state": part.get_state(), "buffer_paths": []}
            part.comm.open(data=data, metadata={"version": ipywidgets.__protocol_version__})

    def _hear(self, widget: object, content: Message, buffers: object) -> None:
        """Do what the browser asks for; in any thread, perhaps late."""
        if content.get("kind") == "cancel":
            with contextlib.suppress(
                DagnbError
            ):  # the run is gone or its store is: the feed says so in the view
                self._run.cancel("cancelled in the notebook")


class _Showing:
    """One run on show: its widget, the outputs it stands in, and the feed. Its methods run in the feed's thread."""

    def __init__(self, run: Run[Any], *, is_widget_output: bool) -> None:
        """is_widget_output: the outputs are the widget itself, not places that the browser puts the view into."""
        self.run = run
        self._is_widget_output = is_widget_output
        self._widget = LiveView(run)
        self._lock = threading.Lock()
        self._outputs: list[str] = []
        self._last: dict[str, str] | None = None
        self._feed: Feed | None = None
        self._updates: ViewUpdates | None = None
        self._has_arrivals = threading.Event()
        self._tell_again_at: float | None = None
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

    def welcome(self) -> None:
        """Have everything told to pages that have just come; in any thread."""
        self._has_arrivals.set()

    def close(self) -> None:
        """End the widget; what pages show of it stays."""
        self._widget.close()

    def begin(self, telling: ViewUpdates) -> None:
        """Draw the boxes."""
        svg, missing = picture_or(lambda: live_svg(telling.dag, telling.picture))
        attach = attach_command(self.run.id) if self.run.outlives_process else ""
        shown = {
            "title": plain(telling.description.name),
            "run": self.run.id,
            "svg": svg,
            "missing": missing,
        }
        with self._lock:
            self._updates = telling
            if not self._is_widget_output:
                for output in self._outputs:
                    change(output, self._live_bundle())
        self._widget.graph = {**graph_of(telling.description), **shown, "attach": attach}

    def hear(self, news: Message) -> None:
        """Pass it on."""
        if not self._is_widget_output:
            self._tell_arrivals()
        self._widget.send(news)

    def keep(self, checkpoint: Message) -> None:
        """Keep it in the widget's state."""
        self._widget.told = checkpoint

    def end(self, last: Snapshot) -> None:
        """Put the picture that stays in the place of the widget."""
        self._replace(view.bundle(last, self._updates))

    def lose(self, reason: str) -> None:
        """Say why there is no more to see."""
        self.is_lost = True
        self._replace({"text/plain": f"run {self.run.id}: {reason}"}, state="lost", reason=reason)

    def _tell_arrivals(self) -> None:
        """Tell everything to pages that have come since the last message, and again when they have loaded."""
        assert self._updates is not None, "a feed begins before it tells"
        if self._has_arrivals.is_set():
            self._has_arrivals.clear()
            self._widget.told = self._updates.everything()
            self._widget.open_again()
            self._tell_again_at = time.monotonic() + _MISSED_S
        elif self._tell_again_at is not None and time.monotonic() >= self._tell_again_at:
            self._widget.told = self._updates.everything()
            self._tell_again_at = None

    def _replace(self, bundle: dict[str, str], **said: str) -> None:
        with self._lock:
            self._last = bundle
            for output in self._outputs:
                change(output, bundle)
        # A page that was loaded again, or made by Voila, does not know outputs by our ids: there the view stays, and
        # tells the end.
        if self._updates is not None:
            self._widget.told = {**self._updates.everything(), **said}

    def _live_bundle(self) -> dict[str, Any]:
        if self._is_widget_output:
            model = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
            return {
                "application/vnd.jupyter.widget-view+json": model,
                "text/plain": f"run {self.run.id}",
            }

        name, started_at = "", 0.0
        if self._updates is not None:
            name, started_at = self._updates.description.name, self._updates.submitted_s
        return place_bundle(
            self.run.id, name=name, started_at=started_at, can_attach=self.run.outlives_process
        )


class LiveViews:
    """Every run on show in this kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Nothing is on show yet. Widgets need a kernel; a terminal has none."""
        self._shell = shell
        self.is_notebook = hasattr(shell, "kernel")
        self._showings: dict[str, _Showing] = {}
        self._over: list[_Showing] = []
        self._arrivals: Arrivals | None = None
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
            self._close_old()
            self._notice_arrivals()
            self._showings[run.id] = _Showing(run, is_widget_output=self._is_widget_output)
        self._showings[run.id].add_output()

    def show_again(self, run: Run[Any]) -> None:
        """As show, for a run that is a cell's value: once a cell is enough."""
        if self._cells.get(run.id) != self._shell.execution_count:
            self.show(run)

    def settle(self, run: Run[Any]) -> None:
        """If the run is over, let the cell end with its last picture, not before."""
        showing = self._showings.get(run.id)
        if showing is not None and showing.is_lost:
            self._over.append(self._showings.pop(run.id))
            return
        with contextlib.suppress(
            StorageError
        ):  # what went wrong is said by whoever waits for the run
            if showing is not None and run.done and showing.settle(_SETTLE_S):
                self._over.append(self._showings.pop(run.id))

    def after_cell(self, result: object) -> None:
        """Settle what ended during the cell, so that the last pictures are in the file before the next cell runs."""
        for showing in list(self._showings.values()):
            self.settle(showing.run)

    def close(self) -> None:
        """Notice no more pages; runs and their views go on."""
        if self._arrivals is not None:
            self._arrivals.stop()
            self._arrivals = None

    @property
    def _is_widget_output(self) -> bool:
        """Whether HTML and widgets are kept apart here: Colab and VS Code show each output in a frame of its own."""
        return "google.colab" in sys.modules or "__vsc_ipynb_file__" in self._shell.user_ns

    def _close_old(self) -> None:
        """End the widgets of runs that are over. They stay until now for pages that come, or get an answer, late."""
        for showing in self._over:
            showing.close()
        self._over.clear()

    def _notice_arrivals(self) -> None:
        """Begin to notice pages that are opened, in a kernel that can tell where it publishes."""
        port = publishing_port() if self._arrivals is None else None
        if port is not None:
            self._arrivals = Arrivals(port, self._welcome)

    def _welcome(self) -> None:
        for showing in list(self._showings.values()):
            showing.welcome()
