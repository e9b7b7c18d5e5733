"""What happens in a run, for whoever watches it: one daemon thread a run, which looks a few times a second.

A thread, because it goes on while a cell blocks the kernel's loop. It never prints: that would land in another cell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from dagnb.errors import RunMissingError, StorageUnavailableError
from dagnb.handle import Run
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.story import Story
from dagnb.views import layout
from dagnb.views.layout import Picture
from dagnb_kernel_ext.moment import Label, Message, Moment, is_news, message, moment

PERIOD_S = 0.12
"""time between two looks"""

_PULSE_S = 0.9
"""a message at least this often, so that the time in the view goes on"""

_CHECKPOINT_S = 2.0
_PATIENCE = 60
"""so many looks in a row may fail, a second apart, before the thread gives up"""


class Audience(Protocol):
    """Who is told; in the feed's thread."""

    def begin(self, story: Story, picture: Picture) -> None:
        """The run's tasks and boxes, once, first."""
        ...

    def hear(self, news: Message) -> None:
        """What changed since the last message."""
        ...

    def keep(self, checkpoint: Message) -> None:
        """Everything, now and then, for views that are opened later."""
        ...

    def end(self, seen: Observation, story: Story) -> None:
        """The run is over."""
        ...

    def lose(self, reason: str) -> None:
        """There will be no more news, because the run or its store is gone."""
        ...


class Feed:
    """One watched run."""

    def __init__(self, run: Run[Any], audience: Audience, label: Label, *, period_s: float = PERIOD_S) -> None:
        """Start to watch. label: how people call a file."""
        self._run = run
        self._audience = audience
        self._label = label
        self._period_s = period_s
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"dagnb-feed-{run.id}", daemon=True)
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

    def _follow(self) -> None:
        seen = self._patiently(self._run.look)
        story = Story.read(seen.meta)
        picture = layout.of_dag(story.dag)
        self._audience.begin(story, picture)
        teller = _Teller(self._audience, self._label)
        while not self._is_stopped.is_set():
            teller.tell(moment(seen, story, picture, teller.before))
            if seen.state is not RunState.RUNNING:
                self._audience.end(seen, story)
                return
            self._is_stopped.wait(self._period_s)
            cursor = seen.cursor
            seen = self._patiently(lambda cursor=cursor: self._run.look(cursor))  # type: ignore[misc]  # binds this look's

    def _patiently(self, look: Callable[[], Observation]) -> Observation:
        """One look; a store that is away for a moment is asked again."""
        for _ in range(_PATIENCE):
            try:
                return look()
            except StorageUnavailableError:
                if self._is_stopped.wait(1.0):
                    raise
        return look()


class _Teller:
    """Turns moments into messages, and keeps quiet when there is nothing to say."""

    def __init__(self, audience: Audience, label: Label) -> None:
        self.before: Moment | None = None
        self._audience = audience
        self._label = label
        self._serial = 0
        self._told_at = self._kept_at = -1e9

    def tell(self, now: Moment) -> None:
        """A message if something changed or it is time for a pulse; a checkpoint now and then."""
        at = time.monotonic()
        is_over = now.state != RunState.RUNNING
        if is_news(now, self.before) or at - self._told_at >= _PULSE_S:
            self._serial += 1
            self._audience.hear(message(now, self.before, self._serial, self._label))
            self.before, self._told_at = now, at
        if at - self._kept_at >= _CHECKPOINT_S and not is_over:
            self._audience.keep(message(now, None, self._serial, self._label))
            self._kept_at = at
