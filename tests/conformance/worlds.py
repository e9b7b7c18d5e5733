"""One case (nodes, their plan, what each task costs), imagined by the simulator and lived through
by real workers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st

import dagnb
from dagnb.graph.dag import Dag
from dagnb.graph.task import Node
from dagnb.handle import Run
from dagnb.planning.kept import with_kept_results
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, LinearCost, Pool, Problem, StartCost
from dagnb.simulation.simulate import play, simulate
from dagnb.trace.trace import Phase, Trace
from tests import graphs, strategies

LARGE = 20_000
"""bytes that a large value has at least: too many to ride along"""

PATIENCE_S = 20.0

_UNEVEN = (Phase.SUBMIT, Phase.REGISTER, Phase.PROGRAM, Phase.RETURN)
"""phases of which reality has more: a program is read in parts, and who never got a task leaves no
start
"""

EventLog = list[tuple[str, int, str]]
"""(kind, step, worker) of each event, in order; kinds 'worker', 'start', 'done', 'end'"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """large: names of the tasks with a large value. rank: task -> its place among the durations,
    all distinct.
    """

    nodes: tuple[Node[Any], ...]
    plan: Plan
    n: int
    large: frozenset[str]
    rank: tuple[int, ...]
    expected: tuple[Any, ...]
    gates: Gates | None

    @property
    def costs(self) -> Costs:
        """Durations whose sums over different tasks are far apart, so that nothing else decides who
        is first. All are short enough for values to stay with their worker, as they are in life.
        """
        return Costs(
            run_s={task: 0.001 * 2**place for task, place in enumerate(self.rank)},
            output_bytes={i: LARGE for i, call in enumerate(self._drawn) if call in self.large},
            fetch=LinearCost(1e-6, 1e-12),
            store=LinearCost(1e-6, 1e-12),
            commit_s=1e-6,
            cold=StartCost(invoke_s=1e-6, register_s=1e-7),
            program_s=1e-7,
            wake_s=1e-6,
        )

    @property
    def _drawn(self) -> list[str]:
        return [node.args[0] for node in self.plan.dag.nodes]

    def name(self, step: int) -> str:
        """The name a step's function is called with."""
        return self._drawn[self.plan.steps[step].task]


@dataclass(frozen=True, kw_only=True)
class Lived:
    """What both worlds leave: the story, who ran what, the phases of each step; met: all phases
    there are.
    """

    story: EventLog
    phases: dict[int, Counter[str]]
    met: frozenset[str]
    values: Any = None

    def times(self, kind: str) -> Counter[int]:
        """step -> how often this happened"""
        return Counter(step for what, step, _ in self.story if what == kind)

    def place(self, kind: str, step: int) -> int:
        """The place in the story at which this first happened to the step"""
        return next(i for i, event in enumerate(self.story) if event[:2] == (kind, step))

    def ran_on(self) -> dict[int, str]:
        """step -> the worker that started it last"""
        return {step: worker for kind, step, worker in self.story if kind == "start"}


class Gates:
    """Named pipes that hold functions back until they are let go; they work across threads and
    processes alike.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Nothing is made before it is entered: many a random case is drawn and never played."""
        self.folder = Path(tempfile.gettempdir(), f"dagnb-gates-{secrets.token_hex(6)}")
        self.names = tuple(names)
        self.held: list[int] = []

    def __enter__(self) -> Gates:
        self.folder.mkdir(mode=0o700)
        for name in self.names:
            os.mkfifo(self.folder / name)
        return self

    def open(self, name: str) -> None:
        """Let the function go, whether it waits already or not."""
        pipe = os.open(self.folder / name, os.O_RDWR | os.O_NONBLOCK)
        os.write(pipe, b"go")
        self.held.append(pipe)

    def __exit__(self, *error: object) -> None:
        """Let everything go that still waits, and leave nothing."""
        for name in self.names:
            self.open(name)
        shutil.rmtree(self.folder)
        for pipe in self.held:
            os.close(pipe)


def computing(large: frozenset[str], folder: str) -> Callable[[str, list[Any]], str]:
    """A function for `graphs.built`: tells the computation, as long as asked. folder: of its gate,
    '' for none.
    """

    def told(name: str, inputs: list[Any]) -> str:
        if folder:
            with open(f"{folder}/{name}", "rb", buffering=0) as gate:
                gate.read(1)
        text = f"{name}({','.join(value.strip() for value in inputs)})"
        return text.ljust(LARGE) if name in large else text

    return told


