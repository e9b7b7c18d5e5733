"""What a browser is told, and that it ends up knowing what is."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.graph.dag import Dag
from dagnb.planning.planner import Basis, Costs, Pool, Problem, Uncertainty
from dagnb.protocol.messages import RunState
from dagnb.simulation.simulate import simulate
from dagnb.views.errors import MAX_ERRORS
from dagnb.views.snapshot import Snapshot
from dagnb.views.view_updates import (
    MAX_BARS,
    MAX_LOG,
    MAX_LOGS,
    Message,
    ViewUpdates,
    graph_of,
    tail,
)
from tests import graphs
from tests.unit.forecast.past_runs import floating
from tests.unit.views.samples import HOSTILE, description_of, failure, job, run, snapped


def updates_of(now: Snapshot) -> ViewUpdates:
    return ViewUpdates(now.description, now.seen.submitted_at)


def positions(ranges: str) -> list[int]:
    found: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def states_after(messages: list[Message], n: int) -> str:
    """What a browser holds of the states after these messages."""
    held = ["W"] * n
    for message in messages:
        for state, ranges in message["states"].items():  # type: ignore[attr-defined]  # a dict
            for task in positions(ranges):
                held[task] = state
    return "".join(held)


@given(st.lists(st.text("WRXBDFSC", min_size=12, max_size=12), min_size=1, max_size=6))
def test_however_states_go_the_browser_ends_with_the_last(moments: list[str]) -> None:
    dag = Dag.from_edges([f"f-{i}" for i in range(12)], [])
    updates = updates_of(snapped(dag, moments[0]))

    messages = [updates.update(snapped(dag, states))[0] for states in moments]

    assert states_after(messages, 12) == moments[-1]
    assert states_after([updates.everything()], 12) == moments[-1]
    assert [message["serial"] for message in messages] == list(range(1, len(moments) + 1))


def test_a_message_holds_only_what_is_new() -> None:
    dag = job(2)
    first = snapped(
        dag, "DXWWWW", run(0, "w0", 0, 1), logs={0: "scanned"}, errors={(0, 1): failure("once")}
    )
    updates = updates_of(first)
    updates.update(first)
    second = replace(
        first,
        seen=replace(
            first.seen, states="DDXWWW", errors={**first.seen.errors, (1, 1): failure("twice")}
        ),
        spans=(*first.spans, run(1, "w1", 1, 2)),
        logs={**first.logs, 1: "counted"},
    )

    message, is_news = updates.update(second)

    assert is_news
    assert message["states"] == {"D": "1", "X": "2"}
    assert [row[0] for row in message["rows"]] == [1]  # type: ignore[attr-defined]  # a list
    assert message["logs"] == {"1": "counted"}
    assert [error["task"] for error in message["errors"]] == [1]  # type: ignore[attr-defined]  # a list
    assert message["n_errors"] == 2
    whole = updates.everything()
    assert [row[0] for row in whole["rows"]] == [0, 1]  # type: ignore[attr-defined]  # a list
    assert whole["logs"] == {"0": "scanned", "1": "counted"}
    assert [error["task"] for error in whole["errors"]] == [0, 1]  # type: ignore[attr-defined]  # a list


def test_time_alone_is_no_news_but_a_worker_more_is() -> None:
    dag = job(2)
    updates = updates_of(snapped(dag, "DXWWWW"))
    updates.update(snapped(dag, "DXWWWW"))

    assert updates.update(snapped(dag, "DXWWWW", now=1_020.0))[1] is False
    assert updates.update(snapped(dag, "DXWWWW", n_instances=3))[1] is True
    assert (
        updates.update(snapped(dag, "DXWWWW", n_instances=3, state=RunState.CANCELLED))[1] is True
    )


def test_the_workers_that_took_part_are_told_after_they_left() -> None:
    dag = job(2)
    updates = updates_of(snapped(dag, "DXWWWW"))
    updates.update(snapped(dag, "DXWWWW", n_instances=4))

    over = snapped(dag, "DDDDDD", state=RunState.OK, finished_at=1_006.0, n_instances=0)
    assert updates.update(over)[0]["workers"] == 4


def test_what_runs_now_is_drawn_up_to_now() -> None:
    dag = job(2)
    now = replace(
        snapped(dag, "DXWWWW", run(0, "w0", 0, 1)), started={1: (1_002.0, "w1"), 0: (1_000.0, "w0")}
    )
    updates = updates_of(now)
    updates.update(now)

    lanes = ET.fromstring(str(updates.draw()["lanes"]))

    assert [bar.get("data-task") for bar in lanes.iter() if bar.get("data-task")] == ["1", "0"]
    assert "now 6 s" in "".join(lanes.itertext())


def test_while_it_runs_the_critical_path_is_the_chain_expected_to_be_longest() -> None:
    dag = Dag.from_edges(["a", "b", "c", "d"], [("a", "c"), ("b", "d")])
    now = snapped(dag, "DDXX", run(0, "w0", 0, 1), run(1, "w1", 0, 3))
    updates = updates_of(now)
    updates.update(now)

    assert updates.draw()["critical"] == ["1-3"]


def test_afterwards_it_is_the_chain_that_was() -> None:
    dag = Dag.from_edges(["a", "b", "c", "d"], [("a", "c"), ("b", "d")])
    spans = (run(0, "w0", 0, 1), run(1, "w1", 0, 3), run(2, "w0", 1, 9), run(3, "w1", 3, 4))
    now = snapped(dag, "DDDD", *spans, state=RunState.OK, finished_at=1_009.0)
    updates = updates_of(now)
    updates.update(now)

    assert updates.draw()["critical"] == ["0-2"]


def test_a_folded_graph_shows_the_critical_path_between_boxes() -> None:
    dag = job(200)
    now = snapped(dag, "W" * 204)
    updates = updates_of(now)
    updates.update(now)

    assert len(updates.picture.boxes) < 10
    assert all("-" in edge for edge in updates.draw()["critical"])  # type: ignore[attr-defined]  # a list
    assert len(updates.draw()["critical"]) == 3  # type: ignore[arg-type]  # a list


def test_ten_thousand_failing_tasks_that_print_a_lot_make_small_messages() -> None:
    n = 10_000
    dag = Dag.from_edges([f"f-{i}" for i in range(n)], [], functions=["f"] * n)
    errors = {(i, 1): failure("x" * 10_000) for i in range(200)}
    spans = [run(i, f"w{i % 8}", i / 100, i / 100 + 0.01) for i in range(n)]
    now = snapped(dag, "F" * n, *spans, errors=errors, logs=dict.fromkeys(range(n), "y" * 9_000))
    updates = updates_of(now)
    message, _ = updates.update(now)

    assert message["n_errors"] == 200
    assert len(message["errors"]) == MAX_ERRORS  # type: ignore[arg-type]  # a list
    assert sum(map(len, message["logs"].values())) < MAX_LOGS + 2 * MAX_LOG  # type: ignore[attr-defined]  # a dict
    assert message["states"] == {"F": "0-9999"}
    assert str(updates.draw()["lanes"]).count("<path") < MAX_BARS + 50
    assert len(json.dumps(updates.everything())) < 2_500_000


def test_the_end_of_a_long_output_is_kept_and_its_escapes_are_not() -> None:
    assert tail("\x1b[31mred\x1b[0m") == "red"
    kept = tail("a" * 9_999 + "the end")
    assert kept.startswith("... more before ...\n")
    assert kept.endswith("athe end")
    assert len(kept) < MAX_LOG + 30


def test_hostile_names_and_errors_are_told_as_text() -> None:
    dag = Dag.from_edges(HOSTILE, [])
    now = snapped(
        dag, "F" * len(HOSTILE), errors={(i, 1): failure(text) for i, text in enumerate(HOSTILE)}
    )
    updates = updates_of(now)
    message, _ = updates.update(now)

    for error in message["errors"]:  # type: ignore[attr-defined]  # a list
        ET.fromstring(error["html"])
        assert not {"img", "script"} & {node.tag for node in ET.fromstring(error["html"]).iter()}
    assert graph_of(description_of(dag))["names"][-1] == "red"  # type: ignore[index]  # a list


def test_the_graph_is_told_by_functions_and_edges() -> None:
    dag = job(3)
    graph = graph_of(description_of(dag))

    assert graph["functions"] == ["scan", "count", "stats", "join", "report"]
    assert graph["function_of"] == [0, 1, 1, 1, 2, 3, 4]
    assert graph["upstream"] == tuple(call.upstream for call in dag.calls)


def test_where_errors_are_cut_off_no_attempt_is_told_to_be_the_last_that_is_not() -> None:
    dag = Dag.from_edges([f"f-{i}" for i in range(9)], [])
    errors = {(task, attempt): failure("no") for task in range(9) for attempt in (1, 2, 3, 4)}
    now = snapped(dag, "F" * 9, errors=errors)
    message, _ = updates_of(now).update(now)

    final = {(e["task"], e["attempt"]) for e in message["errors"] if "not tried again" in e["html"]}  # type: ignore[attr-defined]  # a list
    assert final == {(task, 4) for task in range(7)}


def test_a_bar_of_a_later_attempt_says_itself_how_long_it_was() -> None:
    dag = Dag.from_edges(["f"], [])
    now = snapped(
        dag,
        "D",
        run(0, "w0", 0, 5),
        run(0, "w0", 5, 6, attempt=2),
        state=RunState.OK,
        finished_at=1_006.0,
    )
    updates = updates_of(now)
    updates.update(now)

    bars = [
        bar for bar in ET.fromstring(str(updates.draw()["lanes"])).iter() if bar.get("data-task")
    ]
    assert [bar.get("data-say") for bar in bars] == [
        "f failed attempt: 5 s, from 0 s, attempt 1",
        "f run: 1 s, from 5 s, attempt 2",
    ]


KNOWN = Problem(
    dag=graphs.chain(4),
    costs=Costs(
        default_run_s=2.5,
        basis=dict.fromkeys(range(4), Basis("4 samples")),
        uncertainty=Uncertainty(default_run=0.1, batch=0.2),
    ),
    pool=Pool(cap=1),
)


def test_how_much_longer_is_told_with_every_message_and_is_no_news() -> None:
    now = snapped(graphs.chain(4), "WWWW")
    updates = updates_of(now)
    updates.expect(replace(floating(KNOWN.dag), problem=KNOWN))

    first = updates.update(now)[0]["left"]
    done = replace(now.seen, states="DDWW", now=now.seen.now + 5.0)
    message, is_news = updates.update(replace(now, seen=done))
    later = replace(now, seen=replace(done, now=done.now + 0.25))
    after, is_news_later = updates.update(later)

    assert isinstance(first, list)
    assert isinstance(message["left"], list)
    assert isinstance(after["left"], list)
    assert first[0] == pytest.approx(10.0, rel=0.2)
    assert first[1] < first[0] < first[2]
    assert message["left"][0] == pytest.approx(5.0, rel=0.2)
    assert (is_news, is_news_later) == (True, False)
    assert after["left"][0] == pytest.approx(message["left"][0] - 0.25, abs=0.011)
    assert updates.everything()["left"] == after["left"]


def test_a_plan_that_is_simulated_later_is_outlined_then() -> None:
    updates = updates_of(snapped(graphs.chain(4), "DDWW"))
    planned = simulate(floating(graphs.chain(4)), Costs(default_run_s=2.5), Pool(cap=1))

    updates.foresee(planned)

    assert updates.planned is planned


def test_of_functions_that_never_ran_three_are_named_beside_a_lower_bound() -> None:
    names = [f"t{i}" for i in range(5)]
    dag = Dag.from_edges(names, [], functions=["<b>known", "f", "g", "h", "i"])
    basis = {0: Basis("4 samples")}
    problem = Problem(dag=dag, costs=Costs(run_s={0: 8.0}, basis=basis), pool=Pool(cap=1))
    now = snapped(dag, "RRRRR")
    updates = updates_of(now)
    updates.expect(replace(floating(dag), problem=problem))

    left = updates.update(now)[0]["left"]

    assert isinstance(left, dict)
    assert left["unknown"] == ["f", "g", "h"]
    assert left["n_more"] == 1
    assert 3.0 < left["at_least"] < 8.0


def test_the_critical_path_of_a_run_goes_along_edges_and_not_from_task_to_task_of_a_worker() -> (
    None
):
    """a -> c, b -> d: w0 runs b, and then c, for which a was ready long before"""
    dag = Dag.from_edges(["a", "b", "c", "d"], [("a", "c"), ("b", "d")])
    spans = (run(0, "w1", 0, 1), run(1, "w0", 0, 5), run(2, "w0", 5, 9), run(3, "w1", 5, 6))
    now = snapped(dag, "DDDD", *spans, state=RunState.OK, finished_at=1_009.0)
    updates = updates_of(now)
    updates.update(now)

    assert updates.draw()["critical"] == ["0-2"]
