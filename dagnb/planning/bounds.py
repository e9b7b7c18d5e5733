"""Lower bounds on the makespan of any plan, and the conclusion they allow about a given plan.

What is bounded
    The makespan in the simulator: from submission until the last sink is stored. An instance does
    one thing at a time. A value becomes available, to its own worker as to all others, when its
    task is committed: half a round trip after the value was stored. A task begins when its last
    input is there; inputs that the worker holds need no transfer, the others are fetched side by
    side. Tasks have the resources of
    their decorators: a plan that gives them others may be below the bound, as `Costs.scaling` can
    shorten their run.

       window of a task, from its offer until the next one (at half a round trip before its end the
       commit is valid; failed attempts and back-offs come before it):

       |-- fetch outside --|-- load --|-- run --|-- dump --|-- store --|-- commit --|

    A value that may be kept by its worker, since little work would be lost with it, is not stored
    and not unpickled; short tasks share a commit.

Head bound
    The earliest moment at which each value can be available, from upstream to downstream; then the
    latest of the sinks. At a join, either the upstream value that arrives latest comes from
    elsewhere (its commit plus a transfer), or its task ran on this worker. In the second case the
    same holds for the next value, and so on; and the tasks that ran on this worker ran one after
    the other. The bound takes the best number k of tasks that ran on this worker.

        Papadimitriou, Yannakakis 1990, "Towards an architecture-independent analysis of parallel
        algorithms", doi:10.1137/0219021; for joins whose tasks have different releases as in Jung,
        Kirousis, Spirakis 1993, doi:10.1006/inco.1993.1030.

Area bound
    The work of a set of tasks divided by the number of workers there may be, after the earliest
    begin and before the shortest tail in the set; of memory likewise, in MB * s. Useful sets are
    those of tasks that begin late and have long tails.

        Carlier 1987, "Scheduling jobs with release dates and tails on identical machines",
        doi:10.1016/0377-2217(87)90243-0.

The head bound assumes that values are stored before they are handed over. It also holds for plans
with copies of tasks, and would hold with preload and prewarm.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.plan import KEPT_S, LONG_S
from dagnb.planning.planner import Costs, Pool

TIGHT = 0.10
"""up to this gap the bound is worth quoting; a larger gap mostly shows that the bound is loose"""

# Relative; smaller gaps are rounding errors.
_EXACT = 1e-6

# Lengths of tails that are tried, evenly spaced in rank.
_TAILS = 16


@dataclass(frozen=True, slots=True)
class Bound:
    """A makespan that no run can beat, seconds; reason: the argument for it, in words."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Times of each task that do not depend on the plan, by DAG position, seconds.

    reads: each upstream task once, with the transfer of its value from elsewhere.
    outside: transfer of external inputs. load: unpickling.
    window: from the offer until the next one, of the attempt that succeeds, inputs at hand.
    again, pause: the attempts that fail before it, and the back-offs after them.
    """

    reads: Sequence[Sequence[tuple[int, float]]]
    outside: Sequence[float]
    load: Sequence[float]
    window: Sequence[float]
    again: Sequence[float]
    pause: Sequence[float]

    __repr__ = brief

    @classmethod
    def of(cls, dag: Dag, costs: Costs) -> Work:
        """Returns the times of all tasks. O(tasks + edges)."""
        reads, outside, load, window = [], [], [], []
        may_be_kept: list[bool] = []
        sinks = set(dag.sinks)
        for v, call in enumerate(dag.calls):
            transfers: list[tuple[int, float]] = []
            n_bytes = costs.argument_bytes.get(v, 0)
            for u in dict.fromkeys(call.upstream):  # each once, in order
                size = costs.edge(u, v)
                # On the way to another worker a value is stored.
                stored_s = costs.storing(u) if may_be_kept[u] else 0.0
                transfers.append((u, stored_s + costs.fetching(v, [size])))
                n_bytes += 0 if may_be_kept[u] else size
            reads.append(transfers)
            n_outside = costs.external_bytes.get(v, 0)
            outside.append(costs.fetching(v, [n_outside]) if n_outside else 0.0)
            load.append(costs.loading(v, n_bytes))
            compute_s = outside[v] + load[v] + costs.run(v)
            is_inner = v not in sinks and call.options.pure
            may_be_kept.append(is_inner and compute_s <= KEPT_S)
            compute_s += costs.dumping(v)
            # Short tasks share a commit.
            commit_s = costs.commit_s if compute_s > LONG_S else 0.0
            stored_s = 0.0 if may_be_kept[v] else costs.storing(v)
            window.append(compute_s + stored_s + commit_s)
        again, pause = [0.0] * len(dag), [0.0] * len(dag)
        for v, failing in costs.failures.items():
            again[v] = sum(outside[v] + load[v] + run_s + costs.commit_s for run_s, _ in failing)
            pause[v] = sum(pause_s for _, pause_s in failing)
        return cls(
            reads=reads,
            outside=outside,
            load=load,
            window=window,
            again=again,
            pause=pause,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Moments and durations that no plan can beat, by DAG position, seconds.

    begin: earliest begin of the first attempt, transfers from elsewhere done.
    commit: earliest commit of the task.
    tail: least time from its commit until the run is over.
    is_needed: whether a sink needs the task; the run does not wait for others.
    """

    work: Work
    begin: Sequence[float]
    commit: Sequence[float]
    tail: Sequence[float]
    is_needed: Sequence[bool]

    __repr__ = brief


