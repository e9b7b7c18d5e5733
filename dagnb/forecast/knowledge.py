"""The knowledge that a process has of a history, and which grows with it.

    samples of functions  ->  Predictor                           by name of the function
    acts of a platform    ->  Platform: transfers, starts, ...    by name of the platform

Learning a thousand runs takes seconds. So a process does it once and later asks only for what is
new; and it saves what it has learnt, so that the next process goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from dagnb.forecast.costs import Platform, platform
from dagnb.prediction.learnt import Learnt, rules
from dagnb.prediction.predictor import Predictor
from dagnb.run_history.history import ACTS, History, RunSamples, first_of_each
from dagnb.run_history.platform_act import Act
from dagnb.run_history.saved_states import SavedState, SavedStates

# Runs of a function after which what was learnt is saved. A process learns fewer than these anew.
SAVE_RUNS = 5

# Runs of a function that are learnt at once, the newest: where there is no state, a plan waits for
# them. Older ones count for less than a seventh (predictions forget), and hold no memory.
MOST_RUNS = 100


class Knowledge:
    """The knowledge of one history; grows with it. Safe to use from several threads."""

    def __init__(self, history: History) -> None:
        """Reads nothing yet."""
        self.history = history
        self._states = SavedStates(history.path, rules())
        self._lock = threading.Lock()
        self._birth = ""
        self._clear()

    def _clear(self) -> None:
        self._predictor = Predictor()
        # By name of a function: the number of the last sample that was read; the runs that were
        # learnt since its state was saved.
        self._read: dict[str, int] = {}
        self._n_unsaved: dict[str, int] = {}
        # Name of a platform -> number of the last act that was read, the acts, their models by
        # whether the agent is gone.
        self._platforms: dict[str, tuple[int, list[Act], dict[bool, Platform]]] = {}

    def predictor(self, names: Iterable[str]) -> Predictor:
        """Returns a predictor of its own that has learnt all runs of functions of these names.

        Raises HistoryError.
        """
        with self._up_to_date():
            try:
                self._learn(sorted(set(names)))
            except BaseException:
                # An interrupt may leave runs learnt that are not noted as read: these would be
                # learnt twice, and saved so.
                self._clear()
                raise
            return self._predictor.copy()

    def _learn(self, names: Sequence[str]) -> None:
        self._restore([name for name in names if name not in self._read])
        groups: dict[int, list[str]] = {}
        for name in names:
            groups.setdefault(self._read[name], []).append(name)
        # One query for all names read equally far, which in a notebook is mostly one.
        for after, group in groups.items():
            runs, last = self.history.samples(group, after)
            for run in newest_runs(runs, MOST_RUNS):
                self._predictor.learn(run.samples, run.run, run.number)
                for name in {sample.name for sample in run.samples}:
                    self._n_unsaved[name] = self._n_unsaved.get(name, 0) + 1
            self._read.update(dict.fromkeys(group, last))
        self._save()

    def _restore(self, names: Sequence[str]) -> None:
        """Goes on from what other processes have learnt of these names."""
        self._read.update(dict.fromkeys(names, 0))
        saved_states = self._states.read(names, self._birth)
        newest = self.history.newest_sample() if saved_states else 0
        for name, saved in saved_states.items():
            # The history was replaced by an older copy of itself: numbers are given a second time.
            if saved.last > newest:
                continue
            # A state of these rules and this history that cannot be read is learnt anew.
            with contextlib.suppress(ValueError, TypeError):
                self._predictor.put(name, Learnt.unpack(saved.state))
                self._read[name] = saved.last

    def _save(self) -> None:
        """Saves what was learnt of names that have SAVE_RUNS runs which are not saved."""
        states = {}
        for name, n_runs in self._n_unsaved.items():
            if n_runs >= SAVE_RUNS:
                states[name] = SavedState(self._read[name], self._predictor.known(name).pack())
        if states:
            self._states.write(states, self._birth)
            for name in states:
                del self._n_unsaved[name]

    def platform(self, name: str, *, is_agent_gone: bool = False) -> Platform:
        """Returns the costs of the acts of this platform. Raises HistoryError.

        is_agent_gone: the first workers of a run have to wait for the agent's start.
        """
        with self._up_to_date():
            after, acts, models = self._platforms.get(name, (0, [], {}))
            new, last = self.history.acts(name, after)
            if new:
                # As many as the history stores; the newest come first.
                acts, models = first_of_each([*new, *acts], attrgetter("kind"), ACTS), {}
            if is_agent_gone not in models:
                models[is_agent_gone] = platform(acts, is_agent_gone=is_agent_gone)
            self._platforms[name] = last, acts, models
        return models[is_agent_gone]

    @contextlib.contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """Lets one thread in, without knowledge of a history that has been forgotten since."""
        with self._lock:
            birth = self.history.birth()
            if birth != self._birth:
                self._birth = birth
                self._clear()
            yield


def newest_runs(runs: Sequence[RunSamples], most: int) -> list[RunSamples]:
    """Returns the samples of the newest runs of each name, at most so many; oldest first."""
    counts: Counter[str] = Counter()
    kept = []
    for run in reversed(runs):
        samples = [sample for sample in run.samples if counts[sample.name] < most]
        counts.update({sample.name for sample in samples})
        if samples:
            kept.append(run._replace(samples=samples))
    return kept[::-1]


_known: dict[Path, Knowledge] = {}

# In a forked child another thread of the parent may have held a lock: begin anew.
os.register_at_fork(after_in_child=_known.clear)


def knowledge(path: Path | None = None) -> Knowledge:
    """Returns the knowledge of the user's history, or of the one at this path."""
    history = History(path)
    return _known.setdefault(history.path, Knowledge(history))
