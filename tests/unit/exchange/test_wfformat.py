"""WfFormat in and out."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.errors import CycleError, GraphError
from dagnb.exchange.wfformat import read, text, write
from dagnb.exchange.workflow import Workflow
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Phase, Span, Trace
from tests.graphs import diamond, drawn
from tests.strategies import costs, dags
from tests.unit.exchange.schema import WFFORMAT_1_5

SCHEMA = jsonschema.Draft202012Validator(WFFORMAT_1_5)


def task(
    name: str, parents: str = "", children: str = "", reads: str = "", writes: str = "", **more: Any
) -> Any:
    return {
        "name": name.partition("_")[0],
        "id": name,
        "parents": parents.split(),
        "children": children.split(),
        "inputFiles": reads.split(),
        "outputFiles": writes.split(),
        **more,
    }


def text_of(
    *tasks: Any,
    files: dict[str, int] | None = None,
    run_s: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """The text of a workflow, version 1.5."""
    workflow: dict[str, Any] = {
        "specification": {
            "tasks": tasks,
            "files": [{"id": k, "sizeInBytes": n} for k, n in (files or {}).items()],
        }
    }
    if run_s is not None:
        workflow["execution"] = {
            "makespanInSeconds": 12.5,
            "executedAt": "2024-01-01T00:00:00Z",
            "tasks": [{"id": k, "runtimeInSeconds": seconds} for k, seconds in run_s.items()],
        }
    return json.dumps({"name": "w", "schemaVersion": "1.5", "workflow": workflow, **more})


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Draws valid workflows; their sinks are the tasks without downstream, as in the format."""
    drawn_dag = draw(dags())
    names = [call.name for call in drawn_dag.calls]
    edges = [(names[u], names[d]) for d, call in enumerate(drawn_dag.calls) for u in call.upstream]
    dag = Dag.from_edges(names, edges, functions=[call.function for call in drawn_dag.calls])
    some, sizes = st.sampled_from(range(len(dag))), st.integers(0, 9) | st.integers(0, 10**12)
    outputs = draw(st.dictionaries(some, sizes))
    passed = {
        (u, d): draw(st.integers(0, outputs[u]))
        for d, call in enumerate(dag.calls)
        for u in call.upstream
        if u in outputs and draw(st.booleans())
    }
    run_s = draw(st.dictionaries(some, st.floats(0, 1e6)))
    return Workflow(
        name=draw(st.sampled_from(("w", "ünï"))),
        dag=dag,
        run_s=run_s,
        output_bytes=outputs,
        edge_bytes=passed,
        external_bytes=draw(st.dictionaries(some, sizes)),
        makespan_s=draw(st.none() | st.floats(0.001, 1e6)) if run_s else None,
    )


def test_tasks_files_and_times_are_read() -> None:
    """split -> work_1 -> join, work_2 stands first in the list; big is read from outside
    `-> work_2 -/
    """
    workflow = read(
        text_of(
            task("work_2", "split", "join", "b", "d"),
            task("split", "", "work_1 work_2", "big", "a b"),
            task("work_1", "split", "join", "a b", "c"),
            task("join", "work_1 work_2", "", "c d", "end log"),
            files={"big": 1000, "a": 10, "b": 5, "c": 3, "d": 4, "end": 2, "log": 1},
            run_s={"split": 1, "work_1": 2.5, "work_2": 0},
        )
    )

    assert [(call.name, call.function, call.upstream) for call in workflow.dag.calls] == [
        ("split", "split", ()),
        ("work_2", "work", (0,)),
        ("work_1", "work", (0,)),
        ("join", "join", (1, 2)),
    ]
    assert workflow.dag.sinks == (3,)
    assert workflow.run_s == {0: 1.0, 1: 0.0, 2: 2.5}
    assert workflow.output_bytes == {0: 15, 1: 4, 2: 3, 3: 3}
    assert workflow.edge_bytes == {(0, 1): 5, (0, 2): 15, (1, 3): 4, (2, 3): 3}
    assert workflow.external_bytes == {0: 1000}
    assert (workflow.name, workflow.makespan_s) == ("w", 12.5)


def test_version_1_4_keeps_files_and_times_in_the_task_and_names_parents() -> None:
    data = {
        "name": "old",
        "schemaVersion": "1.4",
        "workflow": {
            "makespanInSeconds": 9,
            "executedAt": "2020",
            "tasks": [
                {
                    "name": "a_ID1",
                    "id": "ID1",
                    "category": "a",
                    "type": "compute",
                    "runtimeInSeconds": 4,
                    "files": [
                        {"name": "x", "sizeInBytes": 7, "link": "input"},
                        {"name": "y", "sizeInBytes": 8, "link": "output"},
                    ],
                },
                {
                    "name": "b_ID2",
                    "id": "ID2",
                    "command": {"program": "b"},
                    "type": "compute",
                    "parents": ["a_ID1"],
                    "files": [{"name": "y", "sizeInBytes": 8, "link": "input"}],
                },
            ],
        },
    }

    workflow = read(json.dumps(data))

    assert [(call.name, call.function) for call in workflow.dag.calls] == [
        ("a_ID1", "a"),
        ("b_ID2", "b"),
    ]
    assert (workflow.run_s, workflow.makespan_s) == ({0: 4.0}, 9)
    assert (workflow.edge_bytes, workflow.external_bytes) == ({(0, 1): 8}, {0: 7})
    assert workflow.output_bytes == {0: 8, 1: 0}


