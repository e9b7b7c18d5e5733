"""Every act of a run that costs time is a span, of its client as well as of its workers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import AtExit, EachTask, Every, WhenFull, session, task
from dagnb.errors import StorageUnavailableError
from dagnb.handle import Run
from dagnb.protocol.messages import Event
from dagnb.storage.interface import Store
from dagnb.trace.trace import Phase, Span
from dagnb.trace.upload import Upload

ONE = Inline(n=1)


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_settings", session.settings(workers=ONE))


@task
def weigh(data: bytes, factor: int = 1) -> int:
    return factor * len(data)


@task
def grow(size: int) -> bytes:
    return b"x" * size


def spans(run: Run[Any], phase: Phase) -> list[Span]:
    return [span for span in run.trace.spans if span.phase is phase]


def store() -> Store:
    return session.wait(session.reopened(dagnb.Redis(url="memory://")))


@task(retries=1)
def weigh_again(data: bytes) -> int:
    """Its input is stored, for a second attempt."""
    return len(data)


def test_the_phases_of_a_worker_and_of_the_client_come_one_after_the_other() -> None:
    run = weigh_again(grow(50_000)).run()
    run.result()

    acts = [span for span in run.trace.spans if span.phase is not Phase.QUEUE]

    first, second = (
        [Phase.PROGRAM, Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.STORE, Phase.COMMIT],
        [Phase.PROGRAM, Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.COMMIT],
    )
    start = [Phase.SUBMIT, Phase.INVOKE, Phase.PROGRAM, Phase.REGISTER]
    assert [span.phase for span in acts] == [*start, *first, *second, Phase.RETURN]
    assert [span.task for span in acts] == [-1] * 4 + [0] * 6 + [1] * 5 + [-1]
    workers = [span for span in acts if span.worker]
    assert all(one.end_s <= following.begin_s for one, following in itertools.pairwise(workers))
    assert run.trace.workers == ("~/1",)


def test_submission_ends_where_the_makespan_begins_and_the_return_begins_where_it_ends() -> None:
    run = weigh(b"abc").run()
    run.result()

    (submit,), (give_back,) = spans(run, Phase.SUBMIT), spans(run, Phase.RETURN)

    trace = run.trace
    assert submit.begin_s < submit.end_s == trace.submitted_s
    assert trace.finished_s <= give_back.begin_s < give_back.end_s
    assert submit.n_bytes > 100
    assert trace.makespan_s == run.look().finished_at - run.look().submitted_at


def test_the_return_does_not_begin_before_the_value_was_asked_for_and_is_told_once() -> None:
    run = weigh(b"abc").run()
    while not run.done:
        pass
    idle = dagnb.run(weigh(b"other"))
    idle.result()

    run.result()
    run.result()

    (give_back,) = spans(run, Phase.RETURN)
    assert give_back.begin_s > idle.look().finished_at


def test_bytes_loaded_are_those_of_values_constants_and_arguments() -> None:
    constant = b"c" * 100_000
    source = weigh(constant, 7)
    run = dagnb.run(source, weigh_again(grow(50_000)), weigh(b"a" * 1_000))
    run.result()

    n_bytes = {span.task: span.n_bytes for span in spans(run, Phase.LOAD)}
    name = run.description.names.index

    assert 100_000 < n_bytes[name("weigh-0")] < 101_000
    assert 50_000 < n_bytes[name("weigh_again-0")] < 51_000
    assert 1_000 < n_bytes[name("weigh-1")] < 2_000
    assert 0 < n_bytes[name("grow-0")] < 1_000


def test_a_function_is_read_once_by_each_instance() -> None:
    run = dagnb.run(*(weigh(b"a" * n) for n in range(5)))
    run.result()

    program = spans(run, Phase.PROGRAM)

    assert [span.task >= 0 for span in program] == [False, True]
    assert all(span.n_bytes > 0 for span in program)


def test_a_failed_attempt_is_told_with_its_report_and_its_number() -> None:
    tries: list[int] = []

    @task(retries=1, backoff_s=0.0)
    def stumble() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")
        return 5

    run = stumble().run()
    assert run.result() == 5

    assert [(span.attempt, span.detail) for span in spans(run, Phase.COMMIT)] == [
        (1, "failed"),
        (2, ""),
    ]
    assert [span.attempt for span in spans(run, Phase.RUN)] == [1, 2]


@pytest.mark.parametrize(
    "upload", [AtExit(), EachTask(), Every(), WhenFull()], ids=lambda upload: upload.text
)
def test_when_the_run_is_over_its_trace_is_complete_whenever_spans_are_uploaded(
    upload: Upload,
) -> None:
    nodes = [weigh(grow(20_000 + n)) for n in range(20)]
    run = dagnb.run(*nodes, metrics=upload, workers=Inline(n=3))
    run.result()

    by_task = {task: [span.phase for span in run.trace.of_task(task)] for task in range(40)}

    assert all(
        phases.count(Phase.COMMIT) == phases.count(Phase.RUN) == 1 for phases in by_task.values()
    )


class Deaf:
    """A store that takes no spans."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, run: str, spans: bytes) -> None:
        raise StorageUnavailableError("memory://", "deaf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_store_that_takes_no_spans_costs_no_result() -> None:
    run = weigh(b"abcd").run()
    handle: Run[int] = Run(run.id, Deaf(store()))  # type: ignore[arg-type]  # as good as one

    assert handle.result() == 4
    assert spans(run, Phase.RETURN) == []


def events(run: Run[Any], kind: str) -> list[Event]:
    return [event for event in run.look().events if event.kind == kind]


def test_nothing_of_a_run_is_held_back_for_ever_when_it_is_cancelled() -> None:
    """grow -> weigh, of which the second never runs"""
    run = dagnb.run(*(weigh(grow(n)) for n in range(30)), metrics=AtExit())
    while len(events(run, "done")) < 3:
        pass

    run.cancel()

    done = {event.task for event in events(run, "done")}
    assert done <= {span.task for span in spans(run, Phase.COMMIT)}
