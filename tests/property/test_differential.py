"""The scripts in Redis do, step by step, what the machine does: the same random calls go to both.

After every step the replies and everything that both hold are compared: states, edge bits,
results, queues, leases, members and nonces, budgets, errors, events, hints, bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dagnb.protocol.messages import Queue, Record, Submission, TaskState, bits_of
from dagnb.storage.redis import RedisStore
from tests.property.kind_pair import KINDS, KindPair
from tests.services.mirror import SteeredLink
from tests.services.pair import LEASE_S, NAMESPACE, Pair, Server

pytestmark = pytest.mark.redis

MAX_STEPS = 60


@pytest.fixture(scope="module")
def server(redis_url: str, summary: list[str]) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        link = SteeredLink(redis_url, patience_s=0.0)
        yield (server := Server(runner, RedisStore(link, NAMESPACE), link))
        runner.run(link.close())
    tally = server.tally
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.kinds.items()))
    summary.append(f"differential: {tally.runs} runs, {tally.steps} steps compared ({kinds})")


# ---- runs -------------------------------------------------------------------------------------


@st.composite
def submissions(draw: st.DrawFn, run: str, kinds: Sequence[str] = ("",)) -> Submission:
    """Draw a small DAG on pinned queues and pools, with any sinks, retries, limits and kinds."""
    n = draw(st.integers(2, 12))
    upstreams = [
        tuple(sorted(draw(st.sets(st.integers(0, t - 1), max_size=3)))) if t else ()
        for t in range(n)
    ]
    queues = tuple(
        draw(st.lists(st.sampled_from(_QUEUES), min_size=1, max_size=3, unique_by=lambda q: q.name))
    )
    some = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2))
    queues = tuple(replace(queue, kind=draw(st.sampled_from(some))) for queue in queues)
    queue = [draw(st.integers(0, len(queues) - 1)) for _ in range(n)]
    pinned = [number for number, each in enumerate(queues) if not each.is_pool]
    held = draw(st.sets(st.sampled_from(pinned))) if pinned else set()
    before = _predecessors(upstreams, queue, held)
    priority = [draw(st.integers(0, 2)) for _ in range(n)]
    leaves = {t for t in range(n) if all(t not in upstream for upstream in upstreams)}
    sinks = leaves | draw(st.sets(st.integers(0, n - 1), max_size=2))
    retries = [draw(st.sampled_from((0, 1, 2, 3))) for _ in range(n)]
    together = draw(st.sets(st.integers(0, n - 1))) - sinks
    return Submission(
        run=run,
        records=_records(upstreams, queue, priority, sinks, retries, together, before),
        queues=queues,
        sinks=tuple(sorted(sinks)),
        sources=tuple(t for t in range(n) if not upstreams[t] and t not in before),
        n_bits=sum(map(len, upstreams)) + len(before),
        on_error=draw(st.sampled_from(("fail", "continue", "continue"))),
        deadline_s=draw(st.sampled_from((None, None, None, None, 30.0))),
        start_s=draw(st.sampled_from((None, None, 1.0, 60.0))),
        crash_budget=draw(st.integers(0, 4)),
        loss_budget=draw(st.integers(0, 6)),
    )


def _predecessors(
    upstreams: Sequence[tuple[int, ...]], queue: Sequence[int], held: Collection[int]
) -> dict[int, int]:
    """Returns task -> the one before it in a queue whose order is held, if it does not read that."""
    before: dict[int, int] = {}
    last: dict[int, int] = {}
    for task, number in enumerate(queue):
        predecessor = last.get(number)
        last[number] = task
        if number in held and predecessor is not None and predecessor not in upstreams[task]:
            before[task] = predecessor
    return before


def _records(
    upstreams: Sequence[tuple[int, ...]],
    queue: Sequence[int],
    priority: Sequence[int],
    sinks: Collection[int],
    retries: Sequence[int],
    together: Collection[int] = (),
    before: Mapping[int, int] = MappingProxyType({}),
) -> tuple[bytes, ...]:
    """together: tasks that are run with their reader, if it is the only one and in their queue.

    before: task -> the one that it follows on a worker that holds its order.
    """
    awaited = [
        (*upstream, before[t]) if t in before else upstream for t, upstream in enumerate(upstreams)
    ]
    starts, _ = bits_of(awaited)
    records = []
    for t, upstream in enumerate(upstreams):
        edges = tuple(
            (c, starts[c] + up.index(t), starts[c], len(awaited[c]), queue[c], priority[c])
            for c, up in enumerate(upstreams)
            if t in up
        )
        is_alone = len(edges) == 1 and edges[0][4] == queue[t]
        for c, predecessor in before.items():
            if predecessor == t:
                bit = starts[c] + len(upstreams[c])
                edges += ((c, bit, starts[c], len(awaited[c]), queue[c], priority[c]),)
        record = Record(
            queue=queue[t],
            priority=priority[t],
            is_sink=t in sinks,
            together=t in together and is_alone,
            is_followed=t in before.values(),
            retries=retries[t],
            upstream=upstream,
            edges=edges,
            body=b"body",
        )
        records.append(record.pack())
    return tuple(records)


_QUEUES = (Queue("w0", 1), Queue("w 1", 1), Queue("~", 1), Queue("~", 3), Queue("~512mb", 2))


# ---- stories: what random walks hardly find ----

RunDescription = tuple[
    str, tuple[tuple[int, ...], ...], tuple[int, ...], int, tuple[tuple[str, str, int, int], ...]
]
"""Name, upstream tasks, sinks, cap of the pool, acts: (what, instance, task, missing input)"""

STORIES: tuple[RunDescription, ...] = (
    (
        "a ready task loses an input that then fails for good",
        ((), (0,), (0,)),
        (1, 2),
        1,
        (("done", "i1", 0, -1), ("lost", "i1", 1, 0), ("fail", "i1", 0, -1), ("lost", "i1", 2, 0)),
    ),
    (
        "a done task is lost after its input failed for good",
        ((), (0,), (0,), (1,)),
        (2, 3),
        2,
        (
            ("done", "i1", 0, -1),
            ("register", "i2", -1, -1),
            ("done", "i1", 1, -1),
            ("lost", "i2", 2, 0),
            ("fail", "i2", 0, -1),
            ("lost", "i1", 3, 1),
        ),
    ),
    (
        "a sink vanishes after its input failed for good",
        ((), (0,), (0,), ()),
        (1, 3),
        1,
        (
            ("done", "i1", 0, -1),
            ("done", "i1", 1, -1),
            ("lost", "i1", 2, 0),
            ("evict", "", 1, -1),
            ("fail", "i1", 0, -1),
            ("done", "i1", 3, -1),
        ),
    ),
    (
        "tasks whose only reader is skipped are run all the same",
        ((), (), (1,), (0, 2)),
        (3,),
        1,
        (("fail", "i1", 0, -1), ("done", "i1", 1, -1), ("done", "i1", 2, -1)),
    ),
)


@pytest.mark.parametrize("story", STORIES, ids=[story[0].replace(" ", "-") for story in STORIES])
def test_the_scripts_end_the_stories_as_the_machine_does(
    server: Server, story: RunDescription
) -> None:
    _, upstreams, sinks, cap, acts = story
    server.tally.runs += 1
    records = _records(
        upstreams, [0] * len(upstreams), [0] * len(upstreams), set(sinks), [0] * len(upstreams)
    )
    sources = tuple(t for t, upstream in enumerate(upstreams) if not upstream)
    submission = Submission(
        run=f"story{server.tally.runs}",
        records=records,
        queues=(Queue("~", cap),),
        sinks=sinks,
        sources=sources,
        n_bits=sum(map(len, upstreams)),
        on_error="continue",
    )
    pair = Pair(server, submission, lambda strategy: None)
    pair.make(("register", ("i1",), {"lease_s": LEASE_S}))

    for what, instance, task, missing in acts:
        if what == "evict":
            pair.remove(task, -1)
        else:
            pair.make(pair.act(what, instance, task, missing))
        pair.compare(what)

    assert pair.machine.state.value == "failed"
    assert TaskState.CANCELLED not in pair.machine.states


@pytest.mark.parametrize(
    ("other", "state"),
    [(1, TaskState.RUNNING), (4, TaskState.DONE)],
    ids=["more urgent", "less urgent"],
)
def test_the_scripts_keep_a_result_on_a_pinned_worker_only_if_its_reader_comes_next(
    server: Server, other: int, state: TaskState
) -> None:
    """0 on w1; 1 (of priority `other`), which reads 0, and 2 -> 3 on w0"""
    server.tally.runs += 1
    submission = Submission(
        run=f"order{server.tally.runs}",
        records=_records(
            ((), (0,), (), (2,)), (1, 0, 0, 0), (0, other, 2, 3), {1, 3}, (0, 0, 0, 0), {2}
        ),
        queues=(Queue("w0", 1), Queue("w1", 1)),
        sinks=(1, 3),
        sources=(0, 2),
        n_bits=2,
    )
    pair = Pair(server, submission, lambda strategy: None)

    for what, instance, task in (
        ("register", "i1", -1),
        ("register", "i2", -1),
        ("done", "i1", 0),
        ("keep", "i2", 2),
    ):
        pair.make(pair.act(what, instance, task, -1))
        pair.compare(what)

    assert pair.machine.states[1] is TaskState.READY
    assert pair.machine.states[2] is state


# No shrinking: it would take minutes on a server; the message of a failure tells the whole story.
WALKS = settings(
    max_examples=320,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)


@WALKS
@given(data=st.data())
@pytest.mark.timeout(300)
def test_the_scripts_do_what_the_machine_does(server: Server, data: st.DataObject) -> None:
    walk(server, data, Pair, ("",))


@settings(WALKS, max_examples=240)
@given(data=st.data())
@pytest.mark.timeout(300)
def test_the_scripts_do_what_the_machine_does_with_instances_of_several_kinds(
    server: Server, data: st.DataObject
) -> None:
    walk(server, data, KindPair, KINDS)


def walk(
    server: Server, data: st.DataObject, kind_of_pair: type[Pair], kinds: Sequence[str]
) -> None:
    """A random run from its submission to four steps after its end, or not so far."""
    run = f"d{server.tally.runs}"
    server.tally.runs += 1
    pair = kind_of_pair(server, data.draw(submissions(run, kinds)), data.draw)

    after_the_end = 0
    for _ in range(data.draw(st.integers(30, MAX_STEPS))):
        pair.step()
        after_the_end += pair.machine.state.value != "running"
        if after_the_end == 4:
            break

    assert server.runner.run(server.store.forget(run)) > 0
