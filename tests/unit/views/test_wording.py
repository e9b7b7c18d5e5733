"""How amounts are said."""

from __future__ import annotations

import pytest

from dagnb.graph.resources import Resources
from dagnb.protocol.layout import pool_name
from dagnb.protocol.messages import Queue
from dagnb.views.wording import bytes_text, counted, seconds_text, window_text
from dagnb.worker_label import worker_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1e-9, "0 s"),
        (0.000_25, "0.25 ms"),
        (0.4204, "420 ms"),
        (1.0, "1 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (61.4, "1 min 1 s"),
        (3_600.0, "1 h"),
        (93_600.0, "26 h"),
        (-0.5, "-500 ms"),
    ],
)
def test_durations_take_the_unit_that_fits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_window_has_one_unit() -> None:
    assert window_text(0.1, 0.93) == "100 to 930 ms"
    assert window_text(0.1, 1.93) == "0.1 to 1.93 s"
    assert window_text(1.5, 90.0) == "1.5 s to 1 min 30 s"


@pytest.mark.parametrize(
    ("n", "text"),
    [(999, "999 B"), (999_600, "1 MB"), (1_234_000, "1.23 MB"), (5 * 10**18, "5,000 PB")],
)
def test_sizes_are_decimal(n: int, text: str) -> None:
    assert bytes_text(n) == text


def test_one_is_singular_and_many_have_separators() -> None:
    assert [
        counted(0, "task"),
        counted(1, "copy"),
        counted(2, "copy"),
        counted(12_345, "task"),
    ] == [
        "0 tasks",
        "1 copy",
        "2 copies",
        "12,345 tasks",
    ]


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        (Resources(), "worker 2"),
        (Resources(memory_mb=200), "worker 2 (200 MB)"),
        (Resources(cpus=1, memory_mb=2_048), "worker 2 (1 CPU, 2,048 MB)"),
        (Resources(cpus=0.5, network=True), "worker 2 (0.5 CPUs, network)"),
    ],
)
def test_a_member_of_a_pool_is_named_with_its_resources(resources: Resources, text: str) -> None:
    assert worker_text(Queue(pool_name(resources), cap=4).worker(2)) == text


def test_a_worker_that_a_planner_named_keeps_its_name() -> None:
    assert [worker_text(name) for name in ("w0", "w0.1", "a/1", "")] == ["w0", "w0.1", "a/1", ""]
