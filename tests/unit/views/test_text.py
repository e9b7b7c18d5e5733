"""Plain text for terminals."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step
from dagnb.trace.trace import Phase
from dagnb.views.text import counts_text, dag_text, plan_text, trace_text
from tests import graphs
from tests.unit.views.samples import HOSTILE, floating, job, pinned, played, run, trace


def test_a_dag_is_a_line_a_box_with_arrows() -> None:
    assert dag_text(job(2)).splitlines() == [
        "6 tasks, 4 levels",
        "  scan     -> count-0, count-1, stats",
        "  count-0  -> join",
        "  count-1  -> join",
        "  stats    -> join",
        "  join     -> report",
        "  report",
    ]


def test_a_large_dag_folds() -> None:
    assert dag_text(job(9_996)).splitlines() == [
        "10,000 tasks, 4 levels",
        "  scan          -> count x9,996, stats",
        "  count x9,996  -> join",
        "  stats         -> join",
        "  join          -> report",
        "  report",
    ]


def test_many_downstream_are_listed_in_part() -> None:
    assert (
        dag_text(graphs.fan_out(20)).splitlines()[1]
        == "  a    -> b0, b1, b2, b3, b4, b5 and 14 more"
    )


def test_a_plan_lists_the_steps_of_each_worker_by_priority() -> None:
    plan = pinned(graphs.diamond(), ["w0", "w1"])
    steps = (plan.steps[0], plan.steps[1], replace(plan.steps[2], priority=-1), plan.steps[3])

    assert plan_text(replace(plan, steps=steps, notes=("good",))).splitlines() == [
        "Planner dealt: 4 tasks on 2 workers",
        "  w0: c, a",
        "  w1: b, d",
        "  note: good",
    ]
    assert (
        plan_text(floating(graphs.chain(2), resources=Resources(cpus=2))).splitlines()[1]
        == "  any worker (2 CPUs): t0, t1"
    )


def test_many_workers_are_listed_in_part() -> None:
    lines = plan_text(pinned(graphs.fan_out(99), [f"w{i}" for i in range(50)])).splitlines()

    assert lines[1].startswith("  w0: ")
    assert lines[-1] == "  and 10 more workers"
    assert len(lines) == 42


def test_a_trace_gives_makespan_phases_and_a_bar_a_worker() -> None:
    spans = [
        run(-1, "w0", 0, 1, Phase.INVOKE),
        run(0, "w0", 1, 2, Phase.FETCH, n_bytes=2_000_000),
        run(0, "w0", 2, 10),
        run(1, "w10", 5, 10),
    ]
    lines = trace_text(trace(*spans)).splitlines()

    assert lines[0] == "makespan 10 s, 2 workers, average parallelism 1.3, 2 MB through the store"
    assert lines[1] == "  2 workers: 87 % computing, 7 % starting, 6 % moving data"
    assert [line.split()[0] for line in lines[2:5]] == ["invoke", "fetch", "run"]
    assert lines[4].endswith("13 s  " + "#" * 30)
    assert lines[5] == "  w0  |" + "." * 5 + "~" * 5 + "#" * 40 + "|"
    assert lines[6] == "  w10 |" + " " * 25 + "#" * 25 + "|"


def test_an_empty_trace_has_its_text() -> None:
    assert (
        trace_text(trace())
        == "makespan 0 s, 0 workers, average parallelism 0.0, 0 B through the store"
    )


def test_counts_begin_with_what_is_done() -> None:
    counts = {"waiting": 129, "failed": 1, "running": 8, "done": 1_221}

    assert counts_text(counts) == "1,221 of 1,359 tasks done, 8 running, 129 waiting, 1 failed"
    assert counts_text({"ready": 1}) == "0 of 1 task done, 1 ready"
    assert counts_text({}) == "0 of 0 tasks done"


def test_names_cannot_steer_a_terminal_or_break_lines() -> None:
    names = (*HOSTILE, "two\nlines")
    dag = Dag.from_edges(names, pairwise(names))
    steps = tuple(
        Step(task=i, worker=f"w\x1b[2J{i}", upstream=call.upstream)
        for i, call in enumerate(dag.calls)
    )
    plan = Plan(dag=dag, steps=steps, planner="p", notes=("\x1b[2Jnote",))

    for text in (dag_text(dag), plan_text(plan), trace_text(played(plan))):
        assert "\x1b" not in text
        assert "\x00" not in text
    assert len(dag_text(dag).splitlines()) == len(names) + 1


def test_workers_of_a_trace_are_named_in_words() -> None:
    lines = trace_text(trace(run(0, "~/1", 0, 1), run(2, "~200mb/1", 0, 1))).splitlines()

    assert [line.split(" |")[0] for line in lines[-2:]] == [
        "  worker 1         ",
        "  worker 1 (200 MB)",
    ]
