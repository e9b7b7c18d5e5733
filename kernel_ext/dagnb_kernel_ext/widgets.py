"""The live view of a run under a cell, and the final picture that replaces it.

    Run.snapshot --> ViewUpdates --> _Throttle --> _ShownRun --> LiveView, the widget --> live.js
       a look         a message       when to         |                              in every page
                                      send, draw,     '--> outputs of cells: a placeholder first,
                                      save                 the final picture at the end

A feed, one daemon thread a run, looks for news a few times a second. It goes on while a cell blocks
the kernel's loop. It never prints, because its text would appear in the output of whatever cell
runs then. A page gets everything from the widget's traits when it opens, and messages afterwards.

Pages that are opened while a cell keeps the kernel busy
--------------------------------------------------------
A page that opens asks the kernel for its widgets, and a busy kernel answers only when the cell is
over. But Jupyter's server also connects, for each page, to the port where the kernel publishes its
messages, and a thread can see these connections. (The kernel's message to new subscribers,
`iopub_welcome`, does not help: only the first subscriber gets it.)
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import anywidget
import ipywidgets
import traitlets
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

from dagnb.errors import (
    DagnbError,
    RunMissingError,
    StorageError,
    StorageLostError,
    StorageUnavailableError,
)
from dagnb.failure import raised_text
from dagnb.forecast.background import predicted
from dagnb.forecast.knowledge import knowledge
from dagnb.forecast.past import expected_plan
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.handle import Run
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import TaskState
from dagnb.views import view
from dagnb.views.graph import live_svg
from dagnb.views.markup import plain
from dagnb.views.palette import style
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import Message, ViewUpdates, graph_of

_log = logging.getLogger(__name__)


def put(bundle: Mapping[str, object], *, output: str = "") -> None:
    """Show a MIME bundle under the running cell. output: an id, by which `change` finds it."""
    if output:
        display(dict(bundle), raw=True, display_id=output)  # type: ignore[no-untyped-call]
    else:
        display(dict(bundle), raw=True)  # type: ignore[no-untyped-call]  # IPython's


def change(output: str, bundle: Mapping[str, object]) -> None:
    """Show another bundle in an output, on all pages that show it; from any thread."""
    update_display(dict(bundle), raw=True, display_id=output)  # type: ignore[no-untyped-call]


def say(text: str) -> None:
    """Show text under the running cell."""
    put({"text/plain": plain(text)})


# ---- the feed ----

PERIOD_S = 0.1
"""seconds between two looks"""

_LOOK_SHARE = 0.05
"""share of the time that looking may take: large runs are looked at less often"""

_LONGEST_S = 2.0
"""seconds between two looks at most, so that the end of a run shows soon"""

_PULSE_S = 0.9
"""seconds; a message is sent at least this often, so that a view knows that the kernel is alive"""

_DRAW_S = 0.6
_DRAW_SHARE = 0.01
"""a timeline is drawn after so many seconds, and takes at most this share of a processor"""

_CHECKPOINT_S = 0.3
_CHECKPOINT_LATER_S = 2.0
_CHECKPOINT_RATE = 50_000
"""seconds until the first checkpoint, which is ready before a page has loaded; seconds between the
later ones at least; bytes a second that they may take"""

_MAX_FAILURES = 60
"""so many looks in a row may fail, a second apart, before the thread gives up"""


class Feed:
    """One watched run, whose news a listener gets in the thread of the feed."""

    def __init__(self, run: Run[Any], listener: _ShownRun, *, period_s: float = PERIOD_S) -> None:
        """Start the thread. period_s: seconds between two looks at the run."""
        self._run = run
        self._listener = listener
        self._period_s = period_s
        self._cost_s = 0.0
        name = f"dagnb-feed-{run.id}"
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the last message is out. Returns whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _watch(self) -> None:
        try:
            self._follow()
        except RunMissingError:
            self._listener.lose("the store no longer knows this run")
        except StorageUnavailableError as error:
            self._listener.lose(str(error))
        except Exception as error:  # noqa: BLE001  # the thread's end would be silent
            self._listener.lose(f"the view cannot go on: {raised_text(error)}")

    def _follow(self) -> None:
        now = self._look(self._run.snapshot)
        updates = ViewUpdates(now.description, now.seen.submitted_at)
        is_foreseen = self._foresee(updates)
        self._listener.begin(updates)
        throttle = _Throttle(self._listener, updates)
        while True:
            # The forecast is made beside the run: the view begins without it.
            is_foreseen = is_foreseen or self._foresee(updates, is_over=now.is_over)
            throttle.take(now)
            if now.is_over:
                self._listener.end(now)
                return
            pause_s = min(self._cost_s / _LOOK_SHARE, _LONGEST_S)
            time.sleep(max(self._period_s, pause_s))
            now = self._look(functools.partial(self._run.snapshot, now))

    def _foresee(self, updates: ViewUpdates, *, is_over: bool = False) -> bool:
        """Hand over the forecast if it is known. Returns False if it may be known later.

        is_over: the last picture, which stays, waits for the forecast.
        """
        plan = self._run.plan if is_over else self._run.plan_now
        if plan is None:  # another process has planned the run
            plan = self._expected_plan(updates)
            if plan is None:
                return True
        if plan.problem is None:
            return False
        updates.expect(plan)
        outlook = forecast_of(plan)
        if predicted(plan) is None or outlook is None:
            return is_over  # of a large plan, it is made while the run goes on
        updates.foresee(outlook.trace)
        return True

    def _expected_plan(self, updates: ViewUpdates) -> Plan | None:
        """Predict a run of another process from the history; None where that cannot be read."""
        try:
            return expected_plan(updates.description, knowledge())
        except DagnbError as error:
            _log.warning("the view has no forecast: %s", error)
            return None

    def _look(self, look: Callable[[], Snapshot]) -> Snapshot:
        """Look at the run; repeat the look while the store is unreachable for a moment."""
        begun = time.monotonic()
        for _ in range(_MAX_FAILURES):
            try:
                now = look()
                self._cost_s = time.monotonic() - begun
                return now
            except StorageLostError:
                raise  # the server has ended, and the run in its memory with it
            except StorageUnavailableError:
                time.sleep(1.0)
        return look()


class _Throttle:
    """Sends a message when there is news; draws and saves less often, because both are slow."""

    def __init__(self, listener: _ShownRun, updates: ViewUpdates) -> None:
        self._listener = listener
        self._updates = updates
        self._pulse_at = self._draw_at = 0.0
        self._save_at = time.monotonic() + _CHECKPOINT_S
        self._is_drawn = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dagnb-drawing")
        self._drawing: Future[tuple[Message, float]] | None = None

    def take(self, now: Snapshot) -> None:
        """Send a message if something changed or it is time for a pulse."""
        message, is_news = self._updates.update(now)
        self._is_drawn = self._is_drawn and not is_news
        now_s = time.monotonic()
        drawn = self._drawn(now, now_s)
        if drawn:
            message["drawn"] = drawn
        elif not is_news and now_s < self._pulse_at:
            return
        self._listener.receive(message)
        self._pulse_at = now_s + _PULSE_S
        # After the end no checkpoint is needed: the final picture holds everything.
        if now_s >= self._save_at and not now.is_over:
            whole = self._updates.everything()
            self._listener.save(whole)
            pause_s = len(json.dumps(whole)) / _CHECKPOINT_RATE
            self._save_at = now_s + max(_CHECKPOINT_LATER_S, pause_s)

    def _drawn(self, now: Snapshot, now_s: float) -> Message | None:
        """A drawing that is ready, if any.

        Another thread draws, so that messages are sent meanwhile. The last drawing, after the end
        of the run, is made in this thread.
        """
        ready = None
        if self._drawing is not None and (now.is_over or self._drawing.done()):
            ready, cost_s = self._drawing.result()
            self._drawing = None
            self._draw_at = now_s + max(_DRAW_S, cost_s / _DRAW_SHARE)
        if now.is_over:
            self._executor.shutdown()
            return self._updates.draw()
        if (
            self._drawing is None
            and ready is None
            and now_s >= self._draw_at
            and not self._is_drawn
        ):
            self._drawing = self._executor.submit(_timed, self._updates.draw)
            # Bars of running tasks grow, so a drawing that has one is outdated at once.
            self._is_drawn = not now.seen.states.count(TaskState.RUNNING)
        return ready


def _timed(draw: Callable[[], Message]) -> tuple[Message, float]:
    """Draw. Returns the drawing, and its cost in seconds of a processor."""
    begun = time.thread_time()
    return draw(), time.thread_time() - begun


# ---- pages ----

_PAGES_S = 1.0
"""seconds between two looks: listing connections takes some milliseconds"""

Peer = tuple[str, int]
"""Address and port of the other end of a connection"""


class PageWatcher:
    """Calls a function, in a thread of its own, soon after a page has connected to this kernel."""

    def __init__(self, port: int, on_opened: Callable[[], None]) -> None:
        """Start the thread. port: the port of this process where the kernel publishes."""
        self._port = port
        self._on_opened = on_opened
        self._is_stopped = threading.Event()
        threading.Thread(target=self._watch, name="dagnb-pages", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread, which ends within a second."""
        self._is_stopped.set()

    def _watch(self) -> None:
        try:
            known = connected_to(self._port)
            while not self._is_stopped.wait(_PAGES_S):
                now = connected_to(self._port)
                if now - known:
                    self._on_opened()
                known = now
        except OSError as error:
            _log.warning(
                "Pages opened while a cell runs will show its run when the cell is over: %s", error
            )


