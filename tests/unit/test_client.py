"""run, plan, simulate, attach and runs: what they take, return and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.client import new_run_id
from dagnb.errors import (
    AmbiguousNameError,
    ArgumentChangedError,
    ConfigError,
    GraphError,
    InvalidPlanError,
    LaunchError,
    RunMissingError,
    RunNotStoredError,
    UnknownNameError,
)
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.resources import Resources
from dagnb.graph.task import task
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, Pool, Problem
from dagnb.protocol.invocation import INLINE_DAG_BYTES, Invocation, versions
from dagnb.protocol.launcher import WorkerSlot
from dagnb.protocol.messages import RunState
from dagnb.protocol.program import Header
from dagnb.run_history.history import History
from dagnb.trace.trace import Phase
from tests import graphs


@task
def double(value: int) -> int:
    """Twice as much."""
    return 2 * value


@task
def total(values: list[int]) -> int:
    """The sum."""
    return sum(values)


@task(time_s=3.0)
def slow(value: int) -> int:
    """Said to be slow."""
    return value


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    """Two workers in this process, unless a test says otherwise."""
    before = session.settings()
    dagnb.configure(workers=Inline(n=2))
    yield
    dagnb.configure(workers=before.workers, planner=before.planner, percentile=before.percentile)


@dataclass(frozen=True)
class Recorder:
    """A launcher of somebody else's: starts nothing, remembers what it was asked."""

    by_kind: ClassVar[bool] = False
    name: str = "recorder"
    cap: int = 3
    error: Exception | None = None
    asked: list[Invocation] = field(default_factory=list)
    prepared: list[set[Resources]] = field(default_factory=list)
    needs: list[set[Resources]] = field(default_factory=list)

    async def default_store(self) -> str:
        """In this process."""
        return session.MEMORY_URL

    async def pool(self, needs: Collection[Resources] = ()) -> Pool:
        """Returns as many workers as it may have."""
        return Pool(cap=self.cap)

    async def prepare(self, needs: Collection[Resources], tell: Callable[[str], None]) -> None:
        """Remember, and tell."""
        self.prepared.append(set(needs))
        tell("getting ready")
        if self.error is not None and "prepare" in str(self.error):
            raise self.error

    async def prewarm(self, resources: Resources, n: int) -> int:
        """None is ever ready."""
        return 0

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Remember."""
        self.asked.append(invocation)
        self.needs.append(set(needs))
        if self.error is not None:
            raise self.error

    async def seats(self) -> tuple[WorkerSlot, ...]:
        """None."""
        return ()

    async def stop(self, run: str) -> None:
        """Nothing runs."""


def known() -> set[str]:
    return {line.run for line in dagnb.runs()}


# ---- run ----


def test_one_node_gives_its_value_and_several_give_a_tuple_in_the_order_asked() -> None:
    one, two, three = double(1), double(2), double(3)

    assert dagnb.run(two).result() == 4
    assert dagnb.run(three, one, two).result() == (6, 2, 4)
    assert two.run().result() == 4


def test_the_same_node_twice_is_computed_once_and_stands_in_both_places() -> None:
    node = total([double(1), double(2)])

    run = dagnb.run(node, node)

    assert run.result() == (6, 6)
    assert run.status == {"done": 3}


def test_a_node_and_one_it_needs_may_both_be_asked_for() -> None:
    first = double(1)

    assert dagnb.run(double(first), first).result() == (4, 2)


def test_a_node_may_be_run_again_and_gives_another_run() -> None:
    node = double(4)

    runs = [node.run(), node.run()]

    assert [run.result() for run in runs] == [8, 8]
    assert runs[0].id != runs[1].id


def test_two_runs_at_a_time_do_not_meet() -> None:
    runs = [dagnb.run(total([double(i), double(i + 1)])) for i in range(10)]

    assert [run.result() for run in runs] == [4 * i + 2 for i in range(10)]


def test_run_returns_before_the_run_is_over() -> None:
    recorder = Recorder()

    run = double(1).run(workers=recorder)

    assert run.done is False
    assert run.status == {"ready": 1}
    run.cancel()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_error": "ignore"}, ConfigError, "on_error='ignore': must be 'fail' or 'continue'"),
        ({"deadline_s": 0}, ConfigError, "deadline_s=0: must be more than 0 seconds"),
        ({"deadline_s": -1.5}, ConfigError, "deadline_s=-1.5"),
        (
            {"planner": "flexibel"},
            UnknownNameError,
            "unknown planner 'flexibel'. Did you mean 'flexible'?",
        ),
        (
            {"workers": "inlin"},
            UnknownNameError,
            "unknown launcher 'inlin'. Did you mean 'inline'?",
        ),
        ({"store": "http://somewhere"}, ConfigError, "the scheme must be redis://"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_left(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = known()

    with pytest.raises(error) as caught:
        double(1).run(**options)

    assert message in str(caught.value)
    assert known() == before


def test_no_node_and_what_is_no_node_are_refused() -> None:
    with pytest.raises(GraphError, match="there is nothing to run"):
        dagnb.run()
    with pytest.raises(GraphError, match="int 3 is not a node and contains none"):
        dagnb.run(double(1), 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda node: [node],
        lambda node: {"x": node, "rest": (node, 3)},
        lambda node: Counter({"n": node}),
    ],
    ids=["list", "dict", "counter"],
)
def test_a_structure_of_nodes_gives_the_same_structure_of_values_also_to_who_attaches(
    make: Any,
) -> None:
    run = dagnb.run(make(double(2)))

    assert run.result(30) == make(4)
    assert type(run.result(30)) is type(make(4))
    assert dagnb.attach(run.id).result(30) == make(4)
    assert run.value("double-0") == 4


def test_a_large_array_that_was_changed_after_the_call_is_refused_and_nothing_is_left() -> None:
    before, array = known(), np.zeros(100_000)
    node = total(array)
    array += 1

    with pytest.raises(
        ArgumentChangedError, match=r"argument 'values' \(ndarray\) of task 'total-0' was changed"
    ):
        node.run()

    assert known() == before


def test_a_launcher_that_cannot_start_leaves_no_run_behind() -> None:
    before = known()

    with pytest.raises(LaunchError, match="no room"):
        double(1).run(workers=Recorder(error=LaunchError("no room")))

    assert known() == before


def test_a_planner_whose_plan_does_not_fit_is_refused_before_anything_is_stored() -> None:
    class Forgetful:
        name = "forgetful"

        def plan(self, problem: Problem) -> Plan:
            return Plan(dag=problem.dag, steps=(Step(task=0),), planner=self.name)

    before = known()

    with pytest.raises(InvalidPlanError, match="the plan of 'forgetful' does not fit its graph"):
        total([double(1)]).run(planner=Forgetful())

    assert known() == before


def test_the_launcher_is_asked_with_all_that_workers_need() -> None:
    recorder = Recorder(cap=3)

    run = total([double(1), double(2), double(3)]).run(workers=recorder)

    (asked,) = recorder.asked
    assert (asked.run, asked.store, asked.namespace) == (run.id, "memory://", "dagnb")
    assert (asked.n_workers, asked.worker, asked.nonce) == (3, "", "")
    assert len(asked.key) == 32
    assert asked.versions == versions()
    assert asked.asked_at == run.look().submitted_at
    assert len(asked.records) == 4
    store = session.wait(session.reopened(dagnb.Redis(url="memory://")))
    (packed,) = session.wait(store.content([asked.header]))
    assert [line.name for line in Header.unpack(packed or b"").functions] == ["double", "total"]
    run.cancel()


def test_the_launcher_prepares_before_it_launches_what_the_plan_gives_each_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder, large = Recorder(), Resources(memory_mb=512)

    double.with_options(resources=large)(double(1)).run(workers=recorder).cancel()

    assert recorder.prepared == recorder.needs == [{Resources(), large}]
    assert capsys.readouterr().err == "dagnb: getting ready\n"


def test_what_cannot_be_prepared_leaves_no_run_behind() -> None:
    recorder, before = Recorder(error=LaunchError("could not prepare")), known()

    with pytest.raises(LaunchError, match="could not prepare"):
        double(1).run(workers=recorder)

    assert (recorder.asked, known()) == ([], before)


def test_workers_returns_the_slots_of_a_launcher() -> None:
    assert dagnb.workers(workers=Recorder()) == ()


def test_no_more_workers_are_asked_for_than_there_are_tasks() -> None:
    recorder = Recorder(cap=8)

    double(double(1)).run(workers=recorder).cancel()

    assert recorder.asked[0].n_workers == 2


def test_a_large_dag_does_not_travel_in_the_invocation_and_runs_all_the_same() -> None:
    node = total([double(i) for i in range(1_000)])
    recorder = Recorder()
    node.run(workers=recorder).cancel()

    assert recorder.asked[0].records == ()
    assert len(recorder.asked[0].to_json()) < INLINE_DAG_BYTES
    assert node.run().result() == 999_000


def test_a_run_has_the_name_given_or_that_of_the_function_of_its_last_node() -> None:
    runs = [dagnb.run(double(1), total([1])), dagnb.run(double(1), name="mine")]

    assert [run.description.name for run in runs] == ["total", "mine"]
    assert [run.result() for run in runs] == [(2, 1), 2]
    lines = {line.run: line for line in dagnb.runs()}
    assert [lines[run.id].name for run in runs] == ["total", "mine"]
    assert [(lines[run.id].state, lines[run.id].n_tasks) for run in runs] == [
        (RunState.OK, 2),
        (RunState.OK, 1),
    ]


def test_runs_are_listed_newest_first() -> None:
    ids = [double(i).run().id for i in range(3)]

    assert [line.run for line in dagnb.runs() if line.run in ids] == ids[::-1]


# ---- plan and simulate ----


def test_a_plan_runs_nothing_and_says_who_made_it() -> None:
    before = known()
    node = total([double(1), double(2)])

    plans = [dagnb.plan(node), node.plan(planner="one_pass")]

    assert [plan.planner for plan in plans] == ["flexible", "one_pass"]
    assert [len(plan.steps) for plan in plans] == [3, 3]
    assert plans[0].names == ("double-0", "double-1", "total-0")
    assert known() == before


def test_the_plan_of_a_run_is_the_one_it_was_started_with() -> None:
    run = double(1).run(planner="one_pass")

    assert run.plan is not None
    assert run.plan.planner == "one_pass"
    assert run.description.planner == "one_pass"
    assert run.result() == 2


@contextlib.contextmanager
def history_in_use() -> Iterator[None]:
    """Another process sets the file aside, so that its readers and writers wait."""
    lock = os.open(f"{History().path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def test_a_run_ends_while_its_costs_cannot_be_read_and_its_plan_gets_them_later() -> None:
    @task(time_s=3.0)
    def not_known_yet(value: int) -> int:
        return value

    with history_in_use():
        run = not_known_yet(1).run()
        assert run.result(20) == 1
        plan_before = run.plan_now

    plan = run.plan
    assert plan_before is not None
    assert plan is not None
    assert plan_before.problem is None
    assert plan.problem is not None
    assert plan.problem.costs.run_s == {0: pytest.approx(3.0)}
    assert run.plan_now is plan


def test_a_planner_that_reads_costs_gets_them_before_the_run() -> None:
    seen: list[Costs] = []

    @dataclass(frozen=True)
    class Reading:
        name: str = "reading"

        def plan(self, problem: Problem) -> Plan:
            seen.append(problem.costs)
            steps = tuple(Step(task=i) for i, _ in enumerate(problem.dag.calls))
            return Plan(dag=problem.dag, steps=steps, planner=self.name)

    run = double(1).run(planner=Reading())

    assert run.result(20) == 2
    assert [set(costs.run_s) for costs in seen] == [{0}]
    assert run.plan is not None
    assert run.plan.problem is not None
    assert run.plan.problem.costs is seen[0]


def test_the_history_keeps_the_forecast_that_was_made_beside_the_run() -> None:
    run = double(1).run()
    run.result(20)
    session.wait_for_pending(20)

    assert run.plan is not None
    expected = forecast_of(run.plan)
    (entry,) = [entry for entry in History().runs() if entry.run == run.id]
    assert expected is not None
    assert (entry.p10_s, entry.p50_s) == (expected.forecast.p10_s, expected.forecast.p50_s)


def test_a_simulation_takes_the_hints_of_the_tasks_and_as_many_workers_as_the_launcher_has() -> (
    None
):
    @task(time_s=3.0)
    def never_run_before(i: int) -> int:
        return i

    node = total([never_run_before(i) for i in range(4)])

    spans = [s for s in node.simulate().spans if s.phase is Phase.RUN]

    assert [round(s.duration_s, 6) for s in spans][:4] == [3.0, 3.0, 3.0, 3.0]
    assert 6.0 < node.simulate().makespan_s < 6.5
    assert 12.0 < node.simulate(workers=Inline(n=1)).makespan_s < 12.5


def test_a_simulation_with_costs_of_ones_own() -> None:
    trace = dagnb.simulate(slow(1), costs=Costs(default_run_s=50.0))

    assert 50.0 < trace.makespan_s < 50.1


# ---- attach ----


def test_attach_finds_a_run_with_its_story_and_its_result() -> None:
    run = dagnb.run(total([double(1)]), double(5), name="found again")

    attached = dagnb.attach(run.id)

    assert attached.result() == (2, 10)
    assert (attached.description, attached.plan) == (run.description, None)
    assert attached.status == {"done": 3}


def test_attach_to_what_was_never_there_says_where_to_look() -> None:
    with pytest.raises(
        RunMissingError,
        match=r"unknown run 'qqqqq'\. Known: .*`dagnb runs` lists the runs in the store",
    ):
        dagnb.attach("qqqqq")
    with pytest.raises(RunMissingError, match=r"unknown run '01ARZ3NDEKTSV4RRFFQ69G5FAV'"):
        dagnb.attach("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_attach_takes_every_way_to_call_a_run_and_says_which_of_several_it_took(
    capsys: pytest.CaptureFixture[str],
) -> None:
    older, newer = (double(n).run(name="called alike") for n in (1, 2))
    assert (older.result(), newer.result()) == (2, 4)
    assert newer.name == dagnb.attach(newer.id).name == "called alike"
    capsys.readouterr()

    for text in (newer.id, newer.id.lower(), f" {newer.id[:24]} ", "last"):
        assert dagnb.attach(text).id == newer.id
    assert capsys.readouterr().err == ""

    assert dagnb.attach("called alike").id == newer.id
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(
        f"dagnb: 2 runs are named 'called alike'. The newest is taken: {newer.id}  called alike  ok"
    )


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_attach_to_an_empty_name_lists_what_there_is(text: str) -> None:
    run = double(1).run()

    with pytest.raises(AmbiguousNameError) as caught:
        dagnb.attach(text)

    assert caught.value.candidates[0].startswith(run.id)


def test_attach_to_what_the_history_alone_knows_says_so_and_names_an_older_run_of_that_name() -> (
    None
):
    older, newer = (double(n).run(name="alike, one gone") for n in (1, 2))
    assert (older.result(), newer.result()) == (2, 4)
    dagnb.history()
    newer.forget()

    for text in (newer.id, "last"):
        with pytest.raises(
            RunNotStoredError, match=f"run {newer.id} is over and kept in the history"
        ):
            dagnb.attach(text)
    with pytest.raises(
        RunNotStoredError,
        match=rf"{newer.id}.* The newest run of that name in this store is {older.id}",
    ):
        dagnb.attach("alike, one gone")


def test_the_graph_of_an_attached_run_can_be_drawn() -> None:
    run = total([double(1), double(2)]).run()

    dag = dagnb.attach(run.id).description.dag

    assert [call.name for call in dag.calls] == ["double-0", "double-1", "total-0"]
    assert dag.calls[2].upstream == (0, 1)
    assert run.result() == 6


# ---- settings, ids, the loop ----


def test_what_was_configured_is_the_default_and_an_argument_goes_before() -> None:
    dagnb.configure(planner="one_pass")

    assert double(1).plan().planner == "one_pass"
    assert double(1).plan(planner="flexible").planner == "flexible"


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"there is no setting 'worker'. Known: metrics, percentile, planner, store, workers",
    ):
        dagnb.configure(worker="inline")


def test_a_wrong_default_is_refused_when_it_is_set_and_the_old_one_stays() -> None:
    with pytest.raises(UnknownNameError):
        dagnb.configure(planner="nobody")

    assert double(1).plan().planner == "flexible"


def test_the_metadata_of_a_run_is_json_with_the_place_of_each_task() -> None:
    run = graphs.built(graphs.diamond(), graphs.told)[0].run()

    told = json.loads(run.look().meta)

    assert told["upstream"] == [[], [0], [0], [1, 2]]
    assert told["sinks"] == [3]
    assert run.result() == "d(b(a()),c(a()))"


def test_ids_of_runs_are_ulids_that_differ() -> None:
    ids = [new_run_id() for _ in range(200)]

    assert {len(run) for run in ids} == {26}
    assert set("".join(ids)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert len(set(ids)) == 200
    assert [run[:10] for run in ids] == sorted(run[:10] for run in ids)


def test_waiting_gives_the_value_however_often_it_looks_for_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look that ends just when the value comes must not take its own time-out for the run's."""
    monkeypatch.setattr(session, "_INTERRUPT_CHECK_S", 0.0)

    async def value(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert [session.wait(value(i)) for i in range(500)] == list(range(500))


def test_a_time_out_of_the_work_itself_comes_out_of_waiting() -> None:
    async def late() -> None:
        raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work"):
        session.wait(late())


def test_a_launcher_without_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Inline\(n=0\): at least one worker is needed"):
        replace(Inline(n=1), n=0)


# ---- percentile ----


@dataclass(frozen=True)
class Asked:
    """A planner that keeps what it was asked."""

    name: ClassVar[str] = "asked"
    problems: list[Problem] = field(default_factory=list)

    def plan(self, problem: Problem) -> Plan:
        self.problems.append(problem)
        return Plan(dag=problem.dag, steps=(Step(task=0),), planner=self.name)


def test_the_planner_gets_the_percentile_of_the_session_or_of_the_call() -> None:
    asked = Asked()
    dagnb.plan(double(1), planner=asked)
    dagnb.configure(percentile=0.8)
    dagnb.plan(double(1), planner=asked)
    dagnb.plan(double(1), planner=asked, percentile=0.95)
    assert double(1).run(planner=asked, percentile=0.9).result(20) == 2

    assert [problem.percentile for problem in asked.problems] == [0.5, 0.8, 0.95, 0.9]


@pytest.mark.parametrize("percentile", [0.0, 1.0, 90])
def test_a_percentile_is_a_share_between_0_and_1(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"must be between 0 and 1, such as 0.9"):
        dagnb.plan(double(1), percentile=percentile)
