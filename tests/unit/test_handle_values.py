"""Values of tasks: context, large graphs, values of others and of another Python."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from dagnb_workers.launchers.inline import Inline

import dagnb
from dagnb import session
from dagnb.errors import (
    AmbiguousNameError,
    RunCancelledError,
    SignatureError,
    TaskFailedError,
    VersionMismatchError,
)
from dagnb.graph.payload import Signer, encode_value
from dagnb.graph.task import Node, Task, task
from dagnb.handle import Run
from dagnb.protocol.invocation import python_version
from dagnb.protocol.messages import Address
from tests.services.processes import await_that
from tests.unit.inline_runs import (
    LIMIT_S,
    divide,
    failure,
    gates,
    hold,
    inline,
    memory,
    same,
    under_way,
    unpickled,
)

__all__ = ["inline"]  # pytest finds the fixture by its name here

# ---- what tasks may do ----


def test_a_task_that_calls_other_tasks_runs_them_as_functions() -> None:
    @task
    def outer(n: int) -> int:
        return same(n) + sum(map(same, range(n)))

    assert outer(4).run().result() == 10


def test_globals_of_a_task_are_taken_when_the_run_starts() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "limit": 1}
    exec("def above(values): return [value for value in values if value > limit]", space)
    node = Task(space["above"])([1, 2, 3])

    space["limit"] = 2

    assert node.run().result() == [3]


def test_a_task_has_the_names_of_the_notebook_that_stand_in_its_code_alone() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "named": 1, "looked_up": 2}
    exec("def look(): return named, 'looked_up' in globals()", space)

    assert Task(space["look"])().run().result() == (1, False)


def test_an_object_that_is_an_argument_and_a_global_as_well_becomes_two() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "missing": [0]}
    exec("def look(value): return value is missing, value == missing", space)

    assert Task(space["look"])(space["missing"]).run().result() == (False, True)


def test_coroutine_functions_are_awaited() -> None:
    @task
    async def inner(value: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return value, dagnb.context().task

    @task
    async def outer(value: tuple[int, str]) -> tuple[Any, ...]:
        call: Coroutine[Any, Any, tuple[int, str]] = inner(5)  # type: ignore[assignment]  # inside it just runs
        return (*value, *(await call))

    assert outer(inner(4)).run().result() == (4, "inner-0", 5, "outer-0")


def test_a_coroutine_that_raises_fails_like_a_function() -> None:
    @task
    async def broken() -> None:
        await asyncio.sleep(0)
        raise StopAsyncIteration("here")

    error = failure(broken().run())

    assert (error.type, error.message, error.frames[-1].function) == (
        "StopAsyncIteration",
        "here",
        "broken",
    )


@task(retries=1, backoff_s=0)
def introspective(fail: bool) -> tuple[Any, ...]:
    """Returns what a task knows of itself, in its last attempt."""
    here = dagnb.context()
    if fail and here.attempt == 1:
        raise KeyError(here.seed)
    return here.run, here.task, here.attempt, here.seed, here.idempotency_key, here.worker


def test_a_task_knows_its_run_name_attempt_seed_and_key() -> None:
    run = dagnb.run(introspective(False), introspective(True))

    first, second = run.result()

    assert first[:3] == (run.id, "introspective-0", 1)
    assert second[:3] == (run.id, "introspective-1", 2)
    assert [str(second[3])] == [error.message for error in run.errors]
    assert first[3] != second[3]
    assert (first[4], second[4]) == (f"{run.id}/introspective-0", f"{run.id}/introspective-1")
    assert {first[5], second[5]} <= {"~/1", "~/2"}


def test_the_seed_differs_between_runs() -> None:
    node = introspective(False)

    assert node.run().result()[3] != node.run().result()[3]


def test_a_task_that_changes_its_input_changes_no_other_input() -> None:
    @task
    def grow(values: list[int]) -> list[int]:
        values.append(len(values))
        return values

    first = grow([])

    assert dagnb.run(grow(first), grow(first), first).result() == ([0, 1], [0, 1], [0])


def test_so_many_functions_run_at_a_time_as_there_are_workers() -> None:
    """More than there are threads in the loop's own pool."""
    n = (os.cpu_count() or 1) + 8
    nodes = [hold(str(i), i) for i in range(n)]

    run = dagnb.run(*nodes, workers=Inline(n=n))
    for i in range(n):
        under_way(str(i))
    assert run.status == {"running": n}
    for i in range(n):
        gates[str(i)].set()

    assert run.result() == tuple(range(n))


# ---- bytes that somebody else wrote ----


def ran(what: str) -> None:
    unpickled.append(what)