def connected_to(port: int) -> set[Peer]:
    """The peers connected to a port of this process. Raises OSError where these are not listed."""
    # psutil comes with ipykernel, which a terminal may lack.
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415

    process = psutil.Process()
    # psutil 6 renamed `connections`, and warns when the old name is used.
    look = getattr(process, "net_connections", None) or process.connections
    try:
        connections = look(kind="tcp")
    except psutil.Error as error:
        raise OSError(f"connections to port {port} cannot be listed: {error}") from error
    peers = set()
    for connection in connections:
        if connection.laddr.port == port and connection.raddr:  # a listening socket has no peer
            peers.add((connection.raddr.ip, connection.raddr.port))
    return peers


def publishing_port() -> int | None:
    """The port where the kernel of this process publishes.

    None when the kernel uses no TCP, or is not ipykernel.
    """
    try:
        from ipykernel.connect import get_connection_info  # noqa: PLC0415  # a terminal may lack it

        info = get_connection_info(unpack=True)
    except (ImportError, RuntimeError, OSError):
        return None
    if not isinstance(info, dict) or info.get("transport") != "tcp":
        return None
    return int(info["iopub_port"])


# ---- widgets and outputs ----

_STATIC = importlib.resources.files("dagnb_kernel_ext") / "static"
_SETTLE_S = 3.0
"""seconds that a cell waits for the final picture of its run"""

