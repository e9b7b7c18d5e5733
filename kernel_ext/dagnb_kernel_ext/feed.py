"""The feed of a live view: one daemon thread per run, which looks for news a few times a second.

A thread goes on while a cell blocks the kernel's loop. It never prints, because its text would
appear in the output of whatever cell runs then.

    Run.snapshot --> ViewUpdates --> _Throttle --> Listener (the widget)
       a look         a message       when to send, draw, save
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from dagnb.errors import DagnbError, RunMissingError, StorageLostError, StorageUnavailableError
from dagnb.failure import raised_text
from dagnb.forecast.background import predicted
from dagnb.forecast.costs import knowledge
from dagnb.forecast.past import expected_plan
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.handle import Run
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import TaskState
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import Message, ViewUpdates

_log = logging.getLogger(__name__)

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


class Listener(Protocol):
    """The receiver of a feed; its methods are called in the feed's thread."""

    def begin(self, updates: ViewUpdates) -> None:
        """Take the run's tasks and boxes; called once, first."""
        ...

    def receive(self, message: Message) -> None:
        """Take what changed since the last message."""
        ...

    def save(self, checkpoint: Message) -> None:
        """Keep everything so far, for views that are opened later; called now and then."""
        ...

    def end(self, last: Snapshot) -> None:
        """Show the end of the run; nothing more is called."""
        ...

    def lose(self, reason: str) -> None:
        """Show that no more news will come, because the run or its store is gone."""
        ...


class Feed:
    """One watched run."""

    def __init__(self, run: Run[Any], listener: Listener, *, period_s: float = PERIOD_S) -> None:
        """Start the thread. period_s: seconds between two looks at the run."""
        self._run = run
        self._listener = listener
        self._period_s = period_s
        self._cost_s = 0.0
        self._is_stopped = threading.Event()
        name = f"dagnb-feed-{run.id}"
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the last message is out. Returns whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Stop the thread; the run goes on."""
        self._is_stopped.set()

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
        while not self._is_stopped.is_set():
            # The forecast is made beside the run: the view begins without it.
            is_foreseen = is_foreseen or self._foresee(updates, is_over=now.is_over)
            throttle.take(now)
            if now.is_over:
                self._listener.end(now)
                return
            pause_s = min(self._cost_s / _LOOK_SHARE, _LONGEST_S)
            self._is_stopped.wait(max(self._period_s, pause_s))
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
        forecast, outlook = predicted(plan), forecast_of(plan)
        if forecast is not None and outlook is not None:
            updates.foresee(outlook.trace, forecast)
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
                if self._is_stopped.wait(1.0):
                    raise
        return look()


class _Throttle:
    """Sends a message when there is news; draws and saves less often, because both are slow."""

    def __init__(self, listener: Listener, updates: ViewUpdates) -> None:
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
