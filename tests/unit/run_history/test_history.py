"""The history.

One file that survives kills and restarts, stays small, and is not missed when it is broken.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dagnb
from dagnb import task
from dagnb.errors import HistoryError, RunMissingError
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.planning.planner import Costs, Pool, StartCost
from dagnb.protocol.messages import RunState
from dagnb.run_history import history as module
from dagnb.run_history.history import History
from dagnb.run_history.platform_act import import_acts
from dagnb.trace.trace import Phase, Span, Trace
from tests import graphs
from tests.unit.forecast.past_runs import description_of, floating, lived, remember

COSTS = Costs(default_run_s=1.0, default_output_bytes=50_000)
POOL = Pool(cap=2)
NAMES = ["t0", "t1", "t2"]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite")


def keep(
    history: History, run: str, dag: Dag | None = None, *, code: str = "code", at: float = 1e9
) -> bool:
    """A chain of three functions, or another DAG; keys are those of positions."""
    plan = floating(dag or graphs.chain(3))
    n = len(plan.steps)
    description = description_of(
        plan, codes=[f"{code}{i}" for i in range(n)], keys=[f"k{i}" for i in range(n)]
    )
    return history.record(run, description, RunState.OK, lived(plan, COSTS, POOL, at))


# ---- what is kept ----


def test_a_run_is_read_back_as_it_was(history: History) -> None:
    plan = floating(graphs.chain(3))
    trace = remember(history, "r1", plan, COSTS, POOL, codes="abc", keys="xyz")

    description, read = History(history.path).run("r1")

    assert read == trace
    assert description == description_of(plan, codes="abc", keys="xyz")
    (kept,) = history.runs()
    assert (kept.run, kept.state, kept.n_steps, kept.platform) == ("r1", "ok", 3, "here")
    assert kept.makespan_s == pytest.approx(trace.makespan_s)


def test_samples_come_run_by_run_oldest_first_and_only_what_is_new(history: History) -> None:
    for i in range(3):
        keep(history, f"r{i}", at=1e9 + i)

    runs, last = history.samples(NAMES)
    keep(history, "r9", at=2e9)
    new, _ = history.samples(NAMES, last)

    ends = [run.samples[0].ended_at for run in runs]
    assert [(run.run, len(run.samples)) for run in runs] == [("r0", 3), ("r1", 3), ("r2", 3)]
    assert ends == sorted(set(ends))
    assert [run.number for run in runs] == sorted({run.number for run in runs})
    assert [(s.name, s.function, s.key, s.run_s, s.output_bytes) for s in new[0].samples] == [
        (f"t{i}", f"code{i}", f"k{i}", pytest.approx(1.0), 50_000) for i in range(3)
    ]
    assert history.samples(["t1"])[0][0].samples[0].name == "t1"
    assert history.samples([]) == ([], 0)


def test_acts_are_listed_by_platform(history: History) -> None:
    keep(history, "r1")

    result = history.acts("here")[0]

    assert {act.phase for act in result} >= {
        Phase.INVOKE,
        Phase.STORE,
        Phase.COMMIT,
        Phase.SUBMIT,
        Phase.RETURN,
    }
    assert {act.n_bytes for act in result if act.phase is Phase.STORE} == {50_000}
    assert [a.seconds for a in result if a.phase is Phase.STORE] == pytest.approx(
        [COSTS.store.of(50_000)] * 3, rel=1e-3
    )
    assert {act.resources for act in result} == {Resources()}
    assert history.acts("elsewhere") == ([], 0)


def importing(history: History, run: str, *seconds: float) -> Trace:
    """A chain whose functions import for so many seconds, on two workers; returns its trace."""
    costs = COSTS.with_(import_s={i: s for i, s in enumerate(seconds) if s})
    return remember(history, run, floating(graphs.chain(3)), costs, POOL, codes="abc", keys="xyz")


def imports(history: History) -> list[tuple[str, float]]:
    """Returns functions and seconds, the newest first."""
    acts = history.acts("here")[0]
    return [(act.imports_for, round(act.seconds, 6)) for act in acts if act.imports_for]


def test_imports_are_kept_by_function_and_are_no_part_of_samples(history: History) -> None:
    importing(history, "r1", 2.0, 0.0, 0.5)

    (kept,), _ = history.samples(NAMES)
    tasks = kept.samples
    assert imports(history) == [("c", 0.5), ("b", 0.0), ("a", 2.0)]
    assert [sample.run_s for sample in tasks] == pytest.approx([1.0] * 3)


def test_a_run_that_imports_nothing_says_nothing_about_imports(history: History) -> None:
    importing(history, "r1", 0.0, 0.0, 0.0)

    assert imports(history) == []


def test_imports_of_a_function_are_the_mean_of_the_workers_that_called_it() -> None:
    """f runs on two workers, of which g was the first to import on one; h imports nothing."""
    spans = [
        Span(0, "w0", Phase.IMPORT, 0.0, 3.0),
        Span(0, "w0", Phase.RUN, 3.0, 4.0),
        Span(3, "w0", Phase.RUN, 4.0, 5.0),
        Span(1, "w1", Phase.IMPORT, 0.0, 3.5),
        Span(1, "w1", Phase.RUN, 3.5, 4.0),
        Span(2, "w1", Phase.RUN, 4.0, 5.0),
        Span(-1, "w1", Phase.IMPORT, -1.0, 0.0, detail="cold"),
    ]
    trace = Trace.of(spans, ["f-0", "g-0", "f-1", "h-0"], submitted_s=0.0, finished_s=5.0)

    acts = import_acts(trace, ["f", "g", "f", "h"])

    assert [(act.imports_for, act.seconds) for act in acts] == [("f", 1.5), ("g", 3.5), ("h", 0.0)]
    assert list(import_acts(trace, [])) == []


def test_imports_are_bounded_over_all_functions_and_apart_from_those_of_starts(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACTS", 4)
    plan = floating(graphs.chain(3))
    costs = COSTS.with_(import_s={0: 2.0}, cold=StartCost(invoke_s=1.0, import_s=0.25))

    for i in range(3):
        remember(history, f"r{i}", plan, costs, POOL, codes=[f"{i}{j}" for j in range(3)])

    acts = history.acts("here")[0]
    assert [name for name, _ in imports(history)] == ["22", "21", "20", "12"]
    assert {act.detail for act in acts if act.phase is Phase.IMPORT} == {
        *("22", "21", "20", "12", "cold")
    }


def test_acts_already_read_are_not_listed_again(history: History) -> None:
    keep(history, "r1")
    all_of_one, last = history.acts("here")
    keep(history, "r2")

    new, end = history.acts("here", last)

    assert len(new) == len(all_of_one)
    assert history.acts("here") == ([*new, *all_of_one], end)
    assert history.acts("here", end) == ([], end)


def test_changed_code_keeps_its_history_by_name(history: History) -> None:
    keep(history, "r1", code="old")
    keep(history, "r2", code="new")

    runs, _ = history.samples(["t0"])

    assert [run.samples[0].function for run in runs] == ["old0", "new0"]
    assert history.functions() == [("t0", 2), ("t1", 2), ("t2", 2)]


def test_forgetting_leaves_nothing(history: History) -> None:
    keep(history, "r1")

    history.forget()

    assert (
        history.runs(),
        history.samples(NAMES)[0],
        history.acts("here")[0],
        history.functions(),
    ) == ([], [], [], [])
    with pytest.raises(RunMissingError):
        history.run("r1")
    assert keep(history, "r1")


# ---- writers ----


def test_who_comes_second_adds_nothing(history: History) -> None:
    assert keep(history, "r1")
    before = (history.runs(), history.samples(NAMES), history.acts("here")[0])

    assert not keep(history, "r1", at=2e9)

    assert (history.runs(), history.samples(NAMES), history.acts("here")[0]) == before
    assert history.knows("r1")
    assert not history.knows("r2")


_WRITER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from dagnb.run_history.history import History
from dagnb.run_history.platform_act import import_acts
from tests.unit.run_history.test_history import keep
history = History(Path({path!r}))
sys.stdin.readline()
n = 0
for i in range({n}):
    n += keep(history, f"{prefix}{{i}}")
    print(n, flush=True)
"""