def test_version_1_3_calls_them_runtime_size_and_makespan() -> None:
    files = [{"name": "y", "path": "/d/", "size": 3, "link": "output"}]
    tasks = [{"name": "a", "type": "compute", "runtime": 2.0, "files": files}]

    workflow = read(
        json.dumps(
            {"name": "o", "schemaVersion": "1.3", "workflow": {"makespan": 5, "tasks": tasks}}
        )
    )

    assert (workflow.run_s, workflow.output_bytes, workflow.makespan_s) == ({0: 2.0}, {0: 3}, 5)


def test_a_dependency_said_on_one_end_only_or_by_a_file_only_is_one() -> None:
    """a -> b by the child of a, b -> c by the file f"""
    workflow = read(
        text_of(
            task("a", children="b"), task("b", writes="f"), task("c", reads="f"), files={"f": 1}
        )
    )

    assert [call.upstream for call in workflow.dag.calls] == [(), (0,), (1,)]
    assert workflow.edge_bytes == {(1, 2): 1}


def test_a_file_of_several_writers_comes_from_those_declared_upstream() -> None:
    """a -> c, and b apart, both write f; d reads it and waits for neither"""
    workflow = read(
        text_of(
            task("a", writes="f"),
            task("b", writes="f"),
            task("c", "a", reads="f"),
            task("d", reads="f"),
            files={"f": 2},
        )
    )

    assert [call.upstream for call in workflow.dag.calls] == [(), (), (0,), ()]
    assert (workflow.edge_bytes, workflow.external_bytes) == ({(0, 2): 2}, {3: 2})


def test_what_a_file_does_not_say_is_unknown_and_not_zero() -> None:
    silent = {"name": "a", "id": "a", "parents": [], "children": []}

    workflow = read(text_of(silent, task("b", "a")))

    assert (workflow.run_s, workflow.output_bytes, workflow.makespan_s) == ({}, {1: 0}, None)


@given(workflows())
def test_what_is_written_is_read_back(workflow: Workflow) -> None:
    assert read(text(workflow)) == workflow


@given(workflows())
def test_what_is_written_keeps_the_schema(workflow: Workflow) -> None:
    SCHEMA.validate(json.loads(text(workflow)))


@given(st.data())
def test_expected_costs_come_back_as_costs(data: st.DataObject) -> None:
    dag = data.draw(dags())
    known = data.draw(costs(dag))

    workflow = read(write(dag, known))

    again = workflow.costs(commit_s=7.0)
    assert [(again.run(i), again.output(i)) for i in range(len(dag))] == [
        (known.run(i), known.output(i)) for i in range(len(dag))
    ]
    edges = [(u, d) for d, call in enumerate(dag.calls) for u in call.upstream]
    assert [again.edge(*edge) for edge in edges] == [known.edge(*edge) for edge in edges]
    assert again.external_bytes == known.external_bytes
    assert (again.commit_s, workflow.makespan_s) == (7.0, None)


def test_a_simulated_run_is_written_with_its_times_sizes_and_workers() -> None:
    """a -> b -> d
    `-> c -/
    """
    dag = diamond()
    plan = Plan(
        dag=dag,
        steps=tuple(Step(task=i, upstream=call.upstream) for i, call in enumerate(dag.calls)),
        planner="x",
    )
    known = Costs(run_s={0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}, output_bytes={0: 10, 1: 20, 2: 30, 3: 40})
    trace = simulate(plan, known, Pool(cap=2))

    written = write(dag, trace, name="diamond")

    SCHEMA.validate(json.loads(written))
    workflow = read(written)
    assert workflow == Workflow.measured(dag, trace, name="diamond")
    assert workflow.run_s == pytest.approx(known.run_s)
    assert workflow.output_bytes == known.output_bytes
    assert workflow.makespan_s == pytest.approx(trace.makespan_s)
    execution = json.loads(written)["workflow"]["execution"]
    hosts = {machine["nodeName"] for machine in execution["machines"]}
    assert {host for one in execution["tasks"] for host in one["machines"]} == hosts
    assert [one["readBytes"] for one in execution["tasks"]] == [0, 10, 10, 50]