_MISSED_S = 0.5
"""seconds until a new page gets everything again: it may have missed messages while it loaded"""


class LiveView(anywidget.AnyWidget):
    """The data of one run's view for the browser.

    graph: the data that do not change. checkpoint: everything, saved now and then; later changes
    are sent as messages. source: an id of this numbering of messages; another kernel, or another
    view of the same run, counts from 1 again.
    """

    _esm: ClassVar[str] = view.script() + (_STATIC / "live.js").read_text(encoding="utf-8")
    _css: ClassVar[str] = style() + view.look()
    icons = traitlets.Dict().tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    checkpoint = traitlets.Dict().tag(sync=True)
    source = traitlets.Unicode().tag(sync=True)

    def __init__(self, run: Run[Any]) -> None:
        """Begin without any data but the run's id."""
        graph = {"title": run.id, "run": run.id}
        super().__init__(icons=view.icons(), graph=graph, source=uuid.uuid4().hex)
        self._run = run
        self.on_msg(self._on_message)
        # ipykernel 7.4 passes messages of the browser to the subshell that sent last, and a cell
        # may block that one. With None they go to the subshell that JupyterLab chose, a free one.
        # Older versions of ipykernel have no attribute of this name.
        setattr(self.comm, "_reply_subshell_for", None)  # noqa: B010  # not known to the types

    def open_again(self) -> None:
        """Announce the widget to every page, as when it was created.

        Pages that have the widget already ignore the announcement.
        """
        # The widget refers to its layout, which must exist first.
        for part in (self.layout, self):
            data = {"state": part.get_state(), "buffer_paths": []}
            part.comm.open(data=data, metadata={"version": ipywidgets.__protocol_version__})

    def _on_message(self, widget: object, content: Message, buffers: object) -> None:
        """Do what the browser asks for; in any thread, perhaps late."""
        if content.get("kind") == "cancel":
            # Where the run or its store is gone, the feed says so in the view.
            with contextlib.suppress(DagnbError):
                self._run.cancel("cancelled in the notebook")


