"""Spans that a recorder lets go, the moment of that, and the phases of a start."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
from dagnb_workers.surroundings.isolation import ImportTime
from dagnb_workers.worker.recorder import HeaderRead, Recorder

from dagnb.protocol.invocation import Invocation
from dagnb.protocol.messages import Offer
from dagnb.trace.chunk import is_last, unpacked
from dagnb.trace.trace import Phase, Span
from dagnb.trace.upload import MOST_HELD, AtExit, EachTask, Every, Upload, WhenFull

OFFER = Offer(task=3, attempt=2, record=None, inputs=())


def holding(upload: Upload, n: int) -> Recorder:
    recorder = Recorder(upload)
    for task in range(n):
        recorder.note(task, "w0", Phase.RUN, 1.0, 2.0)
    return recorder


def sent(recorder: Recorder, **how: bool) -> int:
    with recorder.sending(**how) as chunk:
        return len(unpacked(chunk)) if chunk else 0


@pytest.mark.parametrize(
    ("upload", "held", "gone"),
    [
        (EachTask(), 1, 1),
        (AtExit(), 9, 0),
        (Every(seconds=3600.0), 9, 0),
        (Every(seconds=1e-9), 9, 9),
        (WhenFull(n=4), 3, 0),
        (WhenFull(n=4), 4, 4),
    ],
)
def test_what_is_due_rides_along_and_the_rest_stays(upload: Upload, held: int, gone: int) -> None:
    recorder = holding(upload, held)

    assert sent(recorder) == gone
    assert sent(recorder, everything=True) == held - gone
    assert sent(recorder, everything=True) == 0


def test_however_long_they_may_be_held_there_are_never_more_than_so_many() -> None:
    recorder = holding(AtExit(), MOST_HELD - 1)
    assert sent(recorder) == 0

    recorder.note(0, "w0", Phase.RUN, 1.0, 2.0)

    assert sent(recorder) == MOST_HELD


def test_what_could_not_be_sent_stays_in_order_before_what_came_since() -> None:
    recorder = holding(EachTask(), 2)

    with contextlib.suppress(OSError), recorder.sending():
        recorder.note(9, "w0", Phase.RUN, 1.0, 2.0)
        raise OSError("away")

    with recorder.sending() as chunk:
        assert [span.task for span in unpacked(chunk)] == [0, 1, 9]


def test_an_idle_worker_waits_no_longer_than_its_spans_may_and_for_nothing_when_it_holds_none() -> (
    None
):
    assert Recorder(EachTask()).wait_s() == math.inf
    assert holding(EachTask(), 1).wait_s() == 0.0
    assert 0.0 < holding(Every(seconds=3600.0), 1).wait_s() <= 3600.0
    assert holding(AtExit(), 1).wait_s() == math.inf


def test_the_last_chunk_says_so_even_when_there_is_nothing_in_it() -> None:
    recorder = holding(AtExit(), 1)

    with recorder.sending(everything=True, is_last=True) as full:
        pass
    with recorder.sending(everything=True, is_last=True) as empty:
        pass
    with holding(EachTask(), 5).sending() as ordinary:
        pass

    assert [len(unpacked(chunk)) for chunk in (full, empty, ordinary)] == [1, 0, 5]
    assert [is_last(chunk) for chunk in (full, empty, ordinary)] == [True, True, False]


def test_what_moved_nothing_leaves_no_span_and_what_raised_leaves_one() -> None:
    recorder = Recorder(AtExit())

    for phase in (Phase.FETCH, Phase.PROGRAM, Phase.LOAD):
        with recorder.span("w0", OFFER, phase):
            pass
    with contextlib.suppress(OSError), recorder.span("w0", OFFER, Phase.DUMP) as moved:
        moved.n_bytes = 7
        raise OSError("torn")

    with recorder.sending(everything=True) as chunk:
        spans = unpacked(chunk)
    assert [(s.phase, s.task, s.attempt, s.n_bytes) for s in spans] == [
        (Phase.LOAD, 3, 2, 0),
        (Phase.DUMP, 3, 2, 7),
    ]


def start(
    invocation: Invocation, header_read: HeaderRead | None
) -> list[tuple[Phase, float, float]]:
    """Returns the phases of a start that was asked for at 100. It ends in the far future: inf."""
    recorder = Recorder(AtExit())
    recorder.note_start("w0", 100.0, invocation, header_read)
    with recorder.sending(everything=True) as chunk:
        spans = unpacked(chunk)
    assert {(span.task, span.worker, span.detail) for span in spans} == {(-1, "w0", "cold")}
    assert spans[-1].end_s > 1e9
    return [
        (span.phase, span.begin_s, span.end_s if span is not spans[-1] else math.inf)
        for span in spans
    ]


def invocation(**fields: object) -> Invocation:
    return Invocation(run="r", store="memory://", key=b"", **fields)  # type: ignore[arg-type]


def test_reading_the_header_is_taken_out_of_the_start_of_a_process() -> None:
    assert start(invocation(), HeaderRead(103.0, 104.0, 9)) == [
        (Phase.INVOKE, 100.0, 103.0),
        (Phase.REGISTER, 104.0, math.inf),
    ]


def test_reading_the_header_is_taken_out_of_the_registration_of_a_container() -> None:
    made = invocation(phases=(("create", 101.0, 102.0), ("boot", 102.0, 103.0)), sent_at=103.0)

    assert start(made, HeaderRead(104.0, 105.0, 9)) == [
        (Phase.INVOKE, 100.0, 101.0),
        (Phase.CREATE, 101.0, 102.0),
        (Phase.BOOT, 102.0, 103.0),
        (Phase.REGISTER, 103.0, 104.0),
        (Phase.REGISTER, 105.0, math.inf),
    ]


def test_who_knows_the_header_already_has_registered_when_it_is_asked() -> None:
    assert start(invocation(), None) == [(Phase.INVOKE, 100.0, math.inf)]
    assert start(invocation(sent_at=101.0), None) == [
        (Phase.INVOKE, 100.0, 101.0),
        (Phase.REGISTER, 101.0, math.inf),
    ]


def acts_of_a_call(*, load_s: float, run_s: float) -> list[Span]:
    """Returns the spans of a LOAD from 100 to 105 and a RUN from 105 to 112, with these imports."""
    imports = ImportTime()
    recorder = Recorder(AtExit(), imports)
    moments = iter([100.0, 105.0, 105.0, 112.0])
    recorder.now = lambda: next(moments)  # type: ignore[method-assign]  # a clock of the test's own
    for phase, seconds in ((Phase.LOAD, load_s), (Phase.RUN, run_s)):
        with recorder.span("w0", OFFER, phase) as span:
            span.n_bytes = 9 if phase is Phase.LOAD else 0
            imports.seconds += seconds
    with recorder.sending(everything=True) as chunk:
        return unpacked(chunk)


@pytest.mark.parametrize(
    ("load_s", "run_s", "parts"),
    [
        (0.0, 0.0, [(Phase.LOAD, 100, 105), (Phase.RUN, 105, 112)]),
        (2.0, 0.0, [(Phase.LOAD, 100, 103), (Phase.IMPORT, 103, 105), (Phase.RUN, 105, 112)]),
        (0.0, 3.0, [(Phase.LOAD, 100, 105), (Phase.IMPORT, 105, 108), (Phase.RUN, 108, 112)]),
        (2.0, 3.0, [(Phase.LOAD, 100, 103), (Phase.IMPORT, 103, 108), (Phase.RUN, 108, 112)]),
        (9.0, 9.0, [(Phase.LOAD, 100, 100), (Phase.IMPORT, 100, 112), (Phase.RUN, 112, 112)]),
    ],
)
def test_imports_are_one_span_between_the_load_and_the_run_that_lack_them(
    load_s: float, run_s: float, parts: list[tuple[Phase, float, float]]
) -> None:
    spans = acts_of_a_call(load_s=load_s, run_s=run_s)

    assert [(span.phase, span.begin_s, span.end_s) for span in spans] == parts
    assert {(span.task, span.attempt, span.worker) for span in spans} == {(3, 2, "w0")}
    assert [span.n_bytes for span in spans if span.n_bytes] == [9]


def test_imports_of_two_tasks_are_two_spans() -> None:
    imports = ImportTime()
    recorder = Recorder(AtExit(), imports)
    for task in (1, 2):
        with recorder.span("w0", replace(OFFER, task=task), Phase.LOAD):
            imports.seconds += 1.0

    with recorder.sending(everything=True) as chunk:
        spans = unpacked(chunk)
    assert [(span.task, span.phase) for span in spans] == [
        (1, Phase.LOAD),
        (1, Phase.IMPORT),
        (2, Phase.LOAD),
        (2, Phase.IMPORT),
    ]
