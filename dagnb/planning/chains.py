"""The chain rule: a worker is started once, and runs on without a pause between its branches.

A pinned step *continues* a chain if a direct upstream step is on its worker, too. Otherwise it
*opens* a branch. The rule, for each worker:

    All steps that open a branch of the worker have the same ancestors.

This is so exactly if they become ready at the same moment in every execution: they are sources, or
branches of one fan-out. The rule is broken in one of two ways, and three steps show either:

    re-opened   a:w0 -> x:w1 -> b:w0     w0 left the branch after a, and opens it again at b
    apart       x:w1 -> p:w0   q:w0      p waits for x and q does not: w0 has two origins

Three is the least number. Of two steps of a worker one continues the other, or both are sources.

A plan that breaks the rule can be executed all the same, because a lease says whether a worker is
alive. The rule is for planners that promise to keep it, and for plans that must start no worker
twice. A fan-in continues a chain if one of its inputs is on its worker, even if it waits for others
from elsewhere; the advice of `check` covers that wait.

Source: the validator of the notes this project comes from, which let branches be re-opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagnb.graph.brief import brief, number, quoted
from dagnb.graph.client_hook import Shown, picture_of

if TYPE_CHECKING:
    from dagnb.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainBreak(Shown):
    """The smallest part of a plan that breaks the chain rule.

    A notebook shows it on the picture of the plan.

    steps: three positions in Plan.steps, ascending. path: positions along edges, from the first
    cause among these steps to the branch that opens at another moment. text: the sentence, which
    ends with the cure. n_more: further branches that break the rule.
    """

    plan: Plan
    worker: str
    steps: tuple[int, ...]
    path: tuple[int, ...]
    text: str
    n_more: int = 0

    __repr__ = brief

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the steps."""
        return tuple(self.plan.names[step] for step in self.steps)

    def to_svg(self) -> str:
        """Returns the planning image with these steps marked. Raises ConfigError as Plan does."""
        return picture_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """A step that opens a branch of its worker. other: one whose ancestors differ.

    is_again: True if the worker has run one of its ancestors.
    """

    step: int
    other: int
    is_again: bool


def chain_break(plan: Plan) -> ChainBreak | None:
    """Returns a smallest part that breaks the chain rule; None for a plan that keeps it.

    Re-opened branches come first, and of several the first step. O((steps + edges) * steps / 64).
    """
    ancestors = _ancestors(plan)
    wrong = _wrong(plan, ancestors)
    if not wrong:
        return None
    opening = next((opening for opening in wrong if opening.is_again), wrong[0])
    n_more = len(wrong) - 1
    if opening.is_again:
        return _reopened(plan, opening.step, n_more)
    return _apart(plan, opening, ancestors, n_more)


def _ancestors(plan: Plan) -> list[int]:
    """Returns the ancestors of each step as a set of bits in an integer."""
    ancestors: list[int] = []
    for step in plan.steps:
        above = 0
        for u in step.upstream:
            above |= ancestors[u] | 1 << u
        ancestors.append(above)
    return ancestors


def _wrong(plan: Plan, ancestors: Sequence[int]) -> list[_Opening]:
    """Returns the steps that open a branch at another moment than the worker's first branch."""
    wrong = []
    first_of: dict[str, int] = {}
    steps_of: dict[str, int] = {}  # worker -> its steps until now, as a set of bits
    for position, step in enumerate(plan.steps):
        worker = step.worker
        if worker is None:
            continue
        before = steps_of.get(worker, 0)
        steps_of[worker] = before | 1 << position
        if any(plan.steps[u].worker == worker for u in step.upstream):
            continue
        first = first_of.setdefault(worker, position)
        if ancestors[first] != ancestors[position]:
            is_again = bool(ancestors[position] & before)
            wrong.append(_Opening(step=position, other=first, is_again=is_again))
    return wrong


def _reopened(plan: Plan, step: int, n_more: int) -> ChainBreak:
    worker = plan.steps[step].worker
    assert worker is not None
    path = _way_back(plan, step)
    left, *between, _ = path
    names = plan.names
    outside = quoted([names[u] for u in between], "and")
    text = (
        f"worker '{worker}' leaves its branch after '{names[left]}' and opens it again at "
        f"'{names[step]}', which needs '{names[between[-1]]}' from elsewhere. "
        f"Pin {outside} to '{worker}' as well, or '{names[step]}' to another worker, or let "
        f"'{names[step]}' float.{_more(n_more)}"
    )
    return ChainBreak(
        plan=plan,
        worker=worker,
        steps=(left, between[-1], step),
        path=path,
        text=text,
        n_more=n_more,
    )


def _way_back(plan: Plan, step: int) -> tuple[int, ...]:
    """Returns a shortest way along edges to a step from another one of its worker."""
    after: dict[int, int] = {}
    waiting = deque([step])
    while True:
        # A step that opens a branch again has such an ancestor, so the search ends.
        reader = waiting.popleft()
        for u in plan.steps[reader].upstream:
            if u in after:
                continue
            after[u] = reader
            waiting.append(u)
            if plan.steps[u].worker == plan.steps[step].worker:
                way = [u]
                while way[-1] != step:
                    way.append(after[way[-1]])
                return tuple(way)


def _apart(plan: Plan, opening: _Opening, ancestors: Sequence[int], n_more: int) -> ChainBreak:
    worker = plan.steps[opening.step].worker
    assert worker is not None
    # One of the two waits for a direct upstream step that is not above the other: if all were, the
    # ancestors of both would be equal.
    late, early = opening.step, opening.other
    if not ancestors[late] & ~ancestors[early]:
        late, early = early, late
    cause = next(u for u in plan.steps[late].upstream if not ancestors[early] >> u & 1)
    names = plan.names
    text = (
        f"the branches of worker '{worker}' have different origins: '{names[late]}' waits for "
        f"'{names[cause]}', and '{names[early]}' does not. "
        f"Pin '{names[late]}' to another worker, or let it float.{_more(n_more)}"
    )
    return ChainBreak(
        plan=plan,
        worker=worker,
        steps=tuple(sorted((cause, early, late))),
        path=(cause, late),
        text=text,
        n_more=n_more,
    )


def _more(n: int) -> str:
    if not n:
        return ""
    return f" {number(n, 'more branch')} break{'s' if n == 1 else ''} the rule."