def lower_bound(dag: Dag, costs: Costs, pool: Pool) -> Bound:
    """Returns the highest of the bounds. O((tasks + edges) log tasks)."""
    moments = heads(dag, costs, pool)
    last = max(dag.sinks, key=lambda sink: moments.commit[sink])
    reason = f"the longest way through the DAG, transfers included, to '{dag.calls[last].name}'"
    bounds = [
        Bound(moments.commit[last], reason),
        *_areas(dag, costs, pool, moments),
    ]
    return max(bounds, key=lambda bound: bound.seconds)


def gap(makespan_s: float, bound: Bound) -> float:
    """Returns the distance of a makespan to the bound, relative to it, >= 0: 0.1 for 10 %."""
    if makespan_s <= bound.seconds:
        return 0.0
    if bound.seconds <= 0:
        return math.inf
    return makespan_s / bound.seconds - 1


def certificate(makespan_s: float, bound: Bound) -> str:
    """Returns the conclusion about a plan with this makespan, in words."""
    relative = gap(makespan_s, bound)
    if relative == math.inf:
        return "no better plan known; nothing bounds it"
    if relative <= _EXACT:
        return "optimal, if these durations hold"
    percent = f"{100 * relative:.2g}" if relative <= TIGHT else f"{100 * relative:.0f}"
    return f"at most {percent} % above optimal, if these durations hold"


def earliest(costs: Costs, pool: Pool, resources: Resources) -> float:
    """Returns the moment at which the first worker of these resources can take a task."""
    if pool.eager:
        # One start more than the series has, because it may be the first to be ready.
        return _ready_times(costs, pool, len(costs.start_series) + 1)[0]
    start_s = costs.start(resources, is_warm=False).total_s
    if pool.warm.get(resources):
        start_s = min(start_s, costs.start(resources, is_warm=True).total_s)
    start_s = min((start_s, *(start.total_s for start in costs.start_series)))
    return start_s + costs.program_s + (costs.invocation_s if pool.single else 0.0)


