"""Does a plan fit its graph, and where would a pinned worker run out of work?

Any assignment of workers runs, so the second answer is advice. When a worker runs out of work depends on how long
everything takes; said here is only what holds however long it takes:

    A worker *stops after* D when in every execution there is a moment at which it has run exactly the steps D, some
    but not all of its own, and none of the others is ready.

An execution is any timing the edges allow: steps begin when all upstream steps have ended, a pinned worker runs one
at a time, a step that is ready may be kept waiting (it failed and is tried again later; another had priority).
A worker that stops leaves and is started again, or idles if the plan lets it linger. One that runs out of work in
every execution, but not always after the same steps, gets no advice.

Exact, by this law: worker w stops after D if and only if D is the set of w's steps above r, and also the set of w's
steps above an upstream of r on another worker (a *gate*), for each first step r of the others. Why: then r can be
ready only after a gate ended that began after all of D, and w meanwhile has nothing else. If some d in D were above
no gate of r, an execution could run d last, for as long as the gates of r take, and go on to r without a pause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagnb.errors import InvalidPlanError
from dagnb.graph.dag import Dag

if TYPE_CHECKING:
    from dagnb.planning.plan import Plan

_COLUMNS = 4096
"""steps whose descendants are followed at a time: bounds the memory to steps * 512 bytes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One remark on a plan that runs all the same.

    kind: "restart", the worker leaves and is started again for `step`; "idle", it lingers and waits for it.
    `step` is a position in Plan.steps; of several that the worker then waits for, the first.
    """

    kind: str
    worker: str
    step: int
    text: str


def check(plan: Plan, dag: Dag) -> tuple[Advice, ...]:
    """Advice by step. Raises InvalidPlanError with every misfit. O((steps + edges) * steps / 64)."""
    problems = list(dict.fromkeys(_problems(plan, dag)))
    if problems:
        raise InvalidPlanError(plan.planner, problems)
    return tuple(_advice(plan, worker, firsts) for worker, firsts in stops(plan))


def stops(plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """Each stop there is in every execution: the worker, and the first steps after it, ascending; by the first of them.

    The law above in numbers: put the steps of w in order of how many of its steps are above each. Where the count
    rises, D is the n steps before; the steps r of the next count are the first of the others. w stops after D if each
    r has n steps of w above its gates: those can only be D, since all of them have smaller counts.
    """
    above, gated = _counts(plan)
    found = []
    for worker, mine in _by_worker(plan).items():
        mine.sort(key=lambda step: above[step])
        begin = 0
        for end in range(1, len(mine) + 1):
            if end < len(mine) and above[mine[end]] == above[mine[begin]]:
                continue
            firsts = mine[begin:end]
            if begin and all(gated[r] == begin for r in firsts):
                found.append((worker, tuple(sorted(firsts))))
            begin = end
    return sorted(found, key=lambda stop: stop[1])


def _counts(plan: Plan) -> tuple[list[int], list[int]]:
    """For each pinned step, how many steps of its worker are above it, and how many above its gates. 0 for others."""
    above, gated = [0] * len(plan.steps), [0] * len(plan.steps)
    waiting = [
        mine
        for mine in _by_worker(plan).values()
        if len(mine) > 1 and any(_gates(plan, s) for s in mine)
    ]
    columns = [step for mine in waiting for step in mine]
    for begin in range(0, len(columns), _COLUMNS):
        bits = {step: 1 << bit for bit, step in enumerate(columns[begin : begin + _COLUMNS])}
        _count_some(plan, bits, above, gated)
    return above, gated


def _count_some(plan: Plan, bits: dict[int, int], above: list[int], gated: list[int]) -> None:
    """Add to the counts what these steps, each with a bit of its own, contribute."""
    masks: dict[str | None, int] = {}
    for column, bit in bits.items():
        worker = plan.steps[column].worker
        masks[worker] = masks.get(worker, 0) | bit
    ancestors: list[int] = []
    for position, step in enumerate(plan.steps):
        every = gates = 0
        for u in step.upstream:
            every |= ancestors[u] | bits.get(u, 0)
            if plan.steps[u].worker != step.worker:
                gates |= ancestors[u]
        ancestors.append(every)
        mask = masks.get(step.worker, 0)
        above[position] += (every & mask).bit_count()
        gated[position] += (gates & mask).bit_count()


def _gates(plan: Plan, step: int) -> list[int]:
    """Upstream steps of another worker, or floating."""
    return [u for u in plan.steps[step].upstream if plan.steps[u].worker != plan.steps[step].worker]


def _by_worker(plan: Plan) -> dict[str, list[int]]:
    """Pinned worker -> its steps, ascending."""
    found: dict[str, list[int]] = {}
    for position, step in enumerate(plan.steps):
        if step.worker is not None:
            found.setdefault(step.worker, []).append(position)
    return found


def _advice(plan: Plan, worker: str, firsts: Sequence[int]) -> Advice:
    terms = plan.workers.get(worker)
    linger_s = terms.linger_s if terms else 0.0
    waiting = _listed([plan.names[step] for step in firsts], "or")
    gates = _listed(
        [plan.names[u] for u in dict.fromkeys(u for step in firsts for u in _gates(plan, step))],
        "and",
    )
    ending = (
        f"it idles, at most {linger_s:g} s" if linger_s > 0 else "it leaves and is started again"
    )
    return Advice(
        kind="idle" if linger_s > 0 else "restart",
        worker=worker,
        step=firsts[0],
        text=f"worker '{worker}' has nothing to do until {waiting} is ready, which needs {gates} from elsewhere: "
        f"{ending}. Pin {gates} to '{worker}' as well, or let {waiting} float.",
    )


def _listed(names: Sequence[str], word: str) -> str:
    """'a', 'b' and 'c'; of more than three the first two and how many more."""
    quoted = [f"'{name}'" for name in names]
    if len(quoted) > 3:
        quoted = [*quoted[:2], f"{len(quoted) - 2} more"]
    return f" {word} ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _problems(plan: Plan, dag: Dag) -> Iterator[str]:
    if plan.dag != dag:
        yield "it was made for another DAG"
        return
    for position in range(len(plan.steps)):
        yield from _step_problems(plan, position)
    present = {step.task for step in plan.steps}
    for sink in dag.sinks:
        if sink not in present:
            yield f"task '{dag.calls[sink].name}' is a sink without a step"
    yield from _worker_problems(plan)
    for upstream, step in plan.ways:
        if not 0 <= step < len(plan.steps) or upstream not in plan.steps[step].upstream:
            yield f"it has a way from step {upstream} to step {step}, which is no edge"
    for prewarm in plan.prewarms:
        if prewarm.anchor is not None and not 0 <= prewarm.anchor < len(dag.calls):
            yield f"a prewarm is anchored to task {prewarm.anchor}, which does not exist"


def _step_problems(plan: Plan, position: int) -> Iterator[str]:
    step, calls = plan.steps[position], plan.dag.calls
    if not 0 <= step.task < len(calls):
        yield f"step {position} computes task {step.task}, which does not exist"
        return
    name = f"step {position} ('{calls[step.task].name}')"
    if any(not 0 <= u < position for u in step.upstream):
        yield f"{name} reads a step that does not stand before it"
    elif tuple(plan.steps[u].task for u in step.upstream) != calls[step.task].upstream:
        yield f"{name} reads other tasks than the DAG says"
    if step.worker is not None and not step.worker.strip():
        yield f"{name} is pinned to a worker without a name"
    if step.worker is not None and step.worker.startswith("~"):
        yield f"{name} is pinned to '{step.worker}': names with ~ belong to pools"


def _worker_problems(plan: Plan) -> Iterator[str]:
    for worker, mine in _by_worker(plan).items():
        if any(plan.steps[step].resources != plan.steps[mine[0]].resources for step in mine):
            yield f"worker '{worker}' has steps of different resources"
    for worker, terms in plan.workers.items():
        if not terms.linger_s >= 0:
            yield f"worker '{worker}' lingers {terms.linger_s:g} s: it must be 0 or more"