class Evil:
    """Bytes of it run code when they are unpickled."""

    def __reduce__(self) -> Any:
        return ran, ("the evil bytes",)


def overwrite(run: Run[Any], task: int, address: Address, data: bytes) -> None:
    session.wait(memory().store(run.id, task, address.token, data, is_sink=True))


def test_a_result_that_was_overwritten_is_refused_before_it_is_unpickled() -> None:
    unpickled.clear()
    run = same("good").run()
    run.result()

    overwrite(run, 0, run.look().results[0], b"\0" * 16 + b"".join(encode_value(Evil(), "?")))

    with pytest.raises(SignatureError, match=f"value:{run.id}:0:"):
        run.result()
    assert unpickled == []


def test_results_of_two_tasks_that_were_swapped_are_refused() -> None:
    run = dagnb.run(same("left"), same("right"))
    run.result()
    seen = run.look().results
    sealed = session.wait(memory().fetch(run.id, list(seen.items()), is_sink=True))

    for place, data in zip(seen, reversed(sealed), strict=True):
        overwrite(run, place, seen[place], data or b"")

    with pytest.raises(SignatureError):
        run.result()


def test_code_that_was_overwritten_is_refused_by_the_worker_before_it_is_unpickled() -> None:
    """hold -> same: while hold runs, somebody replaces the code of same."""
    unpickled.clear()
    run = same(hold("a")).run(workers=Inline(n=1))
    under_way("a")
    store = memory()
    contents = store._contents.data  # type: ignore[attr-defined]  # an attacker keeps to no interface
    evil = b"".join(encode_value(Evil(), "?"))
    contents.update(dict.fromkeys(list(contents), evil))

    gates["a"].set()

    error = failure(run)
    assert (error.task, error.type) == ("same-0", "SignatureError")
    assert unpickled == []
    contents.clear()


def test_a_run_whose_program_was_overwritten_ends_and_says_why() -> None:
    """Its workers cannot begin; without them it would wait for ever."""

    class Late(Inline):
        """Launches after somebody was at the store."""

        async def launch(self, invocation: Any, needs: Any = ()) -> None:
            store = await session.reopened(dagnb.Redis(url=session.MEMORY_URL))
            store._contents.data[invocation.header] = b"evil"  # type: ignore[attr-defined]  # as above
            await super().launch(invocation, needs)

    run = same(1).run(workers=Late(n=1))

    with pytest.raises(
        RunCancelledError, match=r"a worker could not go on: content .* does not carry"
    ):
        run.result(LIMIT_S)
    memory()._contents.data.clear()  # type: ignore[attr-defined]  # for the next test


# ---- large graphs ----


def chain(n: int) -> Node[int]:
    node = same(1)
    for _ in range(n - 1):
        node = same(node)
    return node


def fan_out(n: int) -> Node[list[int]]:
    first = same(1)
    return same([same(first) for _ in range(n)])


@pytest.mark.parametrize("shape", [chain, fan_out])
def test_a_graph_deeper_and_wider_than_the_stack_is_built_and_run(
    shape: Callable[[int], Node[Any]],
) -> None:
    assert shape(1_100).run().result(LIMIT_S) in (1, [1] * 1_100)


@pytest.mark.stress
@pytest.mark.parametrize(("shape", "n"), [(chain, 5_000), (fan_out, 10_000)])
def test_thousands_of_tasks_are_built_and_run_in_this_process(
    shape: Callable[[int], Node[Any]], n: int, summary: list[str]
) -> None:
    begin = time.perf_counter()
    node = shape(n)
    built = time.perf_counter()

    value = node.run().result(100.0)

    ended = time.perf_counter()
    summary.append(
        f"{shape.__name__} of {n:,}, inline: built in {built - begin:.2f} s, run in "
        f"{ended - built:.2f} s"
    )
    assert value in (1, [1] * n)


# ---- what must not be mixed up ----


def test_two_equal_large_arguments_stay_two_objects() -> None:
    """A task that changes one of them in place must not change the other."""

    @task
    def change(first: bytearray, second: bytearray) -> tuple[int, int]:
        first[0] = 7
        return first[0], second[0]

    assert change(bytearray(40_000), bytearray(40_000)).run().result() == (7, 0)


def test_one_large_object_given_twice_stays_one_object() -> None:
    @task
    def change(first: bytearray, second: bytearray) -> tuple[int, int]:
        first[0] = 7
        return first[0], second[0]

    both = bytearray(40_000)

    assert change(both, both).run().result() == (7, 7)


