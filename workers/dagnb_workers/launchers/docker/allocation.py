"""Which container does what next: a pure decision over what there is and what is wanted.

The containers are shared by all runs of a user. One is *starting*, *idle* (warm), *lent* to a run, or *ending*; all
count against the caps until they are gone. Wants are served in the order they arose, a container each in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dagnb_workers.launchers.docker.spec import Spec


class ContainerState(StrEnum):
    """What a container is about."""

    STARTING = "starting"
    IDLE = "idle"
    LENT = "lent"
    ENDING = "ending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A container as the decision sees it. run: whom it is lent to, or being started for.

    is_expected: its worker has not registered in the run yet. is_resting: its worker has nothing to do, or leaves soon.
    """

    name: str
    spec: Spec
    state: ContainerState
    run: str = ""
    kind: str = ""
    is_expected: bool = False
    is_resting: bool = False
    idle_since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A run has ready tasks that nobody staffs: so many workers of this kind, made like this spec.

    run '': nobody yet; so many more containers are to be kept warm.
    """

    run: str
    kind: str
    spec: Spec
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of all containers together: how many, and megabytes of memory. per_run: how many a run may hold."""

    cap: int
    memory_mb: int
    per_run: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to do now. lend: idle container -> want. start: for these wants. end, hurry: names of containers."""

    lend: tuple[tuple[str, Want], ...] = ()
    start: tuple[Want, ...] = ()
    end: tuple[str, ...] = ()
    hurry: tuple[str, ...] = ()


def decide(held: Iterable[Held], wants: Sequence[Want], limits: Limits) -> Orders:
    """Lend what fits and is warm; else start while there is room; else make room. Never more than the limits."""
    desk = _Allocator({box.name: box for box in held}, limits)
    missing = [(want, want.n - desk.on_the_way(want)) for want in wants]
    for turn in range(max((n for _, n in missing), default=0)):
        for want, n in missing:
            if turn < n and desk.may_hold(want.run):
                desk.serve(want)
            elif turn < n:
                desk.hurry(want.run)
    return Orders(
        lend=tuple(desk.lent),
        start=tuple(desk.started),
        end=tuple(desk.ended),
        hurry=tuple(dict.fromkeys(desk.hurried)),
    )


class _Allocator:
    """The containers while the decision is being made."""

    def __init__(self, boxes: dict[str, Held], limits: Limits) -> None:
        self.boxes, self.limits = boxes, limits
        self.lent: list[tuple[str, Want]] = []
        self.started: list[Want] = []
        self.ended: list[str] = []
        self.hurried: list[str] = []

    def on_the_way(self, want: Want) -> int:
        """How many containers will register in the run for this kind."""
        return sum(
            box.is_expected and (box.run, box.kind) == (want.run, want.kind)
            for box in self.boxes.values()
            if box.state in (ContainerState.STARTING, ContainerState.LENT)
        )

    def may_hold(self, run: str) -> bool:
        """Whether the run may have one more; '' stands for nobody, who may have what there is room for."""
        n = sum(
            box.run == run for box in self.boxes.values() if box.state is not ContainerState.ENDING
        )
        return not run or n < self.limits.per_run.get(run, self.limits.cap)

    def serve(self, want: Want) -> None:
        """One container for the want, or room for one."""
        if want.run and (warm := self._warm(want.spec)):
            self.lent.append((warm.name, want))
            self.boxes[warm.name] = replace(
                warm, state=ContainerState.LENT, run=want.run, kind=want.kind, is_expected=True
            )
        elif self._has_room(want.spec):
            self.started.append(want)
            name = f"?{len(self.started)}"
            self.boxes[name] = Held(
                name=name,
                spec=want.spec,
                state=ContainerState.STARTING,
                run=want.run,
                is_expected=True,
            )
        else:
            self._make_room(want)

    def _warm(self, spec: Spec) -> Held | None:
        """The idle container of this spec that was used last, whose caches are warm; else one that will be idle."""
        alike = [box for box in self.boxes.values() if box.spec == spec]
        idle = [box for box in alike if box.state is ContainerState.IDLE]
        coming = (
            box
            for box in alike
            if box.state is ContainerState.STARTING and not box.run and not box.name.startswith("?")
        )
        return max(idle, key=lambda box: box.idle_since, default=next(coming, None))

    def _has_room(self, spec: Spec, without: Iterable[str] = ()) -> bool:
        gone = set(without)
        rest = [box for box in self.boxes.values() if box.name not in gone]
        used_mb = sum(box.spec.memory_mb for box in rest)
        return len(rest) < self.limits.cap and used_mb + spec.memory_mb <= self.limits.memory_mb

    def _make_room(self, want: Want) -> None:
        """End idle containers, the smallest that is large enough or else the largest first; hurry who rests."""
        leaving = [box.name for box in self.boxes.values() if box.state is ContainerState.ENDING]
        idle = [
            box
            for box in self.boxes.values()
            if box.state is ContainerState.IDLE and box.spec != want.spec
        ]
        if not want.run and not self._has_room(want.spec, [*leaving, *(box.name for box in idle)]):
            return  # what is kept for nobody ends nothing in vain, and hurries nobody
        while idle and not self._has_room(want.spec, leaving):
            enough = [box for box in idle if self._has_room(want.spec, [*leaving, box.name])]
            sign = 1 if enough else -1
            chosen = min(
                enough or idle,
                key=lambda box: (sign * box.spec.memory_mb, box.idle_since, box.name),
            )
            idle.remove(chosen)
            leaving.append(chosen.name)
            self.ended.append(chosen.name)
            self.boxes[chosen.name] = replace(chosen, state=ContainerState.ENDING)
        if not self._has_room(want.spec, leaving):
            self.hurry()

    def hurry(self, run: str | None = None) -> None:
        """Hurry who rests, of all runs or of the one that holds as many as it may."""
        resting = (
            box
            for box in self.boxes.values()
            if box.state is ContainerState.LENT and box.is_resting
        )
        self.hurried += [box.name for box in resting if run in (None, box.run)]