@st.composite
def cases(
    draw: st.DrawFn,
    n: st.SearchStrategy[int],
    *,
    max_tasks: int = 7,
    copies: bool = False,
    gated: bool = False,
    kept: bool = False,
    hold: bool = False,
) -> Case:
    """A random DAG of real functions, and any plan of it.

    hold: some workers hold their order.
    kept: values stay with their worker wherever they may; else edges say at random how they travel.
    """
    dag = draw(strategies.dags(max_tasks))
    large = frozenset(draw(st.sets(st.sampled_from([call.name for call in dag.calls]), max_size=3)))
    rank = tuple(draw(st.permutations(range(len(dag)))))

    def planned(real: Dag) -> Plan:
        plan: Plan = draw(strategies.plans(real, copies=copies, ways=not kept, hold=hold))
        return with_kept_results(plan) if kept else plan

    return _case(
        dag,
        planned,
        draw(n),
        large,
        rank,
        gated=gated,
    )


def drawn(dag: Dag, *, n: int, large: Iterable[str] = ()) -> Case:
    """This shape, floating, its functions ending in order."""

    def floating(real: Dag) -> Plan:
        steps = tuple(
            Step(task=i, upstream=call.upstream, priority=i) for i, call in enumerate(real.calls)
        )
        return Plan(dag=real, steps=steps, planner="floating")

    return _case(dag, floating, n, frozenset(large), tuple(range(len(dag))), gated=True)


def _case(
    dag: Dag,
    planned: Callable[[Dag], Plan],
    n: int,
    large: frozenset[str],
    rank: tuple[int, ...],
    *,
    gated: bool,
) -> Case:
    gates = Gates([call.name for call in dag.calls]) if gated else None
    nodes = graphs.built(dag, computing(large, str(gates.folder) if gates else ""))
    return Case(
        nodes=nodes,
        plan=planned(Dag.of(*nodes)),
        n=n,
        large=large,
        rank=rank,
        expected=graphs.reference(dag, computing(large, "")),
        gates=gates,
    )


@dataclass(frozen=True, kw_only=True)
class Given:
    """A planner that was told its plan."""

    name: ClassVar[str] = "given"
    made: Plan

    def plan(self, problem: Problem) -> Plan:
        """The plan, for this DAG."""
        return replace(self.made, dag=problem.dag)


def imagined(case: Case) -> Lived:
    """The case in virtual time."""
    simulated = play(case.plan, case.costs, Pool(cap=case.n, batches=False))
    story = [(e.kind, e.task, e.worker) for e in simulated.machine.events]
    return Lived(
        story=story,
        phases=phases(simulated.spans),
        met=met(simulate(case.plan, case.costs, Pool(cap=case.n, batches=False))),
    )


def lived(case: Case, launcher: Any, dream: Lived | None = None) -> Lived:
    """The case with real workers; with a dream, functions end in its order, each after what the
    dream has before it.
    """
    with case.gates or contextlib.nullcontext():
        run = dagnb.run(*case.nodes, planner=Given(made=case.plan), workers=launcher)
        if dream is not None:
            follow(run, case, dream.story)
        values = run.result(PATIENCE_S)
        trace = run.trace
        story = [(e.kind, e.task, e.worker) for e in run.look().events]
        run.forget()
    return Lived(story=story, phases=phases(trace.spans), met=met(trace), values=values)


def follow(run: Run[Any], case: Case, dream: EventLog) -> None:
    """Open the gate of each step when everything has happened that the dream has before its end."""
    assert case.gates is not None
    for place, (kind, step, _) in enumerate(dream):
        if kind == "done":
            started = sum(what == "start" for what, *_ in dream[:place])
            if not awaited(lambda: sum(e.kind == "start" for e in run.look().events) >= started):  # noqa: B023
                return  # it came differently: the comparison will tell
            case.gates.open(case.name(step))
            if not awaited(functools.partial(has_ended, run, step)):
                return


def has_ended(run: Run[Any], step: int) -> bool:
    """Whether a step is done, by one look at the store."""
    return any(event.kind == "done" and event.task == step for event in run.look().events)


def awaited(happened: Callable[[], bool]) -> bool:
    """Look until it happened, each look being a trip to the store. False: it did not."""
    until = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > until:
            return False
    return True


def phases(spans: Any) -> dict[int, Counter[str]]:
    """step -> phase -> how often; -1 for acts of workers as such. Without the uneven ones."""
    found: dict[int, Counter[str]] = {}
    for span in spans:
        if span.phase in _UNEVEN:
            continue
        found.setdefault(span.task, Counter())[span.phase.value] += 1
    return found


def met(trace: Trace) -> frozenset[str]:
    """Every phase of a trace, the client's own among them."""
    return frozenset(span.phase.value for span in trace.spans)


@dataclass
class Tally:
    """How many plans were compared, and in how many the two worlds differed."""

    what: str
    plans: int = 0
    differences: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def comparing(self) -> Iterator[None]:
        """Count one plan; an assertion that fails within is a difference."""
        self.plans += 1
        try:
            yield
        except AssertionError as difference:
            self.differences.append(str(difference))
            raise

    def line(self) -> str:
        """For the summary of the tests."""
        return f"conformance, {self.what}: {self.plans} plans compared, {len(self.differences)} differences"