def test_the_last_attempt_counts_and_the_first_copy_and_failed_tasks_stay_unknown() -> None:
    """a -> b, with a copy a' of a; b fails"""
    dag = drawn("a b")
    spans = [
        Span(0, "w 1", Phase.RUN, 101.0, 103.0),
        Span(0, "w 1", Phase.RUN, 103.0, 104.5, attempt=2),
        Span(0, "w 1", Phase.DUMP, 104.5, 104.6, n_bytes=7, attempt=2),
        Span(1, "w2", Phase.RUN, 101.0, 109.0),
        Span(1, "w2", Phase.DUMP, 109.0, 109.1, n_bytes=9),
        Span(2, "w2", Phase.RUN, 110.0, 111.0),
    ]
    trace = Trace.of(spans, ("a", "a'", "b"), submitted_s=100.0, finished_s=111.5)

    written = write(dag, trace)

    workflow = read(written)
    assert (workflow.run_s, workflow.output_bytes, workflow.makespan_s) == ({0: 1.5}, {0: 7}, 11.5)
    execution = json.loads(written)["workflow"]["execution"]
    assert execution["executedAt"] == "1970-01-01T00:01:40+00:00"
    assert execution["tasks"][0]["executedAt"] == "1970-01-01T00:01:43+00:00"
    assert execution["machines"] == [{"nodeName": "w-1"}]


def test_a_trace_of_another_dag_is_refused() -> None:
    trace = Trace.of([], ("z",), submitted_s=0.0, finished_s=1.0)

    with pytest.raises(GraphError, match="task 'z', which the DAG lacks"):
        write(drawn("a b"), trace)


def test_names_that_the_format_forbids_are_kept_beside_ids_that_it_allows() -> None:
    dag = Dag.from_edges(["<lambda>-0", "_lambda_-0", "(lambda)-0"], [("<lambda>-0", "(lambda)-0")])
    workflow = Workflow(name="w", dag=dag)

    written = text(workflow)

    ids = [one["id"] for one in json.loads(written)["workflow"]["specification"]["tasks"]]
    assert ids == ["_lambda_-0_2", "_lambda_-0", "_lambda_-0_3"]
    SCHEMA.validate(json.loads(written))
    assert read(written).dag.positions == dag.positions


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "not JSON"),
        ("[1]", r"holds \[1\], not an object"),
        ('{"name": "w"}', "schemaVersion is missing"),
        (
            text_of(task("a"), schemaVersion="1.1"),
            r"WfFormat '1\.1'; dagnb reads 1\.3, 1\.4, 1\.5, 1\.6\. Convert",
        ),
        (text_of(task("a"), workflow={}), r"workflow\.specification is missing"),
        (text_of(), "no tasks"),
        (text_of(task("a"), 5), r"specification\.tasks\[1\] is 5, not an object"),
        (text_of({"id": "a"}), r"specification\.tasks\[0\]\.name is missing"),
        (text_of(task("a", parents="x")), "task 'a' has the parent 'x', which does not exist"),
        (text_of(task("a", children="x")), "task 'a' has the child 'x', which does not exist"),
        (text_of(task("a"), task("a")), "two tasks are called 'a'"),
        (text_of(task("a", inputFiles="f")), r"inputFiles is 'f', not a list"),
        (text_of(task("a", inputFiles=[3])), r"inputFiles holds 3, not a text"),
        (text_of(task("a", writes="f")), "file 'f' is read or written but has no size"),
        (
            text_of(task("a"), files={"f": -1}),
            r"files\[0\]\.sizeInBytes is -1\. Give a number of 0 or more",
        ),
        (
            text_of(task("a"), run_s={"a": -2.5}),
            r"execution\.tasks\[0\]\.runtimeInSeconds is -2\.5",
        ),
        (text_of(task("a"), run_s={"a": float("nan")}), "runtimeInSeconds is nan"),
        (text_of(task("a"), run_s={"a": "1"}), "runtimeInSeconds is '1', not a number"),
        (text_of(task("a"), run_s={"b": 1}), "holds 'b', which the specification lacks"),
        (text_of(task("a"), name=""), "name is empty"),
    ],
)
def test_broken_texts_are_refused_with_the_place_and_the_cure(broken: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        read(broken)


def test_tasks_that_wait_for_each_other_are_named() -> None:
    with pytest.raises(CycleError) as caught:
        read(text_of(task("a", "b"), task("b", "a")))

    assert set(caught.value.cycle) == {"a", "b"}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"run_s": {2: 1.0}}, "run_s names task 2; the DAG has 2"),
        ({"run_s": {0: -1.0}}, "run_s of task 'a' is -1"),
        (
            {"output_bytes": {0: 5}, "edge_bytes": {(0, 1): 6}},
            "'a' passes 6 bytes to 'b' and gives 5 bytes in all",
        ),
        ({"edge_bytes": {(0, 1): 6}}, "gives an unknown number of bytes"),
        ({"output_bytes": {1: 5}, "edge_bytes": {(1, 0): 1}}, "not an edge of the DAG"),
    ],
)
def test_a_workflow_that_cannot_be_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Workflow(name="w", dag=drawn("a b"), **facts)
