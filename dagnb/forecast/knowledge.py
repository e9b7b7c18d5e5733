"""What the history taught this process so far: read once, then only what is new."""

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
from dagnb.prediction.predictor import Predictor
from dagnb.prediction.platform_model import MeasuredStart, Starts, starts
from dagnb.prediction.platform_model import Transfer, transfer
from dagnb.run_history.act import Act
from dagnb.run_history.history import ACTS, History
from dagnb.trace.span import STARTING, Phase


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What acts of one platform cost. n: acts it rests on.

    starts: whole ones, by resources. acts: (phase, 'cold' or 'warm') -> seconds of that part of a start.
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
        """A start, act by act: each as long as usual, the first as long as the whole leaves to it."""
        total_s = self.starts.seconds(resources, is_cold=not is_warm).p50
        detail = "warm" if is_warm else "cold"
        usual = {phase: self.acts.get((phase, detail), 0.0) for phase in STARTING[1:]}
        part = min(1.0, total_s / sum(usual.values())) if any(usual.values()) else 1.0
        return StartCost(
            invoke_s=total_s - part * sum(usual.values()),
            create_s=part * usual[Phase.CREATE],
            boot_s=part * usual[Phase.BOOT],
            import_s=part * usual[Phase.IMPORT],
            register_s=part * usual[Phase.REGISTER],
        )


class Knowledge:
    """Grows with the history. One a history and process; safe to use from several threads."""

    def __init__(self, history: History) -> None:
        """Nothing is read yet."""
        self.history = history
        self._lock = threading.Lock()
        self._birth = ""
        self._begin()

    def _begin(self) -> None:
        self._predictor = Predictor()
        self._read: dict[str, int] = {}
        self._platforms: dict[str, tuple[int, list[Act], Platform]] = {}

    def predictor(self, names: Iterable[str]) -> Predictor:
        """Knows all that past runs taught of functions of these names. Raises HistoryError."""
        with self._known():
            for after, group in self._groups(set(names)):
                runs, last = self.history.samples(group, after)
                for run in runs:
                    self._predictor.learn(run)
                self._read.update(dict.fromkeys(group, last))
            return self._predictor

    def platform(self, name: str) -> Platform:
        """What acts cost there. Raises HistoryError."""
        with self._known():
            after, acts, found = self._platforms.get(name, (0, [], Platform()))
            new, last = self.history.acts(name, after)
            if new:
                acts = newest([*new, *acts])
                found = platform(acts)
                self._platforms[name] = last, acts, found
        return found

    @contextlib.contextmanager
    def _known(self) -> Iterator[None]:
        """One at a time, and without what was learnt of a history that has been forgotten since."""
        with self._lock:
            if (birth := self.history.birth()) != self._birth:
                self._birth = birth
                self._begin()
            yield

    def _groups(self, names: set[str]) -> list[tuple[int, list[str]]]:
        """Names by how far their samples were read."""
        groups: dict[int, list[str]] = {}
        for name in sorted(names):
            groups.setdefault(self._read.get(name, 0), []).append(name)
        return list(groups.items())


_known: dict[Path, Knowledge] = {}

os.register_at_fork(
    after_in_child=_known.clear
)  # another thread may have been in the middle of one


def knowledge(path: Path | None = None) -> Knowledge:
    """Of the user's history, or of the one at this path."""
    history = History(path)
    return _known.setdefault(history.path, Knowledge(history))


def newest(acts: Iterable[Act]) -> list[Act]:
    """So many of each kind as a history keeps. acts: newest first."""
    seen: Counter[tuple[Phase, str]] = Counter()
    found = []
    for act in acts:
        seen[act.phase, act.detail] += 1
        if seen[act.phase, act.detail] <= ACTS:
            found.append(act)
    return found


def platform(acts: Sequence[Act]) -> Platform:
    """From measured acts, newest first; what was never measured keeps its default."""
    by_phase: dict[Phase, list[Act]] = {}
    for act in acts:
        by_phase.setdefault(act.phase, []).append(act)
    fetch, store = _moved(by_phase.get(Phase.FETCH, ())), _moved(by_phase.get(Phase.STORE, ()))
    spreads = [found.spread for found in (fetch, store) if found is not None]
    started = [
        MeasuredStart(resources=act.resources, is_cold=act.detail == "cold", seconds=act.seconds)
        for act in by_phase.get(Phase.INVOKE, ())
    ]
    return Platform(
        fetch=_law(fetch, Costs.fetch),
        store=_law(store, Costs.store),
        commit=_law(_moved(by_phase.get(Phase.COMMIT, ())), LinearCost(Costs.commit_s)),
        program_s=_typical(by_phase.get(Phase.PROGRAM, ()), Costs.program_s),
        submit_s=_typical(by_phase.get(Phase.SUBMIT, ()), Costs.submit_s),
        return_s=_typical(by_phase.get(Phase.RETURN, ()), Costs.return_s),
        transfer_spread=min(1.0, max(spreads, default=Platform.transfer_spread)),
        starts=starts(started),
        acts={
            (phase, detail): median(act.seconds for act in by_phase[phase] if act.detail == detail)
            for phase in STARTING[1:]
            for detail in {act.detail for act in by_phase.get(phase, ())}
        },
        n=len(acts),
    )


def _moved(acts: Sequence[Act]) -> Transfer | None:
    return transfer([(act.n_bytes, act.seconds) for act in acts]) if acts else None


def _law(found: Transfer | None, default: LinearCost) -> LinearCost:
    return LinearCost(found.latency_s, found.s_per_byte) if found is not None else default


def _typical(acts: Sequence[Act], default: float) -> float:
    return median(act.seconds for act in acts) if acts else default
