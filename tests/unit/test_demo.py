"""The demo: its tasks against Python's own tokenizer, and the whole of it on a few sources."""

from __future__ import annotations

import io
import keyword
import threading
import tokenize
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from dagnb_workers.launchers.inline import Inline

from dagnb import session, task
from dagnb.cli import main
from dagnb.demo import identifiers, job
from dagnb.demo.identifiers import chunks, count_identifiers, library_sources, merge, merged, top
from dagnb.demo.job import Choice, run_demo
from dagnb.demo.worker_log import MOST, WorkerWatcher, slots_text, starts_text
from dagnb.graph.dag import Dag
from dagnb.protocol.launcher import WorkerSlot
from dagnb.trace.trace import Phase, Span, Trace

PATIENCE_S = 20


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(session.STORE_VARIABLE, raising=False)


def names_by_tokenizer(text: str) -> Counter[str]:
    """Names outside of strings, f-strings included, as Python's tokenizer sees them."""
    counts: Counter[str] = Counter()
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        depth += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        if kind == "NAME" and depth == 0 and not keyword.iskeyword(token.string):
            counts[token.string] += 1
    return counts


def test_counts_are_those_of_pythons_tokenizer_on_its_own_library() -> None:
    texts = library_sources()[::24]

    assert len(texts) > 25
    for text in texts:
        assert count_identifiers.function([text]) == names_by_tokenizer(text)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = b'x' + rb\"y\" + Rb'''z''' # c", {"a": 1}),
        ("a = 'it\\'s' + \"b\\\\\" + c", {"a": 1, "c": 1}),
        ("'''d \" ' \\''' e''' + f", {"f": 1}),
        ('"""d""" + g + """h\n"""', {"g": 1}),
        ("0xFF + 1e5 + 1.e5 + 10j + n", {"n": 1}),
        ("if x: return None", {"x": 1}),
        ("größe = größe + _1", {"größe": 2, "_1": 1}),
        ("'a\\\nb' + c", {"c": 1}),
    ],
)
def test_strings_comments_numbers_and_keywords_hold_no_names(
    source: str, names: dict[str, int]
) -> None:
    assert count_identifiers.function([source]) == names


def test_counts_of_parts_merge_to_the_count_of_the_whole() -> None:
    texts = ["a b", "b c", "c c"]
    parts = [count_identifiers.function([text]) for text in texts]

    assert merge.function(parts) == count_identifiers.function(texts)


def test_equal_counts_are_ordered_by_alphabet() -> None:
    assert top.function(Counter(c=1, b=2, a=1), 2) == [("b", 2), ("a", 1)]


def test_chunks_hold_every_text_once_in_about_equal_parts() -> None:
    texts = ["x" * n for n in range(1, 200)]

    lists = chunks(texts, 7)

    assert sorted(len(text) for part in lists for text in part) == list(range(1, 200))
    sizes = [sum(map(len, part)) for part in lists]
    assert max(sizes) - min(sizes) < 10


def test_fewer_texts_than_chunks_give_no_empty_chunk() -> None:
    assert chunks(["a", "bb"], 7) == [["bb"], ["a"]]


def test_the_tree_of_merges_reads_every_count_once_with_a_limited_fan_in() -> None:
    """28 counts -> 7 merges -> 2 merges -> 1 merge."""
    dag = Dag.of(merged([count_identifiers([]) for _ in range(28)], 4))

    assert [call.function for call in dag.calls].count("merge") == 10
    assert max(len(call.upstream) for call in dag.calls) == 4
    assert sorted(u for call in dag.calls for u in call.upstream) == list(range(len(dag) - 1))


def test_sources_are_the_librarys_own_and_can_be_limited() -> None:
    some = library_sources(300_000)

    assert 300_000 <= sum(len(text.encode()) for text in some) < 2_000_000
    assert some == library_sources()[: len(some)]


def test_the_demo_counts_as_one_process_does_and_leaves_a_report(tmp_path: Path) -> None:
    out, said = tmp_path / "out", io.StringIO()

    assert run_demo(Choice(workers="inline", limit_mb=0.3, out=out), said)

    alone = count_identifiers.function(library_sources(300_000))
    text = said.getvalue()
    assert f"EQUAL: all {len(alone):,} identifiers, {alone.total():,} occurrences." in text
    assert f"  {top.function(alone, 1)[0][0]} " in text
    assert "took part: worker 1 ran " in text
    assert "\nStarts: " in text
    assert "\nAfter the run: 0 processes still running.\n" in text
    assert (out / "report.html").as_uri() in text
    assert "count_identifiers" in (out / "report.html").read_text(encoding="utf-8")
    assert "top-0" in Trace.from_json((out / "trace.json").read_text(encoding="utf-8")).names


