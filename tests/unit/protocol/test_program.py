"""From a plan to bytes: what is stored once, what a task weighs, what a signature covers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dagnb.errors import ArgumentChangedError, SignatureError
from dagnb.graph.dag import Dag
from dagnb.graph.identity import identity
from dagnb.graph.payload import Signer, decode_function
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, task
from dagnb.planning.plan import Forecast, Plan, Step, WorkerTerms
from dagnb.planning.planner import Pool
from dagnb.protocol import program
from dagnb.protocol.layout import Kinds, lay_out, submission
from dagnb.protocol.messages import Queue, Record
from dagnb.protocol.program import Body, FunctionLine, Header, Program
from dagnb.protocol.run_description import RunDescription, RunDetails, describe, verify

SIGNER = Signer(b"k" * 32)
MEGABYTE = b"m" * 1_000_000


@task
def same(value: Any = None, *more: Any) -> Any:
    """Its first argument."""
    return value


@task
def collect(values: list[Any]) -> list[Any]:
    """Its argument."""
    return values


def floating(*nodes: Node[Any]) -> Plan:
    dag = Dag.of(*nodes)
    steps = tuple(
        Step(task=i, upstream=call.upstream, priority=i) for i, call in enumerate(dag.calls)
    )
    return Plan(dag=dag, steps=steps, planner="floating")


def built(*nodes: Node[Any]) -> Program:
    return program.build(floating(*nodes), "01RUN", SIGNER, cap=4)


def record(made: Program, position: int) -> Record:
    return Record.unpack(made.submission.records[position])


def body(made: Program, position: int) -> Body:
    found, calls = record(made, position), header(made).calls
    return Body.open(found.body, SIGNER, "01RUN", position, found.upstream, calls)


def header(made: Program) -> Header:
    return Header.unpack(made.contents[made.header])


def chain(n: int) -> Node[Any]:
    node = same(0)
    for _ in range(n - 1):
        node = same(node)
    return node


def spread(n: int) -> Node[Any]:
    """One to n - 2 to one."""
    first = same(0)
    return collect([same(first) for _ in range(n - 2)])


# ---- round trips ----


def test_a_header_reads_back() -> None:
    line = FunctionLine(
        name="f", content="ab", identity="cd", timeout_s=None, backoff_s=0.5, pure=False
    )
    full = Header(functions=(line, line), archive="ef", cells="gh", modules="ij", calls=(b"kl",))

    assert Header.unpack(full.pack()) == full
    assert Header.unpack(Header(functions=()).pack()) == Header(functions=())


def test_a_body_opens_for_its_task_of_its_run_only() -> None:
    made = Body(3, 17, ("ab", "cd"), b"call")
    sealed = made.seal(SIGNER, "01RUN", 5, (1, 2))

    assert Body.open(sealed, SIGNER, "01RUN", 5, (1, 2)) == made
    for run, position, upstream in (
        ("02RUN", 5, (1, 2)),
        ("01RUN", 6, (1, 2)),
        ("01RUN", 5, (2, 1)),
        ("01RUN", 5, ()),
    ):
        with pytest.raises(SignatureError):
            Body.open(sealed, SIGNER, run, position, upstream)
    with pytest.raises(SignatureError):
        Body.open(sealed, Signer(b"o" * 32), "01RUN", 5, (1, 2))


def test_the_bodies_of_two_tasks_cannot_be_swapped() -> None:
    made = built(collect([same(1), same(2)]))

    with pytest.raises(SignatureError, match="call:01RUN:0"):
        Body.open(record(made, 1).body, SIGNER, "01RUN", 0, ())


def test_a_program_holds_all_that_a_worker_needs_to_call() -> None:
    """same-0 -> collect-0 <- same-1"""
    made = built(collect([same(1), same(MEGABYTE)]))

    last = body(made, 2)
    function, retry_on = decode_function(
        made.contents[header(made).functions[last.function].content]
    )
    args, kwargs = last.arguments(["one", "two"], made.contents)

    assert function(*args, **kwargs) == ["one", "two"]
    assert retry_on == (Exception,)
    assert [header(made).functions[body(made, i).function].name for i in range(3)] == [
        "same",
        "same",
        "collect",
    ]
    assert [body(made, i).ordinal for i in range(3)] == [0, 1, 0]
    (name,) = body(made, 1).contents
    assert made.contents[name] == MEGABYTE


def test_every_content_is_stored_under_its_own_name() -> None:
    made = program.build(
        floating(same(MEGABYTE)), "01RUN", SIGNER, cap=1, archive=lambda functions, data: b"zip"
    )

    assert all(SIGNER.content_name(data) == name for name, data in made.contents.items())
    assert made.contents[header(made).archive] == b"zip"
    assert header(built(same())).archive == ""


def test_the_cells_of_all_code_that_travels_are_asked_for_and_stored_as_one_content() -> None:
    cell = (
        "def helper(n):\n    return n\ndef first(n):\n    return helper(n)\nconvert = lambda n: n\n"
    )
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(cell, "<a cell>", "exec"), space)
    exec(compile("key = lambda n: -n", "<another cell>", "exec"), space)
    asked: list[set[str]] = []

    def cells(files: Iterable[str]) -> dict[str, tuple[str, str]]:
        asked.append(set(files))
        return {"<a cell>": ("Cell In[1]", cell)}

    plan = floating(same(task(space["first"])(1), space["key"]))
    made = program.build(plan, "01RUN", SIGNER, cap=1, cells=cells)

    assert asked == [{"<a cell>", "<another cell>", __file__}]
    assert program.unpack_cells(made.contents[header(made).cells]) == {
        "<a cell>": ("Cell In[1]", cell)
    }
    assert header(built(same())).cells == ""


def test_equal_cells_give_equal_bytes_and_any_text_comes_back() -> None:
    cells = {"b": ("Cell In[2]", "x = '\udcff'\n"), "a": ("Cell In[1]", "y = '\u2028'\n")}

    packed = program.pack_cells(cells)

    assert program.unpack_cells(packed) == cells
    assert packed == program.pack_cells(dict(sorted(cells.items())))


def told(plan: Plan, **terms: Any) -> RunDescription:
    ready = program.build(plan, "01RUN", SIGNER, cap=2)
    text = describe(plan, "name", ready, SIGNER, "01RUN", RunDetails(**terms))
    verify(text, SIGNER, "01RUN")
    return RunDescription.read(text)


def test_a_description_tells_the_deadline_under_its_signature() -> None:
    plan = floating(same())

    assert told(plan, deadline_s=2.5).deadline_s == 2.5
    assert told(plan).deadline_s is None


def twice() -> Plan:
    """same-0 is computed on w0 and, once more, on w1; same-1 reads the copy."""
    first = same()
    dag = Dag.of(same(first))
    steps = (
        Step(task=0, worker="w0"),
        Step(task=0, worker="w1", priority=1),
        Step(task=1, upstream=(1,), worker="w1", priority=2),
    )
    return Plan(dag=dag, steps=steps, planner="p")


def test_a_description_says_which_steps_are_copies_and_which_call_each_one_is() -> None:
    description = told(twice())

    assert description.names == ("same-0", "same-0'", "same-1")
    assert description.copy_of == (None, 0, None)
    assert description.ordinals == (0, 0, 1)


def test_copies_and_ordinals_of_an_older_description_follow_from_its_names() -> None:
    description = told(twice())
    older = json.loads(description.meta)
    del older["copy_of"], older["ordinals"]

    assert RunDescription.read(json.dumps(older)) == description


def test_a_description_brings_back_the_plan_and_the_pool() -> None:
    large = Resources(cpus=2.0, memory_mb=512, requirements=("tabulate",), network=True)
    node = same()
    dag = Dag.of(node)
    steps = tuple(
        Step(task=i, upstream=call.upstream, worker=f"w{i % 2}", resources=large, priority=9 - i)
        for i, call in enumerate(dag.calls)
    )
    pool = Pool(cap=3, warm={large: 2}, eager=False, linger_s=0.5)

    description = told(Plan(dag=dag, steps=steps, planner="p"), platform="docker", pool=pool)

    assert description.plan.steps == steps
    assert description.plan.planner == "p"
    assert (description.pool, description.forecast, description.platform) == (pool, None, "docker")
    assert description.codes == tuple(
        identity(dag.nodes[step.task].task.function) for step in steps
    )


def test_a_description_says_which_workers_hold_their_order_for_the_replay() -> None:
    terms = {"w1": WorkerTerms(hold=True), "w0": WorkerTerms()}

    description = told(replace(twice(), workers=terms))

    assert description.holding == ("w1",)
    assert description.plan.workers == {"w1": WorkerTerms(hold=True)}


def test_a_forecast_that_comes_later_is_in_the_json_and_the_seal_is_not() -> None:
    forecast = Forecast(p10_s=1.0, p50_s=2.0, p90_s=3.0, n_scenarios=8, known=0.5)

    before = told(floating(same()))
    after = before.with_forecast(forecast)

    assert after == replace(before, forecast=forecast)
    assert RunDescription.read(after.meta) == after
    with pytest.raises(SignatureError):
        verify(after.meta, SIGNER, "01RUN")


# ---- once ----


def test_a_megabyte_given_to_a_thousand_tasks_is_stored_once() -> None:
    made = built(collect([same(MEGABYTE, i) for i in range(1_000)]))

    assert sum(map(len, made.contents.values())) < len(MEGABYTE) + 5_000
    assert max(map(len, made.submission.records[:1_000])) < 200


def test_equal_constants_in_two_objects_are_stored_once() -> None:
    made = built(
        collect([same(b"m" * 500_000 + b"n" * 500_000), same(b"m" * 500_000 + b"n" * 500_000)])
    )

    assert sum(len(data) > 100_000 for data in made.contents.values()) == 1
    assert body(made, 0).contents == body(made, 1).contents


def test_a_large_constant_within_a_list_is_lifted_too() -> None:
    made = built(same([1, {"deep": MEGABYTE}, MEGABYTE]))

    assert len(record(made, 0).body) < 200
    assert len(body(made, 0).contents) == 1


def test_a_function_is_stored_once_however_often_it_is_called() -> None:
    made = built(chain(50))

    assert [line.name for line in header(made).functions] == ["same"]
    assert len(made.contents) == 2


def test_two_functions_of_one_name_are_both_there() -> None:
    def twin(factor: int) -> Callable[..., Node[Any]]:
        @task
        def scaled(value: int) -> int:
            return factor * value

        return scaled

    made = built(collect([twin(2)(1), twin(3)(1)]))

    lines = [header(made).functions[body(made, i).function] for i in range(2)]
    assert [line.name for line in lines] == ["scaled", "scaled"]
    assert [decode_function(made.contents[line.content])[0](1) for line in lines] == [2, 3]
    assert [body(made, i).ordinal for i in range(2)] == [0, 1]


def has_own_call(made: Program, position: int) -> bool:
    """True if the argument bytes are in the record."""
    return body(made, position).call in record(made, position).body


def test_argument_bytes_of_several_calls_are_in_the_header_and_all_calls_read_them() -> None:
    """same-0 -> same-1, same-2, same-3 -> collect-0; same-4 has other arguments"""
    first = same(0)
    made = built(collect([*(same(first) for _ in range(3)), same(4)]))

    assert header(made).calls == (body(made, 1).call,)
    assert [has_own_call(made, i) for i in range(6)] == [True, True, False, False, True, True]
    for i in range(1, 4):
        assert body(made, i).arguments(["read"], {}) == (("read",), {})


def test_the_header_takes_no_more_argument_bytes_than_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "HEADER_CALL_BYTES", 1_000)
    texts = ["a" * 400, "b" * 400, "c" * 400]

    made = built(collect([same(text) for text in texts * 3]))

    assert len(header(made).calls) == 2
    assert sum(map(len, header(made).calls)) <= 1_000
    for i in range(9):
        assert body(made, i).arguments([], made.contents) == ((texts[i % 3],), {})


def test_a_call_without_arguments_stays_in_its_record() -> None:
    made = built(collect([same(), same()]))

    assert [body(made, i).call for i in range(2)] == [b"", b""]
    assert header(made).calls == ()


@pytest.mark.parametrize("shape", [chain, spread], ids=["chain", "fan-out and fan-in"])
def test_a_task_weighs_at_most_150_bytes_beyond_its_arguments(
    shape: Callable[[int], Node[Any]], summary: list[str]
) -> None:
    made = built(shape(1_000))
    arguments = 0
    for i in range(1_000):
        call = body(made, i).call
        arguments += len(call) if call in record(made, i).body else 0

    n_bytes = (made.n_bytes - arguments) / 1_000

    summary.append(
        f"bytes a task, {shape.__name__} of 1,000: {n_bytes:.0f} "
        f"beyond {arguments / 1_000:.0f} of arguments"
    )
    assert n_bytes <= 150


# ---- links ----


def test_options_of_the_task_reach_the_header_and_the_record() -> None:
    patient = task(retries=3, timeout_s=7.0, backoff_s=0.25, pure=False)(lambda: None)

    made = built(patient())

    (line,) = header(made).functions
    assert (line.name, line.timeout_s, line.backoff_s, line.pure) == ("lambda", 7.0, 0.25, False)
    assert record(made, 0).retries == 3
    assert len(line.identity) == 16


def test_the_same_function_under_other_options_is_another_line() -> None:
    made = built(collect([same(1), same.with_options(timeout_s=3.0)(2)]))

    assert [line.timeout_s for line in header(made).functions] == [None, 3.0, None]


def test_links_say_who_reads_whom_where_and_when() -> None:
    """a -> b, c -> d, with c on w1 and d in a pool of its own"""
    a = same(0)
    dag = Dag.of(collect([same(a), same(a)]))
    steps = (
        Step(task=0, priority=4),
        Step(task=1, upstream=(0,), priority=3),
        Step(task=2, upstream=(0,), worker="w1", priority=2),
        Step(task=3, upstream=(1, 2), resources=Resources(memory_mb=512), priority=1),
    )

    plan = Plan(dag=dag, steps=steps, planner="p")

    made = submission(plan, "r", cap=5, on_error="continue")

    records = [Record.unpack(packed) for packed in made.records]
    assert made.queues == (Queue("~", 5), Queue("w1", 1), Queue("~512mb", 5))
    assert [r.queue for r in records] == [0, 0, 1, 2]
    assert [r.priority for r in records] == [4, 3, 2, 1]
    assert [r.upstream for r in records] == [(), (0,), (0,), (1, 2)]
    assert records[0].edges == ((1, 0, 0, 1, 0, 3), (2, 1, 1, 1, 1, 2))
    assert (records[1].edges, records[2].edges) == (((3, 2, 2, 2, 2, 1),), ((3, 3, 2, 2, 2, 1),))
    assert [r.is_sink for r in records] == [False, False, False, True]
    assert (made.sources, made.sinks, made.n_bits, made.on_error) == ((0,), (3,), 4, "continue")
    assert tuple(map(Record.pack, lay_out(plan, cap=5).records)) == made.records


def test_queues_are_of_the_kind_of_their_resources_when_that_is_asked_for() -> None:
    """a, b, c: in the pool of the default, on w1 with two CPUs, in the pool of 512 MB"""
    dag = Dag.of(collect([same(0), same(1)]))
    large, wide = Resources(memory_mb=512), Resources(cpus=2.0)
    steps = (
        Step(task=0),
        Step(task=1, worker="w1", resources=wide),
        Step(task=2, upstream=(0, 1), resources=large),
    )
    plan = Plan(dag=dag, steps=steps, planner="p")

    made = lay_out(plan, cap=5, kinds=Kinds.RESOURCES)

    assert made.queues == (
        Queue("~", 5, "default"),
        Queue("w1", 1, "2cpu"),
        Queue("~512mb", 5, "512mb"),
    )
    assert [queue.kind for queue in lay_out(plan, cap=5).queues] == ["", "", ""]


# ---- arrays in shared memory ----


class Memory:
    """Takes the first arrays, as many as it has room for."""

    def __init__(self, n_rooms: int = 10) -> None:
        self.n_rooms = n_rooms
        self.written: dict[str, bytes] = {}

    def write(self, memory: memoryview) -> str:
        if len(self.written) == self.n_rooms:
            return ""
        name = f"array {len(self.written)}"
        self.written[name] = bytes(memory)
        return name


def shared(memory: Memory, *nodes: Node[Any]) -> Program:
    return program.build(
        floating(collect(list(nodes))), "01RUN", SIGNER, cap=4, write_array=memory.write
    )


def test_an_array_in_shared_memory_is_written_once_and_no_content() -> None:
    """Each pickle of a data frame shows the same memory as another object."""
    zeros, ones, memory = np.zeros(100_000), np.ones(100_000), Memory()
    views = [zeros, zeros, zeros[:], zeros.copy(), ones, [ones]]

    made = shared(memory, *[same(view) for view in views])

    assert list(memory.written.values()) == [zeros.tobytes(), ones.tobytes()]
    assert max(map(len, made.contents.values())) < 10_000
    names = [body(made, position).contents for position in range(6)]
    assert names == [("array 0",)] * 4 + [("array 1",)] * 2
    (args, _) = body(made, 4).arguments([], memory.written)
    np.testing.assert_array_equal(args[0], ones)


def test_an_array_without_room_and_what_is_no_array_are_contents() -> None:
    memory = Memory(n_rooms=1)
    arrays = [np.zeros(100_000), np.ones(100_000)]

    made = shared(memory, *[same(array, MEGABYTE) for array in arrays])

    (first, text), (second, same_text) = (body(made, position).contents for position in range(2))
    assert (list(memory.written.values()), first) == ([arrays[0].tobytes()], "array 0")
    assert made.contents[second] == arrays[1].tobytes()
    assert made.contents[text] == made.contents[same_text] == MEGABYTE


def test_a_change_while_the_array_is_written_is_noticed() -> None:
    array = np.zeros(100_000)

    class Slow(Memory):
        def write(self, memory: memoryview) -> str:
            name = super().write(memory)
            array[99_999] = 1
            return name

    with pytest.raises(ArgumentChangedError, match="same-0"):
        shared(Slow(), same(array))


def test_arrays_with_one_checksum_and_different_bytes_are_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagnb.graph.pickling.packing.checksum", lambda data: 1)
    memory, last = Memory(), np.zeros(100_000)
    last[-1] = 1

    made = shared(memory, same(np.zeros(100_000)), same(last))

    assert [body(made, position).contents for position in range(2)] == [("array 0",), ("array 1",)]
    assert memory.written["array 1"] == last.tobytes()


# ---- refusals ----


def test_a_large_array_that_was_changed_since_the_call_is_named_with_its_task() -> None:
    array = np.zeros(100_000)
    nodes = [same(1), same({"x": array})]
    array[50_000] = 1

    with pytest.raises(ArgumentChangedError) as caught:
        built(collect(nodes))

    assert (caught.value.task, caught.value.argument, caught.value.kind) == (
        "same-1",
        "value",
        "dict",
    )
    assert "was changed in place after the call" in str(caught.value)


def test_many_small_arguments_that_are_large_together_are_a_content_of_their_call() -> None:
    node = collect(
        [same(str(i) * 10) for i in range(2)] + ["x" * 1_000 + str(i) for i in range(400)]
    )
    made = built(node)

    last = body(made, 2)
    (values,), _ = last.arguments(["one", "two"], made.contents)

    assert len(record(made, 2).body) < 300
    assert values[:2] == ["one", "two"]
    assert values[-1] == "x" * 1_000 + "399"


def test_a_large_array_that_many_calls_take_is_stored_once_and_not_pickled() -> None:
    array = np.arange(100_000.0)
    made = built(collect([same([i, array]) for i in range(20)]))

    large = [data for data in made.contents.values() if len(data) > 100_000]
    assert large == [array.tobytes()]
    assert max(len(body(made, i).call) for i in range(20)) < 300


def test_modules_are_looked_for_in_what_is_pickled_and_not_in_the_users_memory() -> None:
    memory = np.frombuffer(b"module_of_chance" * 10_000, dtype=np.uint8).copy()
    text = "module_of_text" * 10_000
    asked: list[tuple[list[bytes], list[bytes]]] = []

    def archive(functions: Collection[bytes], data: Collection[bytes]) -> bytes:
        asked.append((list(functions), list(data)))
        return b""

    program.build(
        floating(same(memory), same(text), same(text)), "01RUN", SIGNER, cap=1, archive=archive
    )

    ((functions, data),) = asked
    assert len(functions) == 1
    assert sum(b"module_of_text" in pickled for pickled in data) == 1
    assert not any(b"module_of_chance" in pickled for pickled in (*functions, *data))
    assert functions[0] not in data
