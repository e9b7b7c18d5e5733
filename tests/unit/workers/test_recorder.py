"""Spans that a recorder lets go, the moment of that, and the phases of a start."""

from __future__ import annotations

import contextlib
import math

import pytest
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
        recorder.note(Span(task, "w0", Phase.RUN, 1.0, 2.0))
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

    recorder.note(Span(0, "w0", Phase.RUN, 1.0, 2.0))

    assert sent(recorder) == MOST_HELD


def test_what_could_not_be_sent_stays_in_order_before_what_came_since() -> None:
    recorder = holding(EachTask(), 2)

    with contextlib.suppress(OSError), recorder.sending():
        recorder.note(Span(9, "w0", Phase.RUN, 1.0, 2.0))
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