def heads(dag: Dag, costs: Costs, pool: Pool) -> Heads:
    """Returns the moments of the head bound. O((tasks + edges) log tasks)."""
    work, half_s = Work.of(dag, costs), costs.commit_s / 2
    shortcut = _shortcuts(costs, work)
    first_worker: dict[Resources, float] = {}
    begin = [0.0] * len(dag)
    commit = [0.0] * len(dag)
    release = [0.0] * len(dag)
    for v, call in enumerate(dag.calls):
        needs = call.options.needs
        if needs not in first_worker:
            first_worker[needs] = earliest(costs, pool, needs)
        begin[v] = first_worker[needs]
        if reads := work.reads[v]:
            inputs = []
            for u, transfer_s in reads:
                arrival = commit[u] + min(transfer_s, shortcut.get(u, math.inf))
                inputs.append((arrival, release[u], work.window[u]))
            ready = max([commit[u] for u, _ in reads])
            begin[v] = max(begin[v], _joined(inputs, ready, work.outside[v]))
        # A retry fetches and loads again, so the last attempt still needs its whole window.
        release[v] = begin[v] + work.again[v] + work.pause[v]
        # The commit takes effect in the store half a round trip before the worker has its answer.
        commit[v] = release[v] + work.window[v] - half_s

    is_needed = _needed(dag)
    durations = [commit[v] - begin[v] for v in range(len(dag))]
    tail = _tails(dag, is_needed, durations)
    return Heads(work=work, begin=begin, commit=commit, tail=tail, is_needed=is_needed)


# ---- head bound ----


def _joined(inputs: list[tuple[float, float, float]], ready: float, outside_s: float) -> float:
    """Returns the begin of a task at a join, transfers from elsewhere done.

    inputs: (arrival from elsewhere, release, window) of each upstream task. ready: when all of them
    have committed. The result is the least over k of a moment: the k values that would arrive
    latest were computed on this worker, the next one comes from elsewhere, and external inputs
    arrive meanwhile. With k the time on this worker rises and the next arrival falls, so the least
    is where the two cross. O(n log n log n) for n inputs.
    """
    latest, release, window = max(inputs)
    # External inputs take longer than every transfer.
    if ready + outside_s >= latest:
        return ready
    # A short cut for most tasks; the search below would give the same.
    if len(inputs) == 1:
        return min(latest - outside_s, max(ready, release + window))
    inputs.sort(reverse=True)

    def on_this_worker(k: int) -> float:
        return max(ready, _one_by_one(inputs[:k]))

    def is_late(k: int) -> bool:
        return k == len(inputs) or on_this_worker(k) + outside_s >= inputs[k][0]

    k = bisect_left(range(len(inputs)), True, lo=1, key=is_late)
    return min(on_this_worker(k), inputs[k - 1][0] - outside_s)


def _one_by_one(inputs: list[tuple[float, float, float]]) -> float:
    """Returns the moment at which one worker has run all of them, each after its release.

    Earliest release first is optimal.
    """
    end = 0.0
    for release, window in sorted([entry[1:] for entry in inputs]):
        end = max(end, release) + window
    return end


def _shortcuts(costs: Costs, work: Work) -> dict[int, float]:
    """Returns upstream -> least seconds until a worker has its value from another task there.

    The seconds count from the commit of the upstream task. Empty where that is no gain. A task that
    reads only a part of a value, or with a transfer known to be short, may bring the value here
    sooner than a fetch of the whole does.
    """
    least: dict[int, float] = {}
    # If all readers fetch whole values at equal speed, none is faster than another.
    if not costs.edge_bytes and not any(act == "fetch" for _, act in costs.known_s):
        return least
    for reader, reads in enumerate(work.reads):
        failing = costs.failures.get(reader)
        first_s = work.window[reader] - work.outside[reader]
        if failing:  # its first attempt already leaves the value here
            first_s = min(first_s, work.load[reader] + failing[0][0] + costs.commit_s)
        for u, fetch_s in reads:
            least[u] = min(least.get(u, math.inf), fetch_s + first_s)
    return least


def _needed(dag: Dag) -> list[bool]:
    """Returns for each task whether a sink needs it."""
    is_needed = [False] * len(dag)
    for sink in dag.sinks:
        is_needed[sink] = True
    for v in reversed(range(len(dag))):
        if is_needed[v]:
            for u in dag.calls[v].upstream:
                is_needed[u] = True
    return is_needed


