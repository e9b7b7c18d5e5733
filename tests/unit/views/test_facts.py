"""What a task did, in numbers."""

from __future__ import annotations

from dagnb.trace.trace import Phase, Span
from dagnb.views.snapshot import RunFacts
from tests.unit.views.samples import run


def facts(*spans: Span) -> RunFacts:
    made = RunFacts(1_000.0)
    made.add(spans)
    return made


def test_a_row_tells_worker_begin_phases_and_bytes() -> None:
    made = facts(
        run(3, "w0", 0.5, 1.0, Phase.QUEUE),
        run(3, "w0", 1.0, 1.25, Phase.FETCH, n_bytes=2_000),
        run(3, "w0", 1.25, 3.25),
        run(3, "w0", 3.25, 3.2512, Phase.COMMIT, n_bytes=33),
    )

    assert made.row(3) == [
        *(3, 1, "w0", 1_000, 500, 250, None, None, 2_000, None, None, 1.2, 2_000, 33)
    ]


def test_only_the_latest_attempt_counts_whichever_arrives_first() -> None:
    first, second = run(0, "w0", 0, 1), run(0, "w1", 2, 5, attempt=2)
    for spans in ((first, second), (second, first)):
        assert facts(*spans).row(0) == [
            0,
            2,
            "w1",
            2_000,
            None,
            None,
            None,
            None,
            3_000,
            None,
            None,
            None,
            0,
            0,
        ]


def test_spans_of_one_phase_add_up() -> None:
    assert (
        facts(run(0, "w0", 0, 1, Phase.FETCH), run(0, "w0", 4, 5, Phase.FETCH)).row(0)[5] == 2_000
    )


def test_a_start_is_told_as_cold_or_warm_and_by_how_long_it_took() -> None:
    made = facts(
        run(-1, "w0", 0, 0.5, Phase.INVOKE, detail="cold"),
        run(-1, "w1", 0, 0.02, Phase.INVOKE, detail="warm"),
    )

    assert made.of == {}
    assert {worker: (kind, round(s, 3)) for worker, (kind, s) in made.starts.items()} == {
        "w0": ("cold", 0.5),
        "w1": ("warm", 0.02),
    }


def test_what_was_touched_is_told() -> None:
    made = RunFacts(1_000.0)

    assert made.add([run(1, "w0", 0, 1), run(2, "w0", 1, 2)]) == {1, 2}
    assert made.add([run(1, "w0", 5, 6, attempt=1)]) == {1}
    assert made.add([]) == set()


def test_imports_of_a_task_are_one_of_its_phases_and_no_start_of_its_worker() -> None:
    made = facts(run(0, "w0", 0, 1.5, Phase.IMPORT), run(0, "w0", 1.5, 2))

    assert made.row(0)[4:12] == [None, None, None, 1_500, 500, None, None, None]
    assert made.starts == {}


def test_clock_jitter_makes_no_negative_times() -> None:
    assert facts(run(0, "w0", 1.0, 0.9)).row(0)[8] == 0


def test_the_browser_gets_the_name_of_a_worker_in_words() -> None:
    assert facts(run(0, "~0.5cpu-512mb/3", 0, 1)).row(0)[2] == "worker 3 (0.5 CPUs, 512 MB)"
