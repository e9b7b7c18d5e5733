"""The marks of a plan's picture: where workers run out of work, where the chain rule breaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dagnb.graph.brief import brief
from dagnb.planning.chains import ChainBreak
from dagnb.planning.plan import Advice, Plan, advice
from dagnb.views.canvas import LegendEntry
from dagnb.views.markup import element

BREAK, WAIT = "failed", "retrying"
"""Roles of the colours, see palette.py: of a break of the chain rule, and of advice."""

# Advice that captions and texts give in words; pictures mark all of it.
_SAID = 3

_ICONS = {BREAK: "M5 .6 9.8 9.4H.2z", WAIT: "M1.5 1h2.6v8H1.5zM5.9 1h2.6v8H5.9z"}
_NAMES = {BREAK: "breaks the chain rule", WAIT: "its worker waits for it, or starts again"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """The marks of a plan's picture.

    roles: step -> BREAK or WAIT. says: step -> lines of its tooltip. edges: pairs of steps along
    which the chain rule is broken. captions: sentences below the picture.
    """

    roles: Mapping[int, str] = field(default_factory=dict)
    says: Mapping[int, list[str]] = field(default_factory=dict)
    edges: frozenset[tuple[int, int]] = frozenset()
    captions: tuple[str, ...] = ()

    __repr__ = brief

    def role(self, steps: Iterable[int]) -> str:
        """Returns the mark of a box of these steps: BREAK before WAIT, '' for none."""
        roles = {self.roles.get(step, "") for step in steps}
        return min(roles - {""}, default="", key=list(_ICONS).index)

    def legend(self) -> list[LegendEntry]:
        """Returns an entry for each mark that occurs."""
        used = set(self.roles.values())
        entries = []
        for role, name in _NAMES.items():
            if role in used:
                entries.append(LegendEntry(mark=icon(role), words=name))
        return entries


def remarks_on(plan: Plan, broken: ChainBreak | None = None) -> Remarks:
    """Returns the marks for all advice on a plan, and for this break of the chain rule."""
    roles: dict[int, str] = {}
    says: dict[int, list[str]] = defaultdict(list)
    remarks = advice(plan)
    for remark in remarks:
        roles[remark.step] = WAIT
        says[remark.step].append(f"advice: {remark.text}")
    if broken is None:
        return Remarks(roles=roles, says=says, captions=_said(remarks))

    for step in broken.steps:
        roles[step] = BREAK
        says[step].append(f"chain rule: {broken.text}")
    return Remarks(
        roles=roles,
        says=says,
        edges=frozenset(pairwise(broken.path)),
        captions=(f"Chain rule: {broken.text}", *_said(remarks)),
    )


def advice_lines(plan: Plan) -> tuple[str, ...]:
    """Returns the first advice on a plan in sentences, and how much more there is."""
    return _said(advice(plan))


def _said(remarks: Sequence[Advice]) -> tuple[str, ...]:
    lines = [f"Advice: {remark.text}" for remark in remarks[:_SAID]]
    if len(remarks) > _SAID:
        lines.append(f"Advice: {len(remarks) - _SAID:,} more in plan.check().")
    return tuple(lines)


def icon(role: str) -> str:
    """Returns the icon of a mark in a square of 10 by 10."""
    return element("path", d=_ICONS[role], class_=f"icon fill-{role}")