def _tails(dag: Dag, is_needed: list[bool], durations: list[float]) -> list[float]:
    """Returns the longest path from the commit of each task to the end, without transfers.

    Without, because a copy of the task may run wherever its value is read. durations: from the
    begin of each task until its commit.
    """
    tail = [0.0] * len(dag)
    for v in reversed(range(len(dag))):
        if is_needed[v]:
            tail_s = durations[v] + tail[v]
            for u in dag.calls[v].upstream:
                tail[u] = max(tail[u], tail_s)
    return tail


# ---- area bound ----


def _areas(dag: Dag, costs: Costs, pool: Pool, moments: Heads) -> Iterable[Bound]:
    """Yields bounds by the number of workers and by memory, where there are limits."""
    tasks = [v for v in range(len(dag)) if moments.is_needed[v]]
    # Back-offs keep no worker busy.
    work = {v: moments.work.window[v] + moments.work.again[v] for v in tasks}
    half_s = costs.commit_s / 2  # the last worker is busy for longer than the run lasts
    if pool.cap is not None:
        # Warm containers may all serve, even where there are more than may be started.
        n = pool.cap if pool.eager else max(pool.cap, sum(pool.warm.values()))
        reason = f"the work of {{}} of {len(dag)} tasks on {n} workers"
        if pool.eager:
            seconds = _filled(_ready_times(costs, pool, n), sum(work.values())) - half_s
            yield Bound(seconds, reason.format(len(tasks)))
        yield _packed(moments, work, n, half_s, reason)

    if pool.memory_mb is not None and not pool.eager:
        held = {v: pool.memory_of(dag.calls[v].options.needs) * work[v] for v in tasks}
        warm_mb = sum(n * pool.memory_of(needs) for needs, n in pool.warm.items())
        limit = max(pool.memory_mb, warm_mb)
        reason = f"the memory of {{}} of {len(dag)} tasks in {limit} MB"
        yield _packed(moments, held, limit, half_s, reason)


def _packed(
    moments: Heads,
    work: dict[int, float],
    capacity: float,
    half_s: float,
    reason: str,
) -> Bound:
    """Returns the highest area bound over sets of tasks that begin late and have long tails.

    For some lengths of tails only, see _TAILS. O(tasks log tasks).
    """
    best, size = 0.0, 0
    latest_first = sorted(work, key=lambda v: -moments.begin[v])
    tails = sorted({moments.tail[v] for v in latest_first})
    step = -(-len(tails) // _TAILS)  # rounded up
    for tail in tails[::step]:
        total, n = 0.0, 0
        # Each prefix of the tasks with such tails is a set: v is the one that begins earliest.
        for v in latest_first:
            if moments.tail[v] >= tail:
                total, n = total + work[v], n + 1
                seconds = moments.begin[v] + total / capacity + tail - half_s
                if seconds > best:
                    best, size = seconds, n
    return Bound(best, reason.format(size))


def _ready_times(costs: Costs, pool: Pool, n: int) -> list[float]:
    """Returns when each of the n workers of an eager pool can take its first task, ascending."""
    starts = costs.start_series[: pool.cap]
    n = n if pool.cap is None else min(n, pool.cap)
    cold = costs.start(DEFAULT, is_warm=False)
    starts = (*starts[:n], *[cold] * (n - len(starts)))
    return sorted(start.total_s + costs.program_s for start in starts)


def _filled(begins: list[float], work: float) -> float:
    """Returns when workers that begin at these moments, ascending, can have done so much work."""
    total, end = 0.0, begins[0]
    for n, begin in enumerate(begins, 1):
        total += begin
        # n workers that end together have worked n * end - total seconds.
        end = (work + total) / n
        if n == len(begins) or end <= begins[n]:  # done before the next worker begins
            break
    return end