def test_the_value_of_a_task_that_succeeded_is_there_although_another_failed() -> None:
    @task
    def bad() -> int:
        raise ValueError("no")

    run = dagnb.run(bad(), same(5), on_error="continue")
    with pytest.raises(TaskFailedError):
        run.result()

    assert run.value("same-0") == 5
    with pytest.raises(
        KeyError, match="has no value of 'bad-0'; done of what was asked for: same-0"
    ):
        run.value("bad-0")


def test_a_value_that_was_not_asked_for_is_not_kept_and_the_error_says_how_to_keep_it() -> None:
    run = dagnb.run(same(divide(4, 2)), on_error="continue")
    run.result()

    assert run.status == {"done": 2}
    with pytest.raises(
        KeyError,
        match=r"only values of what was asked for are kept, so give its node to dagnb\.run",
    ):
        run.value("divide-0")


def test_a_task_may_be_called_like_its_function_where_that_is_called_once() -> None:
    run = dagnb.run(same([divide(4, 2), divide(9, 3)]))
    assert run.result() == [2, 3]

    assert (run.value("same"), run.value(" same-0 ")) == ([2, 3], [2, 3])
    assert run.why("same") == "'same-0' is done."
    assert run.log("same") == ""
    for ask in (run.value, run.why, run.log):
        with pytest.raises(AmbiguousNameError, match="'divide' is called 2 times") as caught:
            ask("divide")
        assert caught.value.candidates == ("divide-0", "divide-1")
        with pytest.raises(AmbiguousNameError, match="an empty name means no task"):
            ask(" ")


def test_results_are_refused_when_their_description_was_changed() -> None:
    run = dagnb.run(same("a"), same("b"))
    run.result()
    chosen = session.settings(workers="inline")
    store, _ = session.wait(session.store_for(chosen, chosen.launcher()))
    machine = store._stored(run.id).machine  # type: ignore[attr-defined]  # the memory store's own
    told = json.loads(machine.submission.meta)
    told["sinks"].reverse()
    machine.submission = replace(machine.submission, meta=json.dumps(told))

    with pytest.raises(SignatureError, match="story:"):
        dagnb.attach(run.id).result()


# ---- runs of another Python ----


def redescribe(run: Run[Any], python: str | None) -> None:
    """Sign the run's description anew, as written by that Python; None: by a release without it."""
    machine = memory()._runs[run.id].machine  # type: ignore[attr-defined]  # no other interpreter shares this store
    told = json.loads(machine.submission.meta)
    del told["seal"], told["python"]
    if python is not None:
        told["python"] = python
    text = json.dumps(told).encode()
    mac = Signer(session.key_for(memory())).seal(f"story:{run.id}", text)[: -len(text)]
    machine.submission = replace(machine.submission, meta=json.dumps({**told, "seal": mac.hex()}))


@task
def make_evil() -> Any:
    """Returns an object that notes when it is unpickled."""
    return Evil()


OTHER = "CPython 3.7"
BOTH_VERSIONS = f"made with {OTHER}, but this side has {python_version()}"


@pytest.mark.parametrize("read", [lambda run: run.result(), lambda run: run.value("make_evil-0")])
def test_values_that_another_python_made_are_refused_before_they_are_unpickled(
    read: Callable[[Run[Any]], Any],
) -> None:
    unpickled.clear()
    run = make_evil().run()
    await_that(lambda: run.done, "the run is over")

    redescribe(run, OTHER)
    with pytest.raises(VersionMismatchError, match=BOTH_VERSIONS):
        read(dagnb.attach(run.id))
    assert unpickled == []

    for same_or_unknown in (python_version(), None):
        redescribe(run, same_or_unknown)
        read(dagnb.attach(run.id))
    assert unpickled == ["the evil bytes"] * 2


def test_waiting_for_a_run_of_another_python_is_refused_while_it_goes_on() -> None:
    run = hold("a").run()
    under_way("a")
    redescribe(run, OTHER)
    attached = dagnb.attach(run.id)

    with pytest.raises(VersionMismatchError, match=BOTH_VERSIONS):
        attached.result(LIMIT_S)

    assert attached.status == {"running": 1}  # it can be looked at, and cancelled
    assert attached.cancel()


def test_a_forged_python_version_is_refused_as_any_forged_description() -> None:
    run = same(1).run()
    run.result()
    machine = memory()._runs[run.id].machine  # type: ignore[attr-defined]  # an attacker keeps to no interface
    told = json.loads(machine.submission.meta) | {"python": ""}
    machine.submission = replace(machine.submission, meta=json.dumps(told))

    with pytest.raises(SignatureError, match="story:"):
        dagnb.attach(run.id).result()
