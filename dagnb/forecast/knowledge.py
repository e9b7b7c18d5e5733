"""The knowledge that this process has of the history, read once and then extended.

    samples of functions  ->  Predictor                           by name of the function
    acts of a platform    ->  Platform: transfers, starts, ...    by name of the platform

Reading a history of thousands of runs takes seconds, so a process does it once and later asks only
for what is new.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from dagnb.graph.brief import brief
from dagnb.graph.resources import Resources
from dagnb.planning.costs import Costs, LinearCost, StartCost
from dagnb.prediction.platform_model import MeasuredStart, Starts, Transfer, starts, transfer
from dagnb.prediction.predictor import Predictor
from dagnb.run_history.act import Act
from dagnb.run_history.history import ACTS, History
from dagnb.trace.span import STARTING, Phase


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The costs of one platform's own acts.

    starts: whole ones, by resources. acts: (phase, 'cold' or 'warm') -> median seconds of that part
    of a start. n: number of measured acts behind these costs.
    """

    fetch: LinearCost = Costs.fetch
    store: LinearCost = Costs.store
    commit: LinearCost = field(default_factory=lambda: LinearCost(Costs.commit_s))
    program_s: float = Costs.program_s
    submit_s: float = Costs.submit_s
    return_s: float = Costs.return_s
    transfer_spread: float = 0.5
    starts: Starts = field(default_factory=Starts)
    acts: Mapping[tuple[Phase, str], float] = field(default_factory=dict)
    n: int = 0

    __repr__ = brief

    def start(self, resources: Resources, *, is_warm: bool) -> StartCost:
        """Returns the cost of a start by act: each has its median, INVOKE the rest of the whole."""
        total_s = self.starts.seconds(resources, is_cold=not is_warm).p50
        detail = "warm" if is_warm else "cold"
        usual = {phase: self.acts.get((phase, detail), 0.0) for phase in STARTING[1:]}
        usual_s = sum(usual.values())
        # The medians of the parts are over all resources, the whole is for these: the parts may
        # exceed it.
        part = min(1.0, total_s / usual_s) if usual_s else 1.0
        return StartCost(
            invoke_s=total_s - part * usual_s,
            create_s=part * usual[Phase.CREATE],
            boot_s=part * usual[Phase.BOOT],
            import_s=part * usual[Phase.IMPORT],
            register_s=part * usual[Phase.REGISTER],
        )


class Knowledge:
    """The knowledge of one history; grows with it. Safe to use from several threads."""

    def __init__(self, history: History) -> None:
        """Reads nothing yet."""
        self.history = history
        self._lock = threading.Lock()
        self._birth = ""
        self._clear()

    def _clear(self) -> None:
        self._predictor = Predictor()
        # Name of a function -> number of the last sample that was read.
        self._read: dict[str, int] = {}
        # Name of a platform -> number of the last act that was read, the acts, their model.
        self._platforms: dict[str, tuple[int, list[Act], Platform]] = {}

    def predictor(self, names: Iterable[str]) -> Predictor:
        """Returns the predictor, after learning all runs of functions of these names.

        Raises HistoryError.
        """
        with self._up_to_date():
            groups: dict[int, list[str]] = {}
            for name in sorted(set(names)):
                groups.setdefault(self._read.get(name, 0), []).append(name)
            # One query for all names read equally far, which in a notebook is mostly one.
            for after, group in groups.items():
                runs, last = self.history.samples(group, after)
                for run in runs:
                    self._predictor.learn(run)
                self._read.update(dict.fromkeys(group, last))
            return self._predictor

    def platform(self, name: str) -> Platform:
        """Returns the costs of the acts of this platform. Raises HistoryError."""
        with self._up_to_date():
            after, acts, model = self._platforms.get(name, (0, [], Platform()))
            new, last = self.history.acts(name, after)
            if new:
                acts = newest([*new, *acts])
                model = platform(acts)
                self._platforms[name] = last, acts, model
        return model

    @contextlib.contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """Lets one thread in, without knowledge of a history that has been forgotten since."""
        with self._lock:
            birth = self.history.birth()
            if birth != self._birth:
                self._birth = birth
                self._clear()
            yield


_known: dict[Path, Knowledge] = {}

# In a forked child another thread of the parent may have held a lock: begin anew.
os.register_at_fork(after_in_child=_known.clear)


def knowledge(path: Path | None = None) -> Knowledge:
    """Returns the knowledge of the user's history, or of the one at this path."""
    history = History(path)
    return _known.setdefault(history.path, Knowledge(history))


def newest(acts: Iterable[Act]) -> list[Act]:
    """Returns as many acts of each kind as a history stores. acts: newest first."""
    counts: Counter[tuple[Phase, str]] = Counter()
    kept = []
    for act in acts:
        counts[act.phase, act.detail] += 1
        if counts[act.phase, act.detail] <= ACTS:
            kept.append(act)
    return kept


def platform(acts: Sequence[Act]) -> Platform:
    """Returns the model of measured acts, newest first; those never measured keep their default."""
    by_phase: dict[Phase, list[Act]] = {}
    by_start: dict[tuple[Phase, str], list[float]] = {}
    for act in acts:
        by_phase.setdefault(act.phase, []).append(act)
        if act.phase in STARTING[1:]:
            by_start.setdefault((act.phase, act.detail), []).append(act.seconds)

    fetch, store = _transfer(by_phase, Phase.FETCH), _transfer(by_phase, Phase.STORE)
    spreads = [model.spread for model in (fetch, store) if model is not None]
    measured_starts = []
    for act in by_phase.get(Phase.INVOKE, ()):
        is_cold = act.detail == "cold"
        measured_starts.append(MeasuredStart(act.resources, is_cold, act.seconds))
    return Platform(
        fetch=_cost(fetch, Costs.fetch),
        store=_cost(store, Costs.store),
        commit=_cost(_transfer(by_phase, Phase.COMMIT), LinearCost(Costs.commit_s)),
        program_s=_typical_s(by_phase, Phase.PROGRAM, Costs.program_s),
        submit_s=_typical_s(by_phase, Phase.SUBMIT, Costs.submit_s),
        return_s=_typical_s(by_phase, Phase.RETURN, Costs.return_s),
        # At most a factor of e: a few odd transfers must not dominate all scenarios.
        transfer_spread=min(1.0, max(spreads, default=Platform.transfer_spread)),
        starts=starts(measured_starts),
        acts={kind: median(seconds) for kind, seconds in by_start.items()},
        n=len(acts),
    )


def _transfer(by_phase: Mapping[Phase, Sequence[Act]], phase: Phase) -> Transfer | None:
    acts = by_phase.get(phase)
    if not acts:
        return None
    return transfer([(act.n_bytes, act.seconds) for act in acts])


def _cost(model: Transfer | None, default: LinearCost) -> LinearCost:
    if model is None:
        return default
    return LinearCost(model.latency_s, model.s_per_byte)


def _typical_s(by_phase: Mapping[Phase, Sequence[Act]], phase: Phase, default_s: float) -> float:
    acts = by_phase.get(phase)
    if not acts:
        return default_s
    # A median: one slow submission after a pause must not become the cost of all.
    return median(act.seconds for act in acts)
