"""`%load_ext dagnb` and `%unload_ext dagnb`: register objects with the shell, and remove them.

`load` and `unload` name the same objects in the same order. The objects that a shell was given are
remembered, because only the very same object can be removed again.

A shutdown of the kernel
------------------------
Before Jupyter restarts or shuts down a kernel it interrupts the cell that runs, with the signal of
the stop button. Its request to shut down arrives a few milliseconds later on the control channel,
which a thread of its own answers while the cell is still handling the interrupt. That thread sets
the shell's trait `exit_now`. An interrupt cancels a run; a shutdown lets it go on.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.core.completer import IPCompleter
from IPython.core.formatters import IPythonDisplayFormatter
from IPython.core.interactiveshell import InteractiveShell

from dagnb import handle, session, sources
from dagnb_kernel_ext import tracebacks
from dagnb_kernel_ext.cell import cell_label
from dagnb_kernel_ext.completion import Matcher, matcher_for
from dagnb_kernel_ext.magics import DagMagics
from dagnb_kernel_ext.widgets import LiveViews


@dataclass(frozen=True, slots=True)
class _Loaded:
    magics: DagMagics
    live_views: LiveViews
    matcher: Matcher
    label: Callable[[str], str | None]
    shutdown: ShutdownNotice


_loaded: dict[int, _Loaded] = {}
"""id of the shell -> the objects it was given; a process has one shell, tests have several"""


def load(ipython: InteractiveShell) -> None:
    """Register the magics and their completion; in a notebook, show every run that starts.

    Loading twice does the same as loading once.
    """
    if id(ipython) in _loaded:
        return
    live_views = LiveViews(ipython)
    label = functools.partial(cell_label, ipython)
    magics = DagMagics(ipython, live_views)
    matcher = matcher_for(magics.context)
    given = _Loaded(magics, live_views, matcher, label, ShutdownNotice(ipython))
    _loaded[id(ipython)] = given
    ipython.register_magics(magics)
    ipython.input_transformers_cleanup.append(magics.transformer)
    tracebacks.install(ipython)
    sources.labellers.append(label)
    if _has_completer(ipython):
        ipython.Completer.custom_matchers.append(given.matcher)
    handle.viewers.append(magics.context.remember)
    if live_views.is_notebook:
        handle.viewers.append(live_views.show)
        ipython.events.register("post_run_cell", live_views.after_cell)
        given.shutdown.watch()
        session.use_shutdown_event(given.shutdown.event)
        formatter = _display_formatter(ipython)
        formatter.for_type(handle.Run, live_views.show_again)  # type: ignore[no-untyped-call]


def unload(ipython: InteractiveShell) -> None:
    """Remove everything that `load` registered; runs go on."""
    given = _loaded.pop(id(ipython), None)
    if given is None:
        return
    tracebacks.uninstall()
    sources.labellers.remove(given.label)
    ipython.input_transformers_cleanup.remove(given.magics.transformer)
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop("dag", None)
    if _has_completer(ipython) and given.matcher in ipython.Completer.custom_matchers:
        ipython.Completer.custom_matchers.remove(given.matcher)
    for viewer in (given.magics.context.remember, given.live_views.show):
        if viewer in handle.viewers:
            handle.viewers.remove(viewer)
    if given.live_views.is_notebook:
        ipython.events.unregister("post_run_cell", given.live_views.after_cell)
        given.live_views.close()
        given.shutdown.unwatch()
        session.use_shutdown_event(None)
    _display_formatter(ipython).pop(handle.Run, None)  # type: ignore[no-untyped-call]


def _has_completer(ipython: InteractiveShell) -> bool:
    """Returns whether there is a completer; a shell in tests or scripts may have none."""
    return isinstance(getattr(ipython, "Completer", None), IPCompleter)


def _display_formatter(ipython: InteractiveShell) -> IPythonDisplayFormatter:
    formatters = ipython.display_formatter
    assert formatters is not None, "a shell has one from its start"
    formatter: IPythonDisplayFormatter = formatters.ipython_display_formatter
    return formatter


class ShutdownNotice:
    """An event that is set from the moment the kernel is asked to shut down."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Keep the kernel's shell; `watch` begins to observe it."""
        self.event = threading.Event()
        self._shell = shell

    def watch(self) -> None:
        """Begin to watch."""
        self._shell.observe(self._note, names="exit_now")
        self._shell.events.register("pre_run_cell", self._forget)

    def unwatch(self) -> None:
        """Stop watching."""
        self._shell.unobserve(self._note, names="exit_now")
        self._shell.events.unregister("pre_run_cell", self._forget)

    def _note(self, change: dict[str, Any]) -> None:
        """Set the event; this runs in the thread of the control channel."""
        if change["new"]:
            self.event.set()

    def _forget(self, info: object) -> None:
        """Clear the event when another cell begins.

        `exit()` sets the trait too, and JupyterLab goes on after it.
        """
        self.event.clear()
