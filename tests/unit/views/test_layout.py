"""What a picture folds, and what it never loses."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.plan import Plan, Step
from dagnb.views.layout import (
    MAX_BOXES,
    MAX_EDGES,
    Box,
    Edge,
    Picture,
    of_dag,
    of_plan,
    progress,
    ranges,
)
from tests import graphs, strategies
from tests.unit.views.samples import floating, job, pinned


def shown(picture: Picture) -> dict[str, int]:
    """label -> tasks"""
    return {box.label: len(box.tasks) for box in picture.boxes}


def test_few_tasks_have_a_box_each_named_like_the_task_or_its_only_function() -> None:
    picture = of_dag(job(2))

    assert shown(picture) == {
        "scan": 1,
        "count-0": 1,
        "count-1": 1,
        "stats": 1,
        "join": 1,
        "report": 1,
    }
    assert [box.level for box in picture.boxes] == [0, 1, 1, 1, 2, 3]
    assert not picture.is_folded


def test_sixty_tasks_are_single_and_sixty_one_fold_by_function_and_level() -> None:
    assert len(of_dag(job(56)).boxes) == 60
    assert shown(of_dag(job(57))) == {"scan": 1, "count": 57, "stats": 1, "join": 1, "report": 1}


def test_edges_between_groups_are_one_and_know_how_many_they_stand_for() -> None:
    picture = of_dag(job(100))
    place = {box.label: i for i, box in enumerate(picture.boxes)}

    assert set(picture.edges) == {
        Edge(tail=place["scan"], head=place["count"], n=100),
        Edge(tail=place["count"], head=place["join"], n=100),
        Edge(tail=place["scan"], head=place["stats"]),
        Edge(tail=place["stats"], head=place["join"]),
        Edge(tail=place["join"], head=place["report"]),
    }


def test_a_function_on_two_levels_has_two_boxes() -> None:
    """f x 40 -> g -> f x 40"""
    names = [f"f-{i}" for i in range(80)] + ["g"]
    edges = [(f"f-{i}", "g") for i in range(40)] + [("g", f"f-{i}") for i in range(40, 80)]
    picture = of_dag(Dag.from_edges(names, edges, functions=["f"] * 80 + ["g"]))

    assert [(box.label, box.level, len(box.tasks)) for box in picture.boxes] == [
        ("f", 0, 40),
        ("g", 1, 1),
        ("f", 2, 40),
    ]


def test_so_many_edges_that_nobody_can_follow_them_fold_few_tasks_too() -> None:
    """b0 ... b19 each to c0 ... c19: 40 tasks, 400 edges"""
    names = [f"b-{i}" for i in range(20)] + [f"c-{i}" for i in range(20)]
    edges = [(b, c) for b in names[:20] for c in names[20:]]
    picture = of_dag(Dag.from_edges(names, edges, functions=[name[0] for name in names]))

    assert shown(picture) == {"b": 20, "c": 20}
    assert picture.edges == (Edge(tail=0, head=1, n=400),)


def test_a_deep_chain_folds_into_bands_of_levels() -> None:
    names = [f"f-{i}" for i in range(5_000)]
    picture = of_dag(Dag.from_edges(names, pairwise(names), functions=["f"] * 5_000))

    assert 30 <= len(picture.boxes) <= MAX_BOXES
    assert [edge.head - edge.tail for edge in picture.edges] == [1] * (len(picture.boxes) - 1)


def test_a_folded_picture_does_not_go_back_and_forth() -> None:
    """a -> b -> a -> b -> ..."""
    names = [f"{'ab'[i % 2]}-{i}" for i in range(1_000)]
    picture = of_dag(Dag.from_edges(names, pairwise(names), functions=[name[0] for name in names]))

    assert {(edge.tail % 2, edge.head - edge.tail) for edge in picture.edges} == {(0, 1), (1, 1)}
    assert sum(edge.n for edge in picture.edges) == 999


def test_ten_thousand_functions_on_a_level_share_a_box() -> None:
    assert shown(of_dag(graphs.fan_out(10_000))) == {"a": 1, "10000 functions": 10_000}


def test_boxes_of_a_plan_keep_workers_apart() -> None:
    picture = of_plan(pinned(job(100), ["w0", "w1"]))

    assert sorted(
        (box.label, box.placement, len(box.tasks)) for box in picture.boxes if box.label == "count"
    ) == [
        ("count", ("w0", None), 50),
        ("count", ("w1", None), 50),
    ]


def test_a_plan_with_too_many_workers_gives_their_boxes_up() -> None:
    picture = of_plan(pinned(job(500), [f"w{i}" for i in range(100)]))

    assert [(box.placement, len(box.tasks)) for box in picture.boxes if box.label == "count"] == [
        (None, 500)
    ]


def test_floating_steps_have_their_pool_as_their_placement() -> None:
    boxes = of_plan(floating(job(), resources=Resources(cpus=2))).boxes

    assert {box.placement for box in boxes} == {(None, Resources(cpus=2))}
    assert all(box.is_floating for box in boxes)
    assert not any(box.is_floating for box in of_plan(pinned(job(), ["w0"])).boxes)


def test_copies_have_boxes_of_their_own() -> None:
    dag = graphs.chain(2)
    steps = (
        Step(task=0, worker="w0"),
        Step(task=0, worker="w1"),
        Step(task=1, upstream=(1,), worker="w1"),
    )
    picture = of_plan(Plan(dag=dag, steps=steps, planner="p"))

    assert [box.tasks for box in picture.boxes] == [(0,), (1,), (2,)]
    assert picture.edges == (Edge(tail=1, head=2),)


@given(strategies.dags(max_tasks=12))
def test_every_task_is_in_one_box_and_every_edge_is_drawn_or_inside_a_box(dag: Dag) -> None:
    picture = of_dag(dag)

    assert sorted(task for box in picture.boxes for task in box.tasks) == list(range(len(dag)))
    assert sum(edge.n for edge in picture.edges) == sum(len(call.upstream) for call in dag.calls)
    assert all(
        picture.boxes[picture.box_of[task]].tasks.count(task) == 1 for task in range(len(dag))
    )


def test_any_shape_stays_small() -> None:
    dags = [
        graphs.layered(30, 40),
        graphs.bipartite(60, 60),
        graphs.tree_in(9),
        graphs.ladder(700),
        graphs.wide(3_000),
    ]

    for picture in map(of_dag, dags):
        assert len(picture.boxes) <= MAX_BOXES
        assert len(picture.edges) <= MAX_EDGES


def test_a_box_shows_the_most_pressing_state_and_counts_all() -> None:
    box = Box(id="b0", label="f", function="f", level=0, tasks=(0, 1, 2, 3, 4))

    now = progress(box, {0: "done", 1: "done", 2: "running", 3: "failed"})
    assert now.state == "failed"
    assert list(now.counts.items()) == [("failed", 1), ("running", 1), ("waiting", 1), ("done", 2)]
    assert progress(box, {}).state == "waiting"
    assert progress(box, dict.fromkeys(range(5), "done")).state == "done"


def test_ids_are_letters_and_digits() -> None:
    hostile = Dag.from_edges(["a b-c", "d'\"<e>"], [("a b-c", "d'\"<e>")])

    assert [box.id for box in of_dag(hostile).boxes] == ["b0", "b1"]


def test_ranges_join_neighbours() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert ranges([4]) == "4"