def writer(history: History, prefix: str, n: int) -> subprocess.Popen[str]:
    """A process that keeps so many runs as soon as it is asked to."""
    code = _WRITER.format(paths=sys.path, path=str(history.path), prefix=prefix, n=n)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3], **pipes)  # type: ignore[call-overload,no-any-return]  # pipes are of both kinds


def test_two_processes_write_at_once_and_every_run_is_kept_once(history: History) -> None:
    """Both begin the file, both write runs of the same names."""
    both = [writer(history, "r", 12) for _ in range(2)]

    outputs = [process.communicate("go\n", timeout=120)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(text.split()[-1]) for text in outputs) == 12
    assert {kept.run for kept in history.runs()} == {f"r{i}" for i in range(12)}
    assert [len(run.samples) for run in history.samples(NAMES)[0]] == [3] * 12


def test_a_kill_in_the_middle_of_writing_leaves_a_readable_file(history: History) -> None:
    process = writer(history, "r", 10_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    numbers = [int(process.stdout.readline()) for _ in range(5)]

    os.kill(process.pid, signal.SIGKILL)
    rest = (
        process.stdout.read()
    )  # communicate would miss the lines that readline has in its buffer already
    process.communicate()

    n = len(numbers) + rest.count("\n")
    kept = {line.run for line in history.runs(10_000)}
    assert kept >= {f"r{i}" for i in range(n)}
    assert len(kept) <= n + 1  # the last may have been kept and not printed
    assert [len(run.samples) for run in history.samples(NAMES)[0]] == [3] * len(kept)
    assert keep(history, "next")


# ---- bounds ----


def test_the_oldest_runs_go_first(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", 3)

    for i in (4, 0, 3, 1, 2):
        keep(history, f"r{i}", at=1e9 + i)

    assert [kept.run for kept in history.runs()] == ["r4", "r3", "r2"]
    assert len(history.samples(NAMES)[0]) == 5  # they have bounds of their own


def test_large_runs_are_kept_as_far_as_there_is_room_and_the_newest_in_any_case(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        keep(history, f"r{i}", at=1e9 + i)
    with contextlib.closing(sqlite3.connect(history.path)) as db:
        (one,) = db.execute("select max(length(trace) + length(story)) from runs").fetchone()

    monkeypatch.setattr(module, "RUN_BYTES", 3 * one)
    keep(history, "r4", at=1e9 + 4)
    several = [kept.run for kept in history.runs()]
    monkeypatch.setattr(module, "RUN_BYTES", 1)
    keep(history, "r5", at=1e9 + 5)

    assert several == ["r4", "r3", "r2"]
    assert [kept.run for kept in history.runs()] == ["r5"]


def test_samples_and_acts_are_bounded_for_each_function_and_each_kind(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 4)
    monkeypatch.setattr(module, "ACTS", 5)

    for i in range(9):
        keep(history, f"r{i}", at=1e9 + i)

    assert history.functions() == [("t0", 4), ("t1", 4), ("t2", 4)]
    assert [run.samples[0].ended_at > 1e9 + 4 for run in history.samples(["t1"])[0]] == [True] * 4
    kinds = [act.phase for act in history.acts("here")[0]]
    assert {phase: kinds.count(phase) for phase in kinds} == dict.fromkeys(kinds, 5)


def test_a_run_larger_than_the_bounds_leaves_its_newest_samples_and_acts(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 5)
    monkeypatch.setattr(module, "ACTS", 3)
    names = [f"t{i}" for i in range(12)]
    edges = itertools.pairwise(names)
    plan = floating(Dag.from_edges(names, edges, functions=["step"] * 12))
    description = description_of(plan, codes=["code"] * 12)
    trace = lived(plan, COSTS, POOL)
    ends = sorted(span.end_s for span in trace.spans if span.phase is Phase.DUMP)

    history.record("large", description, RunState.OK, trace)

    (kept,), _ = history.samples(["step"])
    assert [sample.ended_at for sample in kept.samples] == ends[-5:]
    commits = [span.duration_s for span in trace.spans if span.phase is Phase.COMMIT]
    newest = [act.seconds for act in history.acts("here")[0] if act.phase is Phase.COMMIT]
    assert newest == commits[:-4:-1]


# ---- what goes wrong ----


def test_only_its_user_may_read_it(history: History) -> None:
    keep(history, "r1")

    with history._open() as db:
        db.execute("delete from acts")
        modes = {path.name: path.stat().st_mode & 0o777 for path in history.path.parent.iterdir()}

    assert modes[history.path.name] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_file_of_a_later_version_is_left_alone(history: History) -> None:
    keep(history, "r1")
    with contextlib.closing(sqlite3.connect(history.path)) as db:
        db.execute("pragma user_version = 99")

    with pytest.raises(HistoryError, match=r"later dagnb \(its version 99.*Upgrade dagnb"):
        keep(history, "r2")


def test_a_file_from_before_the_first_release_begins_anew(history: History) -> None:
    keep(history, "r1")
    with contextlib.closing(sqlite3.connect(history.path)) as db:
        db.execute("pragma user_version = 1")

    assert keep(history, "r2")

    assert [kept.run for kept in history.runs()] == ["r2"]


def test_a_directory_that_cannot_be_written_is_an_error_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HistoryError, match="Runs go on without it"):
        keep(History(tmp_path / "file" / "history.sqlite"), "r1")

    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if not os.access(closed, os.W_OK):
        with pytest.raises(HistoryError, match="Runs go on without it"):
            keep(History(closed / "history.sqlite"), "r1")


@task
def doubled(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("content", [b"damaged", b""])
def test_runs_go_on_and_a_damaged_file_is_set_aside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    path = History().path
    path.write_bytes(content)

    assert dagnb.run(doubled(21), workers="inline", store="memory://").result() == 42

    assert dagnb.plan(doubled(21), workers="inline").steps
    assert caplog.text.count("was damaged") == bool(content)
    assert path.read_bytes()[:7] == b"SQLite "
    assert [kept.read_bytes() for kept in path.parent.glob("*.damaged-*")] == [content] * bool(
        content
    )


@pytest.mark.parametrize("n", [100, 10_000])
def test_what_keeping_a_run_costs(history: History, n: int, summary: list[str]) -> None:
    plan = floating(graphs.wide(n - 2))
    description = description_of(
        plan, codes=[f"c{i % 5}" for i in range(n)], keys=[f"{i:08x}" for i in range(n)]
    )
    trace = lived(plan, COSTS, Pool(cap=4))

    began = time.process_time()
    history.record("r1", description, RunState.OK, trace)
    spent = time.process_time() - began

    summary.append(
        f"keeping a run of {n} tasks: {spent:.3f} s of the processor,"
        f" {history.path.stat().st_size} bytes"
    )
    assert history.run("r1")[1] == trace
