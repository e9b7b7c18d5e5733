"""The plan as an execution graph: steps compute tasks, and edges carry values between steps.

Copies of a task are steps of their own. A step without a worker is *floating*: any member of the
pool of its resources may take it. A step with a worker is *pinned*. Any assignment can be executed:
a worker is started when a step that is pinned to it becomes ready.

A `Forecast` is the expected makespan of a plan: three quantiles rather than one number.

Advice: moments at which a pinned worker runs out of work
----------------------------------------------------------
In most plans it depends on durations when a worker runs out of work. The advice of `check` covers
only what holds for all durations:

    A worker *stops after* D if in every execution there is a moment at which it has run exactly the
    steps D, some but not all of its own, and none of its other steps is ready.

An execution is any timing that the edges allow: a step begins when all upstream steps have ended, a
pinned worker runs one step at a time, and a ready step may be kept waiting (it failed and is tried
again later; another had priority). A worker that stops leaves and is started again, or idles if the
plan lets it linger. A worker that runs out of work in every execution, but not always after the
same steps, gets no advice.

The criterion is exact. Call an upstream step of r on another worker a *gate* of r, and the
ancestors of a step the steps *above* it. Worker w stops
after D if and only if, for each first step r of its other steps, D is the set of w's steps above r,
and also the set of w's steps above the gates of r.

    if       r can be ready only after a gate that began after all of D; w has nothing else to do.
    only if  suppose some d in D is above no gate of r. An execution may run d last, for as long as
             the gates of r take, and w goes on to r without a pause.

Example: a and r on worker w, g on worker v, edges a -> g -> r. The gate of r is g, above it is a,
so w stops after {a}. With a further edge a -> r nothing changes; with g on w, too, there is no
gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from dagnb.errors import ChainRuleError, InvalidPlanError
from dagnb.graph.brief import brief, cut, number, quoted
from dagnb.graph.client_hook import Shown, loaded_client, picture_of
from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.chains import ChainBreak, chain_break

if TYPE_CHECKING:
    from dagnb.planning.planner import Problem


LONG_S = 0.01
"""A task that takes longer ends its batch, see protocol/worker.py."""

KEPT_S = 1.0
"""Seconds of work, at most, whose results are kept and not stored: a crash repeats that much."""


class Way(StrEnum):
    """The way a value travels along an edge. STORE always works; the others are requests.

    A worker honours a request when it can. LOCAL: one worker runs both tasks, the only reader right
    behind the other one, and keeps the value meanwhile; see protocol/worker.py.
    """

    STORE = "store"
    INLINE = "inline"
    LOCAL = "local"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the execution graph: the computation of one task of the DAG.

    task: position in Dag.calls. worker: its name, or None for floating.
    priority: of the ready steps of a worker, the smallest number runs first.
    upstream: positions in Plan.steps, parallel to the task's upstream in the DAG.
    """

    task: int
    upstream: tuple[int, ...] = ()
    worker: str | None = None
    resources: Resources = DEFAULT
    priority: int = 0

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTerms:
    """Terms of one worker.

    linger_s: how long it may linger idle before it leaves, seconds.
    hold: its steps begin in the order of their priorities. The next one is waited for, even if a
      later one is ready; it is passed over only while it backs off, and if it never gets a result.
      Meanwhile the process of the worker serves others, so that no plan needs more processes.
    """

    linger_s: float = 0.0
    hold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prewarm:
    """A request to start `n` containers of these resources before they are needed.

    They start `offset_s` after task `anchor` (a position in the DAG; None: at submission).
    """

    resources: Resources
    anchor: int | None = None
    offset_s: float = 0.0
    n: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan(Shown):
    """The assignment of steps to workers, in topological order; each sink of the DAG has a step.

    ways: (upstream step, step) -> how the value travels, for edges that do not go through the
    store.
    problem: what the plan was made for, if known: then its picture shows times.
    """

    dag: Dag
    steps: tuple[Step, ...]
    planner: str
    ways: Mapping[tuple[int, int], Way] = field(default_factory=lambda: MappingProxyType({}))
    workers: Mapping[str, WorkerTerms] = field(default_factory=lambda: MappingProxyType({}))
    prewarms: tuple[Prewarm, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = field(default=None, compare=False, repr=False)

    @cached_property
    def downstream(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the steps that read each step, ascending."""
        lists: list[list[int]] = [[] for _ in self.steps]
        for position, step in enumerate(self.steps):
            for u in step.upstream:
                lists[u].append(position)
        return tuple(map(tuple, lists))

    @cached_property
    def sinks(self) -> tuple[int, ...]:
        """The step that computes each sink of the DAG, in the order of the sinks.

        Of several copies it is the first.
        """
        first: dict[int, int] = {}
        for position, step in enumerate(self.steps):
            first.setdefault(step.task, position)
        return tuple(first[task] for task in self.dag.sinks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each step: its task's, with ' for each copy after the first."""
        n_copies: dict[int, int] = {}
        names = []
        for step in self.steps:
            n_before = n_copies.get(step.task, 0)
            name = self.dag.calls[step.task].name
            names.append(name + "'" * n_before if n_before else name)
            n_copies[step.task] = n_before + 1
        return tuple(names)

    @cached_property
    def needs(self) -> frozenset[Resources]:
        """The resources of the steps, each once."""
        # Most steps share one object, and hashing resources takes long.
        different = {id(step.resources): step.resources for step in self.steps}
        return frozenset(different.values())

    def __repr__(self) -> str:
        """Returns the number of tasks, the workers, and the makespan where it is known."""
        text = f"<plan by {cut(self.planner, 40)}: {number(len(self.steps), 'task')}, "
        if self.is_floating:
            text += "any free worker takes the next"
        else:
            n_workers = len({step.worker for step in self.steps} - {None})
            text += f"on {number(n_workers, 'worker')}"

        # Only the client can simulate, and printing a plan in a worker must not import it.
        loaded = loaded_client()
        predicted_s = loaded.predicted_s(self) if loaded is not None else None
        if predicted_s is not None:
            text += f", predicted makespan {predicted_s:.4g} s"
        return text + ">"

    @property
    def is_floating(self) -> bool:
        """True if no step is pinned to a worker."""
        return all(step.worker is None for step in self.steps)

    def way(self, upstream: int, step: int) -> Way:
        """Returns the way in which the value of one step reaches another."""
        return self.ways.get((upstream, step), Way.STORE)

    def check(self, dag: Dag | None = None, *, strict: bool = False) -> tuple[Advice, ...]:
        """Returns advice on workers that idle or start again.

        strict: also asks that each worker has unbroken branches that begin together, see chains.py.
        Raises InvalidPlanError when the plan does not fit the DAG, and ChainRuleError, which is
        one, for a plan that breaks the rule.
        """
        remarks = check(self, dag or self.dag)
        broken = self.chain_break if strict else None
        if broken is not None:
            raise ChainRuleError(
                self.planner, broken.worker, broken.tasks, broken.text, broken.n_more
            )
        return remarks

    @property
    def chain_break(self) -> ChainBreak | None:
        """The smallest part that breaks the chain rule, None where it is kept; see chains.py."""
        return chain_break(self)

    def to_svg(self) -> str:
        """Returns the planning image, to be kept in a file.

        Raises ConfigError, with the cure, where nothing can draw.
        """
        return picture_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Quantiles of the makespan, seconds: with probability 0.8 it lies between p10_s and p90_s.

    n_scenarios: of how many scenarios. known: share of the predicted run time that rests on
    measurements or hints, 0 to 1.
    """

    p10_s: float
    p50_s: float
    p90_s: float
    n_scenarios: int = 1
    known: float = 0.0

    def covers(self, makespan_s: float) -> bool:
        """Returns whether the makespan lies inside the 80 % band."""
        return self.p10_s <= makespan_s <= self.p90_s


# ---- checks ----

# Steps whose descendants are followed at a time: limits the memory to steps * 512 bytes.
_COLUMNS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A remark on a plan that can be executed all the same.

    kind: "restart" if the worker leaves and is started again for `step`; "idle" if it lingers.
    step: position in Plan.steps; of several for which the worker then waits, the first.
    """

    kind: str
    worker: str
    step: int
    text: str


def check(plan: Plan, dag: Dag) -> tuple[Advice, ...]:
    """Returns advice, sorted by step. Raises InvalidPlanError with every misfit.

    O((steps + edges) * steps / 64).
    """
    problems = list(dict.fromkeys(_problems(plan, dag)))
    if not problems:
        problems = list(order_problems(plan))
    if problems:
        raise InvalidPlanError(plan.planner, problems)
    return advice(plan)


def advice(plan: Plan) -> tuple[Advice, ...]:
    """Returns advice on a plan that fits its DAG, sorted by step."""
    return tuple(_advice(plan, worker, firsts) for worker, firsts in stops(plan))


def stops(plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """Returns each stop that occurs in every execution: the worker, and the first steps after it.

    Sorted by these steps, which are ascending. The criterion above in numbers: sort the steps of w
    by the number of its steps above each. Where that number rises to n, D is the n steps before,
    and the steps with that number are the first of the others. w stops after D if each of them has
    n steps of w above its gates: those can only be D, since all of D have smaller numbers.
    """
    above, gated = _counts(plan)
    all_stops = []
    for worker, steps in by_worker(plan).items():
        steps.sort(key=lambda step: above[step])
        begin = 0
        for end in range(1, len(steps) + 1):
            if end < len(steps) and above[steps[end]] == above[steps[begin]]:
                continue  # the same number of steps above: still the same group
            firsts = steps[begin:end]
            if begin and all(gated[r] == begin for r in firsts):
                all_stops.append((worker, tuple(sorted(firsts))))
            begin = end
    return sorted(all_stops, key=lambda stop: stop[1])


def _counts(plan: Plan) -> tuple[list[int], list[int]]:
    """Returns for each pinned step the number of its worker's steps above it, and above its gates.

    0 for floating steps, and for workers that cannot stop.
    """
    above, gated = [0] * len(plan.steps), [0] * len(plan.steps)
    columns: list[int] = []
    for steps in by_worker(plan).values():
        # Without a gate, or with one step, a worker never stops: most plans need no pass at all.
        if len(steps) > 1 and any(_gates(plan, step) for step in steps):
            columns += steps
    for begin in range(0, len(columns), _COLUMNS):
        bits = {step: 1 << bit for bit, step in enumerate(columns[begin : begin + _COLUMNS])}
        _count_some(plan, bits, above, gated)
    return above, gated


def _count_some(plan: Plan, bits: dict[int, int], above: list[int], gated: list[int]) -> None:
    """Add to the counts the contribution of these steps, each with a bit of its own.

    One pass over the plan: ancestors as bit sets in Python's integers, 64 steps an instruction.
    """
    masks: dict[str | None, int] = {}
    for column, bit in bits.items():
        worker = plan.steps[column].worker
        masks[worker] = masks.get(worker, 0) | bit
    ancestors: list[int] = []  # of each step, as a set of bits
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
    """Returns the upstream steps of a step that are on another worker, or floating."""
    return [u for u in plan.steps[step].upstream if plan.steps[u].worker != plan.steps[step].worker]


def by_worker(plan: Plan) -> dict[str, list[int]]:
    """Returns pinned worker -> its steps, ascending."""
    steps_of: dict[str, list[int]] = {}
    for position, step in enumerate(plan.steps):
        if step.worker is not None:
            steps_of.setdefault(step.worker, []).append(position)
    return steps_of


def next_in_order(plan: Plan) -> dict[int, int]:
    """Returns step -> the next step of its worker, for workers that hold their order.

    Equal priorities are ordered by position. A step that reads the one before it waits for that
    anyway, and is left out. O(steps log steps), and O(workers) if none holds.
    """
    following: dict[int, int] = {}
    if not any(terms.hold for terms in plan.workers.values()):
        return following
    for worker, steps in by_worker(plan).items():
        if worker not in plan.workers or not plan.workers[worker].hold:
            continue
        steps.sort(key=lambda step: (plan.steps[step].priority, step))
        for step, after in pairwise(steps):
            is_read = step in plan.steps[after].upstream
            if not is_read:
                following.setdefault(step, after)
    return following


def _advice(plan: Plan, worker: str, firsts: Sequence[int]) -> Advice:
    terms = plan.workers.get(worker)
    linger_s = terms.linger_s if terms else 0.0
    kind, ending = "restart", "it leaves and is started again"
    if linger_s > 0:
        kind, ending = "idle", f"it idles, at most {linger_s:g} s"

    waiting = quoted([plan.names[step] for step in firsts], "or")
    all_gates: dict[int, None] = {}  # each once, in order
    for step in firsts:
        all_gates |= dict.fromkeys(_gates(plan, step))
    gates = quoted([plan.names[u] for u in all_gates], "and")
    text = (
        f"worker '{worker}' has nothing to do until {waiting} is ready, "
        f"which needs {gates} from elsewhere: {ending}. "
        f"Pin {gates} to '{worker}' as well, or let {waiting} float."
    )
    return Advice(kind=kind, worker=worker, step=firsts[0], text=text)


def _problems(plan: Plan, dag: Dag) -> Iterator[str]:
    """Yields each misfit of plan and DAG as a clause for InvalidPlanError."""
    if plan.dag != dag:  # every other problem would only follow from this one
        yield "it was made for another DAG"
        return
    # Most plans have one floating step for each task, which can be seen at once.
    is_as_dag = len(plan.steps) == len(dag.calls)
    for position, step in enumerate(plan.steps):
        is_as_dag = (
            is_as_dag
            and step.task == position
            and step.worker is None
            and step.upstream == dag.calls[position].upstream
        )
        if not is_as_dag:
            yield from _step_problems(plan, position)
    present = {step.task for step in plan.steps}
    for sink in dag.sinks:
        if sink not in present:
            yield f"task '{dag.calls[sink].name}' is a sink without a step"
    yield from _worker_problems(plan)
    for upstream, reader in plan.ways:
        if not 0 <= reader < len(plan.steps) or upstream not in plan.steps[reader].upstream:
            yield f"it has a way from step {upstream} to step {reader}, which is no edge"
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
        yield f"{name} reads a step that does not come before it"
    elif tuple(plan.steps[u].task for u in step.upstream) != calls[step.task].upstream:
        yield f"{name} reads other tasks than the DAG says"
    if step.worker is not None and not step.worker.strip():
        yield f"{name} is pinned to a worker without a name"
    # The queue of a pool is named so, and the queue of a pinned worker has the worker's name.
    if step.worker is not None and step.worker.startswith("~"):
        yield f"{name} is pinned to '{step.worker}': names with ~ belong to pools"


def order_problems(plan: Plan) -> Iterator[str]:
    """Yields a clause if steps wait for each other because of the orders that workers hold.

    They never do if every step has a larger priority than its upstream steps. O(steps + edges).
    """
    following = next_in_order(plan)
    if not following:
        return
    n_awaited = [len(step.upstream) for step in plan.steps]
    for after in following.values():
        n_awaited[after] += 1
    ready = [step for step, n in enumerate(n_awaited) if not n]
    while ready:
        step = ready.pop()
        later = plan.downstream[step]
        if step in following:
            later = (*later, following[step])
        for other in later:
            n_awaited[other] -= 1
            if not n_awaited[other]:
                ready.append(other)
    for step, n in enumerate(n_awaited):
        if n:
            worker = plan.steps[step].worker
            yield (
                f"step {step} ('{plan.names[step]}') of worker '{worker}' never begins:"
                " workers that hold their order wait for each other"
            )
            return


def _worker_problems(plan: Plan) -> Iterator[str]:
    for worker, steps in by_worker(plan).items():
        resources = {plan.steps[step].resources for step in steps}
        if len(resources) > 1:  # a worker is one process, in one container
            yield f"worker '{worker}' has steps of different resources"
    for worker, terms in plan.workers.items():
        if not terms.linger_s >= 0:  # so that NaN is refused, too
            yield f"worker '{worker}' lingers {terms.linger_s:g} s: it must be 0 or more"
