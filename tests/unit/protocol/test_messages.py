"""Messages read back as they were written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dagnb.protocol.messages import Address, Queue, Record, TaskState, bits_of

positions = st.integers(0, 2**31 - 1)
records = st.builds(
    Record,
    queue=st.integers(0, 10_000),
    priority=st.integers(-(2**31), 2**31),
    is_sink=st.booleans(),
    retries=st.integers(0, 1000),
    upstream=st.lists(positions, max_size=20).map(tuple),
    edges=st.lists(st.tuples(*[positions] * 6), max_size=20).map(tuple),
    body=st.binary(max_size=100),
)


@given(records)
def test_a_record_reads_back(record: Record) -> None:
    assert Record.unpack(record.pack()) == record


def test_a_record_of_a_hundred_thousand_edges_reads_back() -> None:
    edge = (1, 2, 3, 4, 5, 6)
    record = Record(
        queue=0,
        priority=0,
        is_sink=False,
        retries=0,
        upstream=tuple(range(100_000)),
        edges=(edge,) * 100_000,
    )

    assert Record.unpack(record.pack()) == record


@given(st.text("0123456789abcdef:.", min_size=1), st.integers(0, 2**40), st.integers(0, 2**20))
def test_an_address_reads_back_whatever_its_token(token: str, n_bytes: int, n_chunks: int) -> None:
    address = Address(token, n_bytes, n_chunks)

    assert Address.decode(address.encode()) == address


def test_the_state_of_a_task_is_one_byte_and_has_a_word() -> None:
    assert all(len(state.value.encode()) == 1 for state in TaskState)
    assert len({state.value for state in TaskState}) == len(TaskState)
    assert [state.word for state in TaskState] == [
        *("waiting", "ready", "running", "retrying", "done", "failed", "skipped", "cancelled")
    ]


def test_members_of_a_pool_have_numbers_and_a_pinned_worker_its_own_name() -> None:
    assert Queue("~", 4).worker(3) == "~/3"
    assert Queue("~512mb", 4).worker(1) == "~512mb/1"
    assert Queue("w2", 1).worker(1) == "w2"
    assert [Queue("~", 4).is_pool, Queue("w2", 1).is_pool] == [True, False]


def test_every_edge_has_a_bit_of_its_own_and_those_of_a_task_stand_together() -> None:
    assert bits_of([(), (0,), (0, 1), (), (2, 1, 0)]) == ([0, 0, 1, 3, 3], 6)
