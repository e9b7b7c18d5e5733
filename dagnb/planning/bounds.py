"""How short can a run be at best? Lower bounds on the makespan of any plan, and what a plan's distance to them proves.

The semantics are those of the simulator: an instance does one thing at a time; a value is there for everybody, its
maker too, when its task was handed over, half a round trip after it was stored; a task begins when its last input is
there; inputs at hand need no transfer, the others come all at once. Tasks have the resources of their decorators:
a plan that gives them others may be below the bound, as `Costs.scaling` can make them run shorter.

    head    the earliest moment each value can be there, upstream to downstream. At a join, either the upstream value
            that arrives latest comes from elsewhere, or its task ran here; then the next, and so on: what ran here
            ran one after the other. Papadimitriou, Yannakakis 1990, "Towards an architecture-independent analysis of
            parallel algorithms", doi:10.1137/0219021, as Jung, Kirousis, Spirakis 1993, doi:10.1006/inco.1993.1030,
            for joins whose releases differ.
    area    the work of a set of tasks divided by the workers there may be, after the earliest begin and before the
            shortest tail of the set, for the sets of tasks that begin late and have long tails; of memory likewise.
            Carlier 1987, "Scheduling jobs with release dates and tails on identical machines",
            doi:10.1016/0377-2217(87)90243-0.

The head bound holds for plans with copies of tasks, and would hold if values were fetched ahead (preload) or
containers started ahead (prewarm). Both need that values are stored before they are handed over.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.costs import Costs
from dagnb.planning.planner import Pool

TIGHT = 0.10
"""up to this gap a bound says something about the plan; beyond it rather about the bound"""
_EXACT = 1e-6
"""relative; below it are roundings"""
_TAILS = 16
"""so many lengths of tails are tried, those of equal ranks between; all where there are no more"""


@dataclass(frozen=True, slots=True)
class Bound:
    """No run is shorter than so many seconds; reason: which bound it was, in words."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each task asks of whoever runs it, by DAG position, seconds.

    reads: of each upstream task once, its position and the transfer of its value from elsewhere. outside: the transfer
    of external inputs. load: unpickling. window: from the offer until the next one, of the attempt that succeeds,
    inputs at hand. again, pause: the attempts that fail before it, and the back-offs after those.
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
        """O(tasks + edges)."""
        reads, outside, load, window = [], [], [], []
        for v, call in enumerate(dag.calls):
            sizes = [(u, costs.edge(u, v)) for u in dict.fromkeys(call.upstream)]
            reads.append(
                [(u, costs.fetching(v, [n]) if n > costs.inline_bytes else 0.0) for u, n in sizes]
            )
            n_outside = costs.external_bytes.get(v, 0)
            outside.append(costs.fetching(v, [n_outside]) if n_outside else 0.0)
            load.append(
                costs.loading(v, sum([n for _, n in sizes]) + costs.argument_bytes.get(v, 0))
            )
            done_s = costs.run(v) + costs.dumping(v) + costs.storing(v) + costs.commit_s
            window.append(outside[v] + load[v] + done_s)
        again, pause = [0.0] * len(dag), [0.0] * len(dag)
        for v, failing in costs.failures.items():
            again[v] = sum(outside[v] + load[v] + run_s + costs.commit_s for run_s, _ in failing)
            pause[v] = sum(pause_s for _, pause_s in failing)
        return cls(reads=reads, outside=outside, load=load, window=window, again=again, pause=pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """By DAG position, seconds: what no plan can beat.

    begin, commit: the earliest moments of the first attempt, transfers from elsewhere done, and of the commit.
    tail: the least from its commit until the run is over. is_needed: whether a sink needs it; the run does not wait
    for other tasks.
    """

    work: Work
    begin: Sequence[float]
    commit: Sequence[float]
    tail: Sequence[float]
    is_needed: Sequence[bool]

    __repr__ = brief


def lower_bound(dag: Dag, costs: Costs, pool: Pool) -> Bound:
    """The highest of the bounds. O((tasks + edges) log tasks)."""
    found = heads(dag, costs, pool)
    last = max(dag.sinks, key=lambda sink: found.commit[sink])
    best = Bound(
        found.commit[last],
        f"the longest way through the DAG, transfers included, to '{dag.calls[last].name}'",
    )
    return max((best, *_areas(dag, costs, pool, found)), key=lambda bound: bound.seconds)


def gap(makespan_s: float, bound: Bound) -> float:
    """How much longer than the bound, relative to it: 0.1 for 10 %; at least 0."""
    if makespan_s <= bound.seconds:
        return 0.0
    return makespan_s / bound.seconds - 1 if bound.seconds > 0 else math.inf


def certificate(makespan_s: float, bound: Bound) -> str:
    """What the bound proves of a plan with this makespan, in words."""
    found = gap(makespan_s, bound)
    if found <= _EXACT:
        return "proven optimal"
    if found <= TIGHT:
        return f"proven within {100 * found:.2g} %"
    allows = f"the bound allows {100 * found:.0f} %" if found < math.inf else "nothing bounds it"
    return f"no better plan known; {allows}"


def earliest(costs: Costs, pool: Pool, resources: Resources) -> float:
    """The moment at which the first worker of these resources can take a task."""
    if pool.eager:
        return _seats(costs, pool, len(costs.start_series) + 1)[0]
    start_s = costs.start(resources, is_warm=False).total_s
    if pool.warm.get(resources):
        start_s = min(start_s, costs.start(resources, is_warm=True).total_s)
    start_s = min((start_s, *(start.total_s for start in costs.start_series)))
    return start_s + costs.program_s + (costs.invocation_s if pool.single else 0.0)


def heads(dag: Dag, costs: Costs, pool: Pool) -> Heads:
    """The earliest moments, by the head bound. O((tasks + edges) log tasks)."""
    work, half_s = Work.of(dag, costs), costs.commit_s / 2
    shortcut = _shortcuts(costs, work)
    floors: dict[Resources, float] = {}
    begin, commit, release = [0.0] * len(dag), [0.0] * len(dag), [0.0] * len(dag)
    for v, call in enumerate(dag.calls):
        if (needs := call.options.needs) not in floors:
            floors[needs] = earliest(costs, pool, needs)
        begin[v] = floors[needs]
        if reads := work.reads[v]:
            parents = [
                (commit[u] + min(s, shortcut.get(u, math.inf)), release[u], work.window[u])
                for u, s in reads
            ]
            begin[v] = max(
                begin[v], _joined(parents, max([commit[u] for u, _ in reads]), work.outside[v])
            )
        release[v] = begin[v] + work.again[v] + work.pause[v]
        commit[v] = release[v] + work.window[v] - half_s
    is_needed = _needed(dag)
    tail = _tails(dag, is_needed, [end - start for start, end in zip(begin, commit, strict=True)])
    return Heads(work=work, begin=begin, commit=commit, tail=tail, is_needed=is_needed)


# ---- head ------------------------------------------------------------------------------------------------------------


def _joined(parents: list[tuple[float, float, float]], ready: float, outside_s: float) -> float:
    """When a task can begin, transfers from elsewhere done: parents are (arrival, release, window) of each upstream.

    Least over k of: the k that would arrive latest ran here, the next one comes from elsewhere, meanwhile external
    inputs. More tasks here take longer, arrivals get earlier, so the least is where the two cross.
    O(n log n log n) for n upstream.
    """
    latest, release, window = max(parents)
    if ready + outside_s >= latest:
        return ready
    if len(parents) == 1:
        return min(latest - outside_s, max(ready, release + window))
    parents.sort(reverse=True)

    def here(k: int) -> float:
        return max(ready, _one_by_one(parents[:k]))

    def is_late(k: int) -> bool:
        return k == len(parents) or here(k) + outside_s >= parents[k][0]

    k = bisect_left(range(len(parents)), True, lo=1, key=is_late)
    return min(here(k), parents[k - 1][0] - outside_s)


def _one_by_one(parents: list[tuple[float, float, float]]) -> float:
    """When one worker has run them all, each after its release: earliest release first is best."""
    at = 0.0
    for release, window in sorted([parent[1:] for parent in parents]):
        at = max(at, release) + window
    return at


def _shortcuts(costs: Costs, work: Work) -> dict[int, float]:
    """upstream -> least seconds until its value is at hand since another task here read it; none if that is no gain.

    Readers of less than the whole value, or with transfers known to be short, may have it here sooner than who fetches
    it whole.
    """
    found: dict[int, float] = {}
    if not costs.edge_bytes and not any(act == "fetch" for _, act in costs.known_s):
        return found
    for reader, reads in enumerate(work.reads):
        failing = costs.failures.get(reader)
        first_s = work.window[reader] - work.outside[reader]
        if failing:
            first_s = min(first_s, work.load[reader] + failing[0][0] + costs.commit_s)
        for u, fetch_s in reads:
            found[u] = min(found.get(u, math.inf), fetch_s + first_s)
    return found


def _needed(dag: Dag) -> list[bool]:
    found = [False] * len(dag)
    for sink in dag.sinks:
        found[sink] = True
    for v in reversed(range(len(dag))):
        if found[v]:
            for u in dag.calls[v].upstream:
                found[u] = True
    return found


def _tails(dag: Dag, is_needed: list[bool], lasts: list[float]) -> list[float]:
    """The longest way from the commit of each task, transfers left out: a copy of it may run wherever it is read.

    lasts: from the begin of each task until its commit.
    """
    found = [0.0] * len(dag)
    for v in reversed(range(len(dag))):
        if is_needed[v]:
            behind = lasts[v] + found[v]
            for u in dag.calls[v].upstream:
                found[u] = max(found[u], behind)
    return found


# ---- area ------------------------------------------------------------------------------------------------------------


def _areas(dag: Dag, costs: Costs, pool: Pool, found: Heads) -> Iterable[Bound]:
    """Bounds by workers and by memory, where there is a limit."""
    tasks = [v for v in range(len(dag)) if found.is_needed[v]]
    work = {v: found.work.window[v] + found.work.again[v] for v in tasks}
    half_s = costs.commit_s / 2
    if pool.cap is not None:
        n = pool.cap if pool.eager else max(pool.cap, sum(pool.warm.values()))
        what = f"the work of {{}} of {len(dag)} tasks on {n} workers"
        if pool.eager:
            seconds = _filled(_seats(costs, pool, n), sum(work.values())) - half_s
            yield Bound(seconds, what.format(len(tasks)))
        yield _packed(found, work, n, half_s, what)
    if pool.memory_mb is not None and not pool.eager:
        held = {v: pool.memory_of(dag.calls[v].options.needs) * work[v] for v in tasks}
        limit = max(
            pool.memory_mb, sum(n * pool.memory_of(needs) for needs, n in pool.warm.items())
        )
        yield _packed(
            found, held, limit, half_s, f"the memory of {{}} of {len(dag)} tasks in {limit} MB"
        )


def _packed(
    found: Heads, work: dict[int, float], capacity: float, half_s: float, what: str
) -> Bound:
    """The highest area bound of the sets of tasks that begin late and have long tails, of some tails. O(tasks log)."""
    best, size = 0.0, 0
    late = sorted(work, key=lambda v: -found.begin[v])
    tails = sorted({found.tail[v] for v in late})
    for tail in tails[:: -(-len(tails) // _TAILS)]:
        total, n = 0.0, 0
        for v in late:
            if found.tail[v] >= tail:
                total, n = total + work[v], n + 1
                if (seconds := found.begin[v] + total / capacity + tail - half_s) > best:
                    best, size = seconds, n
    return Bound(best, what.format(size))


def _seats(costs: Costs, pool: Pool, n: int) -> list[float]:
    """When each of the n workers of an eager pool can take its first task, ascending."""
    starts = costs.start_series[: pool.cap]
    n = n if pool.cap is None else min(n, pool.cap)
    cold = costs.start(DEFAULT, is_warm=False)
    return sorted(
        start.total_s + costs.program_s for start in (*starts[:n], *[cold] * (n - len(starts)))
    )


def _filled(seats: list[float], work: float) -> float:
    """When seats that open at these moments, ascending, can have done so much work."""
    total, at = 0.0, seats[0]
    for n, opens in enumerate(seats, 1):
        total += opens
        at = (work + total) / n
        if n == len(seats) or at <= seats[n]:
            break
    return at
