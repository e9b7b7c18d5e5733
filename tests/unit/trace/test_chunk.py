"""Chunks of spans: what was packed is read as it was, in few bytes, and so are older chunks."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnb.trace.chunk import is_last, packed, unpacked
from dagnb.trace.trace import Phase, Span

EPOCH_S = st.floats(min_value=0.3e9, max_value=4e9)
SPANS = st.builds(
    Span,
    task=st.integers(-1, 10**6),
    worker=st.sampled_from(["", "~/1", "run", "w1"]),
    phase=st.sampled_from(Phase),
    begin_s=EPOCH_S,
    end_s=EPOCH_S,
    n_bytes=st.integers(0, 2**40),
    attempt=st.integers(1, 9),
    detail=st.sampled_from(["", "cold", "failed"]),
)


@given(st.lists(SPANS, max_size=20), st.booleans())
def test_spans_are_read_as_they_were_packed_to_the_last_bit_of_their_times(
    spans: list[Span], last: bool
) -> None:
    chunk = packed(spans, is_last=last)

    assert unpacked(chunk) == spans
    assert is_last(chunk) is last


def test_times_near_zero_are_read_to_a_tenth_of_a_microsecond() -> None:
    (span,) = unpacked(packed([Span(0, "w", Phase.RUN, 0.1, 12.3456789)]))

    assert (round(span.begin_s, 7), round(span.end_s, 7)) == (0.1, 12.3456789)


@pytest.mark.parametrize("last", [False, True])
def test_chunks_of_versions_before_are_read(last: bool) -> None:
    row = (3, "~/1", "run", 1_796_000_000.25, 1_796_000_001.5, 7, 2, "cold")
    chunk = msgpack.packb([row, None] if last else [row])

    assert unpacked(chunk) == [
        Span(3, "~/1", Phase.RUN, 1_796_000_000.25, 1_796_000_001.5, 7, 2, "cold")
    ]
    assert is_last(chunk) is last


def test_the_spans_of_a_short_task_in_a_batch_take_25_bytes() -> None:
    spans = []
    for task in range(25):
        begin_s = 1_796_000_000.123 + task * 76e-6
        spans.append(Span(task, "~/1", Phase.QUEUE, 1_795_999_999.5, 1_796_000_000.1))
        for phase, size in ((Phase.LOAD, 102), (Phase.RUN, 0), (Phase.DUMP, 32)):
            spans.append(Span(task, "~/1", phase, begin_s, begin_s + task % 7 * 3e-6, size))
            begin_s += 28e-6
        spans.append(Span(task, "~/1", Phase.COMMIT, 1_796_000_000.2, 1_796_000_000.3))

    assert len(packed(spans)) < 25 * 25