def test_a_run_that_loses_a_part_is_found_out_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        job, "merged", lambda counts, fan_in: identifiers.merged(counts[1:], fan_in)
    )

    code = main(["demo", "--workers", "inline", "--limit-mb", "0.3", "--out", str(tmp_path)])

    assert code == 1
    assert "DIFFERENT: the run counted " in capsys.readouterr().out


# ---- where the workers were ----


class Gate:
    """For tasks to wait at. A class, because it is pickled by name: its event stays this one."""

    opened = threading.Event()


@task
def wait_at_the_gate() -> bool:
    return Gate.opened.wait(PATIENCE_S)


@dataclass(frozen=True, kw_only=True)
class Boxed(Inline):
    """Inline workers, listed as containers would be; tells whenever it was asked for them."""

    name: ClassVar[str] = "boxed"
    asked: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    async def seats(self) -> tuple[WorkerSlot, ...]:
        Boxed.asked.release()
        inline = await super().seats()
        return tuple(
            replace(seat, what="container", labels=(("dagnb.run", seat.run),)) for seat in inline
        )


def test_the_watcher_notes_the_slots_of_a_run_and_sees_them_leave() -> None:
    Gate.opened.clear()
    run = wait_at_the_gate().run(workers=Boxed())

    with WorkerWatcher(run.id, Boxed()) as watcher:
        # When it asks again, it has noted the answer to its first question.
        for _ in range(2):
            assert Boxed.asked.acquire(timeout=PATIENCE_S)
        Gate.opened.set()
        assert run.result(PATIENCE_S)

    (seat,) = watcher.slots
    assert slots_text(watcher.slots) == [
        "The run used 1 container:",
        f"  {seat.name}  dagnb.run={run.id}",
    ]
    assert watcher.remaining_text() == "After the run: 0 containers still running."


@dataclass(frozen=True, kw_only=True)
class Warm(Inline):
    """Lists two idle slots: one served this run last, the other one another run."""

    name: ClassVar[str] = "warm"
    run: str

    async def seats(self) -> tuple[WorkerSlot, ...]:
        idle = WorkerSlot(
            name="box-1", platform=self.name, state="idle", what="container", last_run=self.run
        )
        return idle, replace(idle, name="box-2", last_run="another")


def test_a_watcher_that_polls_too_late_still_finds_the_slots_of_the_run() -> None:
    with WorkerWatcher("this", Warm(run="this")) as watcher:
        pass

    assert [seat.name for seat in watcher.slots] == ["box-1"]
    assert (
        watcher.remaining_text()
        == "After the run: 0 containers still running, 2 idle and ready for the next run."
    )


def test_seats_without_labels_are_not_listed_and_of_many_the_first() -> None:
    plain = WorkerSlot(name="pid 1", platform="process", state="lent")
    boxes = [
        replace(plain, name=f"b{n}\x1b[2J", what="container", labels=(("run", "1"),))
        for n in range(MOST + 2)
    ]

    assert slots_text([plain]) == []
    head, first, *_, last = slots_text(boxes)
    assert head == "The run used 10 containers:"
    assert first == "  b0  run=1"
    assert last == "  and 3 more"


def test_starts_are_told_with_their_phases_the_cold_and_the_warm() -> None:
    """~/1 starts cold in phases, leaves, and starts warm; ~/2 is forked."""
    cold = [
        Span(-1, "~/1", phase, begin, end, detail="cold")
        for phase, begin, end in (
            (Phase.INVOKE, 0.0, 0.1),
            (Phase.CREATE, 0.1, 0.6),
            (Phase.BOOT, 0.6, 0.7),
            (Phase.REGISTER, 0.7, 0.72),
            (Phase.REGISTER, 0.74, 0.8),
        )
    ]
    later = [
        Span(-1, "~/1", Phase.INVOKE, 2.0, 2.01, detail="warm"),
        Span(-1, "~/2", Phase.INVOKE, 0.2, 0.3),
    ]
    trace = Trace.of(
        [
            *later,
            *cold,
            Span(-1, "~/1", Phase.PROGRAM, 0.72, 0.74),
            Span(0, "~/1", Phase.RUN, 1.0, 2.0),
        ],
        ["a"],
        submitted_s=0.0,
        finished_s=3.0,
    )

    assert starts_text(trace) == [
        "Starts: 1 cold, 2 warm.",
        "  worker 1 cold, 800 ms: invoke 100 ms, create 500 ms, boot 100 ms, register 80 ms",
        "  worker 2 warm, 100 ms",
        "  worker 1 warm, 10 ms",
    ]
