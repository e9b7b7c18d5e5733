"""Traces for Perfetto and chrome://tracing. `opened` reads them as Perfetto's importer does."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.exchange.chrome import chrome_trace
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, Pool
from dagnb.simulation.simulate import simulate
from dagnb.trace.trace import Phase, Span, Trace
from tests.graphs import diamond
from tests.strategies import planned

Event = dict[str, Any]


def of_kind(text: str, kind: str, pid: int = 1) -> list[Event]:
    return [
        event
        for event in json.loads(text)["traceEvents"]
        if event["ph"] == kind and event["pid"] == pid
    ]


def traced(
    *spans: Span, names: tuple[str, ...] = ("a", "b", "c"), submitted_s: float = 0.0
) -> Trace:
    end = max((span.end_s for span in spans), default=submitted_s)
    return Trace.of(spans, names, submitted_s=submitted_s, finished_s=end)


def ns(microseconds: float) -> int:
    return round(microseconds * 1000)


def opened(text: str) -> dict[tuple[Any, str], str | None]:
    """(id, 's' or 'f') of each arrow -> name of the slice it binds to.

    As Perfetto: events by time, in the order of the file where times are equal; a slice closes at
    its end, must end before what encloses it, and an arrow binds to the innermost slice that is
    open on its thread.
    """
    events = [event for event in json.loads(text)["traceEvents"] if event["ph"] in "Xsf"]
    stacks: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    bound: dict[tuple[Any, str], str | None] = {}
    for event in sorted(events, key=lambda event: ns(event["ts"])):
        stack, at = stacks[event["pid"], event["tid"]], ns(event["ts"])
        while stack and stack[-1][0] <= at:
            stack.pop()
        if event["ph"] == "X":
            end = at + ns(event["dur"])
            assert not stack or end <= stack[-1][0], f"{event} sticks out of {stack[-1]}"
            stack.append((end, f"{event['cat']} {event['args'].get('task', '')}".strip()))
        else:
            bound[event["id"], event["ph"]] = stack[-1][1] if stack else None
    return bound


def test_workers_are_threads_with_names_and_phases_are_slices_since_the_submission() -> None:
    trace = traced(
        Span(-1, "w0", Phase.INVOKE, 100.0, 100.5, detail="cold"),
        Span(0, "w0", Phase.RUN, 100.5, 102.0, attempt=2),
        Span(0, "w0", Phase.STORE, 102.0, 102.25, n_bytes=9),
        Span(1, "w1", Phase.RUN, 101.0, 101.5),
        submitted_s=100.0,
    )

    text = chrome_trace(trace, name="r1")

    process = next(event for event in of_kind(text, "M") if event["name"] == "process_name")
    threads = {
        event["tid"]: event["args"]["name"]
        for event in of_kind(text, "M")
        if event["name"] == "thread_name"
    }
    slices = [
        (threads[e["tid"]], e["name"], e["cat"], e["ts"], e["dur"], e["args"])
        for e in of_kind(text, "X")
    ]
    assert process["args"] == {"name": "r1"}
    assert slices == [
        ("w0", "invoke", "invoke", 0.0, 500_000.0, {"attempt": 1, "bytes": 0, "detail": "cold"}),
        ("w0", "a", "run", 500_000.0, 1_500_000.0, {"attempt": 2, "bytes": 0, "task": "a"}),
        ("w1", "b", "run", 1_000_000.0, 500_000.0, {"attempt": 1, "bytes": 0, "task": "b"}),
        ("w0", "store", "store", 2_000_000.0, 250_000.0, {"attempt": 1, "bytes": 9, "task": "a"}),
    ]


def test_waits_in_a_queue_are_async_pairs_apart_from_slices() -> None:
    trace = traced(
        Span(0, "w0", Phase.QUEUE, 0.0, 2.0),
        Span(1, "w0", Phase.QUEUE, 1.0, 3.0),
        Span(2, "w0", Phase.RUN, 0.0, 2.5),
    )

    text = chrome_trace(trace)

    begins = {event["id"]: event for event in of_kind(text, "b")}
    ends = {event["id"]: event for event in of_kind(text, "e")}
    assert [(begins[i]["args"]["task"], begins[i]["ts"], ends[i]["ts"]) for i in begins] == [
        ("a", 0.0, 2e6),
        ("b", 1e6, 3e6),
    ]
    assert [event["name"] for event in of_kind(text, "X")] == ["c"]


def test_what_a_worker_does_beside_its_task_has_a_line_of_its_own() -> None:
    """run a   |---------|
    fetch b       |---|        inside, but another task
    run b         .    |----|  sticks out of a
    load a     |--|            of a, inside
    """
    trace = traced(
        Span(0, "w0", Phase.RUN, 0.0, 4.0),
        Span(0, "w0", Phase.LOAD, 0.0, 1.0),
        Span(1, "w0", Phase.FETCH, 1.0, 2.0),
        Span(1, "w0", Phase.RUN, 3.0, 5.0),
    )

    text = chrome_trace(trace)

    threads = {
        event["tid"]: event["args"]["name"]
        for event in of_kind(text, "M")
        if event["name"] == "thread_name"
    }
    assert [
        (threads[event["tid"]], event["cat"], event["args"]["task"]) for event in of_kind(text, "X")
    ] == [
        ("w0", "run", "a"),
        ("w0", "load", "a"),
        ("w0 (2)", "fetch", "b"),
        ("w0 (2)", "run", "b"),
    ]
    opened(text)


def test_what_began_before_the_submission_begins_at_zero_and_says_what_was_cut() -> None:
    trace = traced(
        Span(-1, "", Phase.SUBMIT, 99.5, 100.0),
        Span(-1, "w0", Phase.BOOT, 99.0, 101.0),
        submitted_s=100.0,
    )

    slices = {event["name"]: event for event in of_kind(chrome_trace(trace), "X")}

    assert (slices["submit"]["ts"], slices["submit"]["dur"], slices["submit"]["args"]["cut_s"]) == (
        0.0,
        0.0,
        0.5,
    )
    assert (slices["boot"]["ts"], slices["boot"]["dur"], slices["boot"]["args"]["cut_s"]) == (
        0.0,
        1e6,
        1.0,
    )


def test_a_span_that_the_clock_turned_round_takes_no_time() -> None:
    (event,) = of_kind(chrome_trace(traced(Span(0, "w0", Phase.RUN, 2.0, 1.9))), "X")

    assert (event["ts"], event["dur"]) == (2e6, 0.0)


def test_arrows_go_from_the_run_that_made_a_value_to_the_run_that_read_it() -> None:
    """a -> b, c apart: a fails once, so its second attempt made the value"""
    trace = traced(
        Span(0, "w0", Phase.RUN, 0.0, 1.0),
        Span(0, "w0", Phase.RUN, 1.0, 2.0, attempt=2),
        Span(0, "w0", Phase.DUMP, 2.0, 2.1, attempt=2),
        Span(1, "w1", Phase.RUN, 3.0, 4.0),
        Span(2, "w1", Phase.RUN, 4.0, 5.0),
    )

    text = chrome_trace(trace, upstream=[(), (0,), ()])

    assert set(opened(text).values()) == {"run a", "run b"}
    ((start,), (finish,)) = (of_kind(text, "s"), of_kind(text, "f"))
    assert (start["id"], start["ts"], finish["ts"], finish["bp"]) == (
        finish["id"],
        1_999_999.999,
        3e6,
        "e",
    )


def test_a_reader_that_began_before_the_value_was_whole_still_has_its_arrow() -> None:
    trace = traced(Span(0, "w0", Phase.RUN, 0.0, 4.0), Span(1, "w1", Phase.RUN, 3.0, 5.0))

    text = chrome_trace(trace, upstream=[(), (0,), ()])

    assert opened(text) == {(1, "s"): "run a", (1, "f"): "run b"}


def test_counters_tell_busy_workers_and_bytes_on_their_way() -> None:
    trace = traced(
        Span(-1, "w0", Phase.BOOT, 0.0, 1.0),
        Span(0, "w0", Phase.FETCH, 1.0, 2.0, n_bytes=10),
        Span(0, "w0", Phase.RUN, 2.0, 3.0),
        Span(1, "w1", Phase.FETCH, 1.5, 3.5, n_bytes=5),
        Span(2, "w1", Phase.QUEUE, 0.0, 9.0, n_bytes=99),
    )

    counters: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for event in of_kind(chrome_trace(trace), "C"):
        counters[event["name"]].append((event["ts"] / 1e6, next(iter(event["args"].values()))))

    assert counters["active workers"] == [(1.0, 1), (1.5, 2), (3.0, 1), (3.5, 0)]
    assert counters["bytes in flight"] == [(1.0, 10), (1.5, 15), (2.0, 5), (3.5, 0)]


def test_a_plan_stands_beside_the_run_as_a_process_of_its_own() -> None:
    """a -> b -> d
    `-> c -/
    """
    dag = diamond()
    steps = tuple(Step(task=i, upstream=call.upstream) for i, call in enumerate(dag.calls))
    plan = Plan(dag=dag, steps=steps, planner="x")
    real, expected = (simulate(plan, Costs(default_run_s=s), Pool(cap=2)) for s in (2.0, 1.0))

    text = chrome_trace(
        real, planned=expected, name="r", upstream=[step.upstream for step in steps]
    )

    titles = [of_kind(text, "M", pid)[0]["args"]["name"] for pid in (1, 2)]
    assert titles == ["r", "r (planned)"]
    runs = [sum(e["dur"] for e in of_kind(text, "X", pid) if e["cat"] == "run") for pid in (1, 2)]
    assert runs == pytest.approx([8e6, 4e6])
    threads = [{event["tid"] for event in of_kind(text, "X", pid)} for pid in (1, 2)]
    assert not threads[0] & threads[1]
    bound = opened(text)
    assert len(bound) == 2 * 2 * 4
    assert all(slice_ in {"run a", "run b", "run c", "run d"} for slice_ in bound.values())


@given(planned(copies=True), st.integers(1, 3), st.sampled_from((0.0, 0.5)))
def test_every_simulated_run_opens(plan: Plan, cap: int, run_s: float) -> None:
    known = Costs(default_run_s=run_s, default_output_bytes=100_000)
    trace = simulate(plan, known, Pool(cap=cap))

    text = chrome_trace(trace, upstream=[step.upstream for step in plan.steps])

    bound = opened(text)
    assert None not in bound.values()
    assert {i for i, kind in bound if kind == "s"} == {i for i, kind in bound if kind == "f"}
    assert len(of_kind(text, "X")) + len(of_kind(text, "b")) == len(trace.spans)
    assert len(of_kind(text, "b")) == len(of_kind(text, "e"))
    assert all(event["ts"] >= 0 for event in json.loads(text)["traceEvents"] if "ts" in event)


@given(
    st.lists(
        st.builds(
            Span,
            st.integers(-1, 2),
            st.sampled_from(("", "w0", "w1")),
            st.sampled_from(Phase),
            st.integers(-2, 8).map(float),
            st.integers(-2, 8).map(float),
            st.integers(0, 5),
        )
    )
)
def test_slices_nest_and_counters_end_at_nothing_whatever_overlaps(spans: list[Span]) -> None:
    text = chrome_trace(traced(*spans), upstream=[(), (0,), (0, 1)])

    bound = opened(text)
    assert None not in bound.values()
    last = {event["name"]: next(iter(event["args"].values())) for event in of_kind(text, "C")}
    assert set(last.values()) <= {0}
