"""The interface of planners: a problem with its costs in, a plan out, no I/O and no clock.

    Problem = Dag + Costs + Pool        ->  Planner.plan  ->  Plan

`Costs` holds medians, in seconds and bytes; the simulator reads them, too. `Uncertainty` beside
them says how widely reality spreads around them; it is used only where scenarios are drawn. Every
time is that of one act of a worker, in the order in which the worker acts:

    start (invoke, create, boot, import, register), program
    then per task: fetch inputs, load (unpickle), run, dump (pickle), store, commit, release

All are indexed by position in the DAG, so equal functions may have different costs. A `Basis` says
what evidence a number rests on. `Pool` holds the workers that a plan may use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from dagnb.graph.brief import brief
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.failure_law import Attempts, FailureLaw
from dagnb.planning.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Basis:
    """The evidence of one estimate; as text, its words.

    text: in words, as users see it. is_known: False where nothing was measured or hinted.
    expert: the way to predict that was chosen, one of `prediction.experts.EXPERTS`; '' for none.
    """

    text: str
    is_known: bool = True
    expert: str = ""

    def __str__(self) -> str:
        return self.text


UNKNOWN = Basis("unknown", is_known=False)
HINTED = Basis("hint of @task")


# Immutable, so that all instances may share it.
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LinearCost:
    """Seconds of an act on n bytes: base_s + n * s_per_byte."""

    base_s: float = 0.0
    s_per_byte: float = 0.0

    def of(self, n_bytes: float) -> float:
        """Returns seconds, >= 0."""
        return self.base_s + n_bytes * self.s_per_byte


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCost:
    """Seconds of each act of a worker's start, one after the other; see `trace.Phase`."""

    invoke_s: float = 0.0
    create_s: float = 0.0
    boot_s: float = 0.0
    import_s: float = 0.0
    register_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds from the demand for a worker until it has registered."""
        return self.invoke_s + self.create_s + self.boot_s + self.import_s + self.register_s

    def times(self, factor: float) -> StartCost:
        """Returns the cost with all acts longer by a factor."""
        return StartCost(
            invoke_s=factor * self.invoke_s,
            create_s=factor * self.create_s,
            boot_s=factor * self.boot_s,
            import_s=factor * self.import_s,
            register_s=factor * self.register_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastErrors:
    """The errors of the predictions of one past run: logs of real over predicted time.

    by_function: of the functions that ran in it. mean: of any other function. weight: of this run
    among the past runs.
    """

    by_function: Mapping[str, float]
    mean: float
    weight: float = 1.0

    __repr__ = brief

    def of(self, function: str) -> float:
        """Returns the error of a function."""
        return self.by_function.get(function, self.mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """The spread of costs on the log scale: standard deviations, or logs of factors as measured.

    What a task does not share with any other:
    run: task -> standard deviation. default_run: of tasks not in run.
    residuals: task -> logs of factors, ascending and equally likely, instead of a deviation.

    What is drawn once a run:
    batch: standard deviation of a factor of all tasks, as on a slow day.
    past: errors of past runs, one of which is drawn.
    functions: task -> its function. new_code: task -> standard deviation of a factor that all tasks
    of its function share, because it never ran, or not with this code.
    new_sizes: task -> standard deviation of a factor of all tasks that read more or less than ever.
    imports: function -> logs of factors of its imports.
    failures: task -> law of the attempts that fail; one object for all tasks of a function.
    start: of all starts. start_residuals: is warm -> logs of factors of such starts.
    transfer: of all transfers.
    """

    run: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    default_run: float = 0.0
    residuals: Mapping[int, Sequence[float]] = field(default_factory=lambda: _NOTHING)
    batch: float = 0.0
    past: tuple[PastErrors, ...] = ()
    functions: Mapping[int, str] = field(default_factory=lambda: _NOTHING)
    new_code: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    new_sizes: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    imports: Mapping[str, Sequence[float]] = field(default_factory=lambda: _NOTHING)
    failures: Mapping[int, FailureLaw] = field(default_factory=lambda: _NOTHING)
    start: float = 0.0
    start_residuals: Mapping[bool, Sequence[float]] = field(default_factory=lambda: _NOTHING)
    transfer: float = 0.0

    __repr__ = brief

    def of(self, task: int) -> float:
        """Returns the spread of a task beside what the whole run shares."""
        own = self.run.get(task, self.default_run)
        return math.hypot(own, self.new_code.get(task, 0.0), self.new_sizes.get(task, 0.0))

    @property
    def is_certain(self) -> bool:
        """True if every scenario is the same."""
        shared = (self.default_run, self.batch, self.start, self.transfer)
        drawn = (self.residuals, self.past, self.imports, self.failures, self.start_residuals)
        by_task = (*self.run.values(), *self.new_code.values(), *self.new_sizes.values())
        return not (any(shared) or any(drawn) or any(by_task))

    def of_tasks_known(self, tasks: Iterable[int]) -> Uncertainty:
        """Returns the uncertainty when the run times of these tasks are known."""
        known = set(tasks)
        return replace(
            self,
            run={**self.run, **dict.fromkeys(known, 0.0)},
            residuals=_without(self.residuals, known),
            new_code=_without(self.new_code, known),
            new_sizes=_without(self.new_sizes, known),
            failures=_without(self.failures, known),
            batch=0.0,
            past=(),
        )


def _without(by_task: Mapping[int, T], tasks: Set[int]) -> dict[int, T]:
    return {task: value for task, value in by_task.items() if task not in tasks}


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Expected costs, by position in the DAG; missing entries take the default.

    run_s: the user's function, with the resources its decorator asks for.
    output_bytes: of its pickled result.
    argument_bytes: pickled arguments that are sent with the task.
    external_bytes: fetched from outside before the task runs.
    edge_bytes: (upstream, task) -> bytes, where a task reads less than the whole value.
    known_s: (task, 'fetch' | 'load' | 'import' | 'dump' | 'store' | 'release') -> seconds, where
      they are known better than by another field.
    import_s: the first call of a task's function in a worker imports modules for so long.
    inline_bytes: values up to this size are part of other messages and cost no transfer.
    commit_s: the round trip that hands over a result.
    release: freeing what the task has read and returned, afterwards.
    wake_s: from a hint until a waiting worker has the task.
    program_s: a fresh worker reads the program of the run.
    submit_s, return_s: acts of the client, before and after the makespan.
    cold, warm: start of a worker. starts: (resources, is warm) -> start, where it differs.
    start_series: the first starts of a run, in order, where they are known.
    invocation_s: paid by the caller for each invocation, in a pool of single workers.
    scaling: task -> (exponent of cpus, of memory): run time falls with share ** -exponent.
    failures: task -> (seconds run, back-off before the next) of each attempt that fails before one
        succeeds.
    basis: task -> the evidence for its run time.
    """

    run_s: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    output_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    argument_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    external_bytes: Mapping[int, int] = field(default_factory=lambda: _NOTHING)
    edge_bytes: Mapping[tuple[int, int], int] = field(default_factory=lambda: _NOTHING)
    known_s: Mapping[tuple[int, str], float] = field(default_factory=lambda: _NOTHING)
    import_s: Mapping[int, float] = field(default_factory=lambda: _NOTHING)
    # Defaults where nothing was measured: the orders of magnitude of a Redis on the same machine
    # (round trips of 0.3 ms, 500 MB/s), of pickle (1 GB/s) and of forked workers.
    default_run_s: float = 0.1
    default_output_bytes: int = 1_000
    inline_bytes: int = 16 * 1024
    fetch: LinearCost = LinearCost(0.0003, 2e-9)
    store: LinearCost = LinearCost(0.0003, 2e-9)
    load: LinearCost = LinearCost(0.0, 1e-9)
    dump: LinearCost = LinearCost(0.0, 1e-9)
    commit_s: float = 0.0003
    release: LinearCost = LinearCost()
    wake_s: float = 0.001
    program_s: float = 0.0
    submit_s: float = 0.002
    return_s: float = 0.001
    invocation_s: float = 0.0
    cold: StartCost = StartCost(invoke_s=0.02)
    warm: StartCost = StartCost(invoke_s=0.001)
    starts: Mapping[tuple[Resources, bool], StartCost] = field(default_factory=lambda: _NOTHING)
    start_series: tuple[StartCost, ...] = ()
    scaling: Mapping[int, tuple[float, float]] = field(default_factory=lambda: _NOTHING)
    failures: Mapping[int, Attempts] = field(default_factory=lambda: _NOTHING)
    uncertainty: Uncertainty = Uncertainty()
    basis: Mapping[int, Basis] = field(default_factory=lambda: _NOTHING)

    __repr__ = brief

    def run(self, task: int, ratio: tuple[float, float] = (1.0, 1.0)) -> float:
        """Returns the seconds for which the function of this task runs.

        ratio: cpus and memory given, each over what its decorator asks for.
        """
        seconds = self.run_s.get(task, self.default_run_s)
        if ratio == (1.0, 1.0) or task not in self.scaling:
            return seconds
        by_cpus, by_memory = self.scaling[task]
        return seconds * math.pow(ratio[0], -by_cpus) * math.pow(ratio[1], -by_memory)

    def output(self, task: int) -> int:
        """Returns the bytes of the result of this task."""
        return self.output_bytes.get(task, self.default_output_bytes)

    def edge(self, upstream: int, task: int) -> int:
        """Returns the bytes that a task reads of an upstream value."""
        # Planners ask for every edge, many times; most costs hold no such sizes.
        if self.edge_bytes:
            n_bytes = self.edge_bytes.get((upstream, task))
            if n_bytes is not None:
                return n_bytes
        return self.output(upstream)

    def start(self, resources: Resources, *, is_warm: bool) -> StartCost:
        """Returns the cost of a worker's start."""
        return self.starts.get((resources, is_warm), self.warm if is_warm else self.cold)

    def fetching(self, task: int, sizes: list[int]) -> float:
        """Returns the seconds until values of these sizes have arrived, all fetched at once.

        Small ones came with the task.
        """
        transferred = [n for n in sizes if n > self.inline_bytes]
        if not transferred:
            return 0.0
        known = self.known_s.get((task, "fetch"))
        if known is not None:
            return known
        # The transfers run side by side, so the largest one decides.
        return self.fetch.of(max(transferred))

    def storing(self, task: int) -> float:
        """Returns the seconds to store the result; 0 if it is small enough for the commit."""
        n_bytes = self.output(task)
        if n_bytes <= self.inline_bytes:
            return 0.0
        known = self.known_s.get((task, "store"))
        if known is not None:
            return known
        return self.store.of(n_bytes)

    def loading(self, task: int, n_bytes: int) -> float:
        """Returns the seconds to unpickle the arguments."""
        known = self.known_s.get((task, "load"))
        if known is not None:
            return known
        return self.load.of(n_bytes)

    def dumping(self, task: int) -> float:
        """Returns the seconds to pickle the result."""
        known = self.known_s.get((task, "dump"))
        if known is not None:
            return known
        return self.dump.of(self.output(task))

    def releasing(self, task: int, n_bytes: int) -> float:
        """Returns the seconds to free what the task read, n_bytes, and returned."""
        known = self.known_s.get((task, "release"))
        if known is not None:
            return known
        return self.release.of(n_bytes + self.output(task))

    def arguments(self, dag: Dag, task: int) -> int:
        """Returns the bytes that are unpickled before the function runs."""
        values = sum(self.edge(u, task) for u in dag.calls[task].upstream)
        return values + self.argument_bytes.get(task, 0)

    def with_(self, **changes: Any) -> Costs:
        """Returns a copy with some of the costs changed."""
        return replace(self, **changes)

    @classmethod
    def hinted(cls, dag: Dag, **known: Any) -> Costs:
        """Returns costs from hints alone: @task(time_s=..., output_bytes=...)."""
        run_s: dict[int, float] = {}
        sizes: dict[int, int] = {}
        basis: dict[int, Basis] = {}
        for position, call in enumerate(dag.calls):
            basis[position] = UNKNOWN
            if call.options.time_s is not None:
                run_s[position] = call.options.time_s
                basis[position] = HINTED
            if call.options.output_bytes is not None:
                sizes[position] = call.options.output_bytes
        return cls(run_s=run_s, output_bytes=sizes, basis=basis, **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The workers that a plan may use, and how they come and go.

    cap: most workers at a time, None without limit.
    memory_mb: of all workers together, None without limit.
    warm: resources -> number of workers that would start at once.
    eager: the workers start at submission, as many as the cap and the steps allow, and any of
      them runs any step (processes). Otherwise a worker of the right resources starts when there
      is none for a ready task (containers).
    linger_s: seconds for which a worker without work stays with the run.
    keep_alive_s: seconds for which its container then stays warm.
    single: the process of a worker serves that one worker only, and the worker that makes a task
      ready pays for the invocation (functions as a service, as Wukong uses them).
    worker_memory_mb: of workers whose resources name no memory.
    batches: workers take several short tasks at a time, see protocol/worker.py.
    is_agent_gone: what starts the workers does not run, and has to be started before them.
    """

    cap: int | None = None
    memory_mb: int | None = None
    warm: Mapping[Resources, int] = field(default_factory=dict)
    eager: bool = True
    linger_s: float = math.inf
    keep_alive_s: float = math.inf
    single: bool = False
    worker_memory_mb: int = 1000
    batches: bool = True
    is_agent_gone: bool = False

    __repr__ = brief

    def memory_of(self, resources: Resources) -> int:
        """Returns the megabytes that a worker of these resources holds."""
        if resources.memory_mb is None:
            return self.worker_memory_mb
        return resources.memory_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a planner may know.

    percentile: the quantile of the makespan, between 0 and 1, that a planner which looks at
    scenarios minimises.
    """

    dag: Dag
    costs: Costs
    pool: Pool
    percentile: float = 0.5

    __repr__ = brief


@runtime_checkable
class Planner(Protocol):
    """Makes plans. Its dataclass fields are its settings; equal problems give equal plans.

    Optional: the attribute `needs_costs`, see below.
    """

    @property
    def name(self) -> str:
        """The short name by which users choose it."""
        ...

    def plan(self, problem: Problem) -> Plan:
        """Returns a plan that passes Plan.check. Pure."""
        ...


def needs_costs(planner: Planner) -> bool:
    """Returns whether a planner reads the costs of a problem.

    A planner that reads none has an attribute of that name, False: then its runs begin before their
    costs are known, and it gets the defaults.
    """
    return bool(getattr(planner, "needs_costs", True))