class _ShownRun:
    """One run that is shown: its widget, the outputs that show it, and its feed.

    The feed calls most of its methods, in its own thread: `begin` first, `end` or `lose` last.
    """

    def __init__(self, run: Run[Any], *, is_widget_output: bool) -> None:
        """Begin without outputs.

        is_widget_output: outputs are the widget itself, not placeholders for its script.
        """
        self.run = run
        self._is_widget_output = is_widget_output
        self._widget = LiveView(run)
        # Guards the outputs: a cell may add one while the feed replaces all of them.
        self._lock = threading.Lock()
        self._outputs: list[str] = []
        self._last: dict[str, str] | None = None
        self._feed: Feed | None = None
        self._updates: ViewUpdates | None = None
        self._has_new_pages = threading.Event()
        self._repeat_at: float | None = None
        self.is_lost = False

    def add_output(self) -> None:
        """Show the run in the running cell's output too; the feed begins with the first output."""
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
        """Wait for the final picture. Returns whether it is shown."""
        return self._feed is None or self._feed.wait(timeout_s)

    def on_page_opened(self) -> None:
        """Let the feed send everything to pages that were just opened; in any thread."""
        self._has_new_pages.set()

    def close(self) -> None:
        """End the widget; what pages show of it stays."""
        self._widget.close()

    def begin(self, updates: ViewUpdates) -> None:
        """Draw the boxes."""
        svg, missing = picture_or(lambda: live_svg(updates.dag, updates.picture))
        with self._lock:
            self._updates = updates
            # Placeholders learn the name of the run and its start.
            if not self._is_widget_output:
                for output in self._outputs:
                    change(output, self._live_bundle())
        self._widget.graph = {
            **graph_of(updates.description),
            "title": plain(updates.description.name),
            "run": self.run.id,
            "svg": svg,
            "missing": missing,
            "attach": view.attach_command(self.run.id) if self.run.outlives_process else "",
        }

    def receive(self, message: Message) -> None:
        """Send a message to the pages."""
        if not self._is_widget_output:
            self._update_new_pages()
        self._widget.send(message)

    def save(self, checkpoint: Message) -> None:
        """Keep everything in the widget's state, for pages that open it later."""
        self._widget.checkpoint = checkpoint

    def end(self, last: Snapshot) -> None:
        """Replace the widget by the final picture."""
        self._replace(view.bundle(last, self._updates))

    def lose(self, reason: str) -> None:
        """Show why the view gets no more news."""
        self.is_lost = True
        self._replace({"text/plain": f"run {self.run.id}: {reason}"}, state="lost", reason=reason)

    def _update_new_pages(self) -> None:
        """Send everything to newly opened pages, and once more when they have loaded."""
        assert self._updates is not None, "a feed begins before it sends messages"
        if self._has_new_pages.is_set():
            self._has_new_pages.clear()
            self._widget.checkpoint = self._updates.everything()
            self._widget.open_again()
            self._repeat_at = time.monotonic() + _MISSED_S
        elif self._repeat_at is not None and time.monotonic() >= self._repeat_at:
            self._widget.checkpoint = self._updates.everything()
            self._repeat_at = None

    def _replace(self, bundle: dict[str, str], **fields: str) -> None:
        """Show a bundle in all outputs. fields: added to the last checkpoint."""
        with self._lock:
            self._last = bundle
            for output in self._outputs:
                change(output, bundle)
        # A page that was reloaded, or made by Voila, cannot find outputs by their display ids. It
        # keeps the view, and the checkpoint says how the run ended.
        if self._updates is not None:
            self._widget.checkpoint = {**self._updates.everything(), **fields}

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
        return view.placeholder_bundle(
            self.run.id, name=name, started_at=started_at, can_attach=self.run.outlives_process
        )


