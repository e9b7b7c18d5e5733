"""What happens in a run, for whoever watches it: one daemon thread a run, which looks a few times a second.

A thread, because it goes on while a cell blocks the kernel's loop. It never prints: that would land in another cell.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from dagnb.client import PREDICTED_STEPS
from dagnb.errors import RunMissingError, StorageLostError, StorageUnavailableError
from dagnb.failure import raised_text
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.handle import Run
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import Message, ViewUpdates

PERIOD_S = 0.1
"""time between two looks"""

_LOOK_SHARE = 0.2
"""share of the time that looking may take: large runs are looked at less often"""

_PULSE_S = 0.9
"""a message at least this often, so that a view knows it is still told"""

_DRAW_S = 0.6
_DRAW_SHARE = 0.08
"""a timeline is drawn this often, and takes at most this share of a processor"""

_CHECKPOINT_S = 0.3
_CHECKPOINT_LATER_S = 2.0
_CHECKPOINT_RATE = 50_000
"""the first checkpoint soon, before a page has loaded; later ones rarely, and so many bytes a second at most"""

_PATIENCE = 60
"""so many looks in a row may fail, a second apart, before the thread gives up"""


class Audience(Protocol):
    """Who is told; in the feed's thread."""

    def begin(self, telling: ViewUpdates) -> None:
        """The run's tasks and boxes, once, first."""
        ...

    def hear(self, news: Message) -> None:
        """What changed since the last message."""
        ...

    def keep(self, checkpoint: Message) -> None:
        """Everything, now and then, for views that are opened later."""
        ...

    def end(self, last: Snapshot) -> None:
        """The run is over."""
        ...

    def lose(self, reason: str) -> None:
        """There will be no more news, because the run or its store is gone."""
        ...


class Feed:
    """One watched run."""

    def __init__(self, run: Run[Any], audience: Audience, *, period_s: float = PERIOD_S) -> None:
        """Start to watch."""
        self._run = run
        self._audience = audience
        self._period_s = period_s
        self._cost_s = 0.0
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name=f"dagnb-feed-{run.id}", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the last message is out; whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Watch no longer; the run goes on."""
        self._is_stopped.set()

    def _watch(self) -> None:
        try:
            self._follow()
        except RunMissingError:
            self._audience.lose("the store no longer knows this run")
        except StorageUnavailableError as error:
            self._audience.lose(str(error))
        except Exception as error:  # noqa: BLE001  # a thread that dies would say so in somebody's cell, and nobody else
            self._audience.lose(f"the view cannot go on: {raised_text(error)}")

    def _follow(self) -> None:
        now = self._patiently(self._run.snapshot)
        telling = self._updates(now)
        self._audience.begin(telling)
        pace = _Pace(self._audience, telling)
        while not self._is_stopped.is_set():
            pace.tell(now)
            if now.is_over:
                self._audience.end(now)
                return
            self._is_stopped.wait(max(self._period_s, self._cost_s / _LOOK_SHARE))
            before = now
            now = self._patiently(lambda before=before: self._run.snapshot(before))  # type: ignore[misc]  # this look's

    def _updates(self, now: Snapshot) -> ViewUpdates:
        """With what was foretold, where this process made the plan and foretold it before the run."""
        plan = self._run.plan
        outlook = (
            forecast_of(plan) if plan is not None and len(plan.steps) <= PREDICTED_STEPS else None
        )
        if outlook is None:
            return ViewUpdates(now.description, now.seen.submitted_at)
        return ViewUpdates(now.description, now.seen.submitted_at, outlook.trace, outlook.forecast)

    def _patiently(self, look: Callable[[], Snapshot]) -> Snapshot:
        """One look; a store that is away for a moment is asked again."""
        begun = time.monotonic()
        for _ in range(_PATIENCE):
            try:
                now = look()
                self._cost_s = time.monotonic() - begun
                return now
            except StorageLostError:
                raise
            except StorageUnavailableError:
                if self._is_stopped.wait(1.0):
                    raise
        return look()


class _Pace:
    """Keeps quiet when there is nothing to say, draws and checkpoints no more often than they are worth."""

    def __init__(self, audience: Audience, telling: ViewUpdates) -> None:
        self._audience = audience
        self._updates = telling
        self._pulse_at = self._draw_at = 0.0
        self._keep_at = time.monotonic() + _CHECKPOINT_S
        self._is_drawn = False
        self._artist = ThreadPoolExecutor(1, thread_name_prefix="dagnb-drawing")
        self._drawing: Future[tuple[Message, float]] | None = None

    def tell(self, now: Snapshot) -> None:
        """A message if something changed or it is time for a pulse."""
        message, is_news = self._updates.tell(now)
        self._is_drawn = self._is_drawn and not is_news
        at = time.monotonic()
        drawn = self._drawn(now, at)
        if drawn:
            message["drawn"] = drawn
        elif not is_news and at < self._pulse_at:
            return
        self._audience.hear(message)
        self._pulse_at = at + _PULSE_S
        if at >= self._keep_at and not now.is_over:
            whole = self._updates.everything()
            self._audience.keep(whole)
            self._keep_at = at + max(_CHECKPOINT_LATER_S, len(json.dumps(whole)) / _CHECKPOINT_RATE)

    def _drawn(self, now: Snapshot, at: float) -> Message | None:
        """A drawing that is ready. A thread draws, so that what changes is told meanwhile; the last is drawn here."""
        ready = None
        if self._drawing is not None and (now.is_over or self._drawing.done()):
            ready, cost_s = self._drawing.result()
            self._drawing = None
            self._draw_at = at + max(_DRAW_S, cost_s / _DRAW_SHARE)
        if now.is_over:
            self._artist.shutdown()
            return self._updates.draw()
        if self._drawing is None and ready is None and at >= self._draw_at and not self._is_drawn:
            self._drawing = self._artist.submit(_timed, self._updates.draw)
            self._is_drawn = not now.seen.states.count("X")  # what runs grows
        return ready


def _timed(draw: Callable[[], Message]) -> tuple[Message, float]:
    begun = time.thread_time()
    return draw(), time.thread_time() - begun