class LiveViews:
    """All runs that are shown in this kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Begin without runs. Widgets need a kernel; a terminal has none."""
        self._shell = shell
        self.is_notebook = hasattr(shell, "kernel")
        self._shown: dict[str, _ShownRun] = {}
        self._over: list[_ShownRun] = []
        self._page_watcher: PageWatcher | None = None
        self._cells: dict[str, int] = {}

    def show(self, run: Run[Any]) -> None:
        """Put a live view of the run under the running cell; the final picture if it is over."""
        if not self.is_notebook:
            return
        self._cells[run.id] = self._shell.execution_count
        if run.done:
            self.settle(run)
            put(view.bundle(run.snapshot()))
            return
        if run.id not in self._shown or self._shown[run.id].is_lost:
            self._close_old()
            self._watch_pages()
            self._shown[run.id] = _ShownRun(run, is_widget_output=self._is_widget_output)
        self._shown[run.id].add_output()

    def show_again(self, run: Run[Any]) -> None:
        """Show a run that is a cell's value, unless the cell shows it already."""
        if self._cells.get(run.id) != self._shell.execution_count:
            self.show(run)

    def settle(self, run: Run[Any]) -> None:
        """Wait for the final picture of a run that is over, so that the cell ends with it."""
        shown = self._shown.get(run.id)
        if shown is None:
            return
        if shown.is_lost:
            self._over.append(self._shown.pop(run.id))
            return
        # `run.done` asks the store. If that is unreachable, `Run.result` raises the error.
        with contextlib.suppress(StorageError):
            if run.done and shown.settle(_SETTLE_S):
                self._over.append(self._shown.pop(run.id))

    def after_cell(self, result: object) -> None:
        """Settle runs that ended during the cell.

        Their final pictures are then in the notebook before the next cell runs.
        """
        for shown in list(self._shown.values()):
            self.settle(shown.run)

    def close(self) -> None:
        """Stop watching for pages; runs and their views go on."""
        if self._page_watcher is not None:
            self._page_watcher.stop()
            self._page_watcher = None

    @property
    def _is_widget_output(self) -> bool:
        """Returns whether this front end keeps HTML and widgets apart.

        Colab and VS Code show each output in a frame of its own, so the script of a widget cannot
        fill placeholders in other outputs.
        """
        return "google.colab" in sys.modules or "__vsc_ipynb_file__" in self._shell.user_ns

    def _close_old(self) -> None:
        """End the widgets of runs that are over.

        They are kept until another run is shown, for pages that open late or get an answer late.
        """
        for shown in self._over:
            shown.close()
        self._over.clear()

    def _watch_pages(self) -> None:
        """Begin to watch for pages that are opened, in a kernel whose port is known."""
        port = publishing_port() if self._page_watcher is None else None
        if port is not None:
            self._page_watcher = PageWatcher(port, self._on_page_opened)

    def _on_page_opened(self) -> None:
        for shown in list(self._shown.values()):
            shown.on_page_opened()
