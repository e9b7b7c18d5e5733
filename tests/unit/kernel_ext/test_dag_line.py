"""`%dag`: one question or order a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dagnb_kernel_ext import commands
from dagnb_workers.launchers.inline import Inline
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

import dagnb
from dagnb import registry, session
from dagnb.doctor import in_force
from dagnb.errors import AmbiguousNameError
from dagnb.protocol.launcher import WorkerSlot
from tests.unit.kernel_ext.conftest import Cells

DOUBLE = "def double(n):\n    return 2 * n\n"
BROKEN = "def broken():\n    raise ValueError('no rows')\nbroken()"


def test_run_gives_the_value_of_a_node_which_stays_a_node(cells: Cells) -> None:
    cells.run(f"%%dag node --plan\n{DOUBLE}double(4)")

    assert cells.run("%dag run node") == 8
    assert isinstance(cells["node"], dagnb.graph.task.Node)


def test_run_repeats_the_cell_of_that_name_and_binds_it_again(cells: Cells) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    cells.run("value = None")

    assert cells.run("%dag run value") == 8
    assert cells["value"] == 8


def test_runs_status_why_and_errors_tell_of_the_latest_run(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    cells.attempt(f"%%dag failing\n{BROKEN}")
    capsys.readouterr()

    cells.run("%dag status")
    assert "failed: 0 of 1 task done, 1 failed" in capsys.readouterr().out
    cells.run("%dag errors")
    assert "ValueError: no rows" in capsys.readouterr().out
    cells.run("%dag why broken-0")
    assert "failed for good" in capsys.readouterr().out
    cells.run("%dag why")
    assert "failed attempts" in capsys.readouterr().out
    cells.run("%dag status value")
    assert "ok: 1 of 1 task done" in capsys.readouterr().out
    cells.run("%dag runs")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines[:3]] == [
        ["name", "state"],
        ["failing", "failed"],
        ["value", "ok"],
    ]
    assert lines[0].endswith("results  code and inputs  shared with other runs  records")
    assert lines[-1].startswith("The store uses ")


def test_a_run_may_be_named_by_a_variable_an_id_or_its_beginning(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(f"%%dag run --detach\n{DOUBLE}double(4)")
    cells["run"].result(timeout_s=10)
    for name in ("run", cells["run"].id, cells["run"].id[:25].lower()):
        cells.run(f"%dag status {name}")
        assert f"run {cells['run'].id} ok" in capsys.readouterr().out


def test_a_run_is_found_in_every_way_by_every_subcommand(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {
        "status": "ok: 1 of 1 task done",
        "errors": "No errors",
        "log double": "no output of task 'double-0'",
        "why double": "'double-0' is done",
        "cancel": "was over already (ok)",
        "forget": "is forgotten",
    }
    for command, told in wanted.items():
        for way in ("name", "id", "beginning", "last"):
            name = f"{command.replace(' ', '_')}_by_{way}"
            cells.run(f"%%dag {name}\n{DOUBLE}double(4)")
            run = dagnb.runs()[0].run
            text = {
                "name": f"' {name} '",
                "id": run.lower(),
                "beginning": run[:24],
                "last": "Last",
            }[way]
            capsys.readouterr()

            cells.run(f"%dag {command} {text}")

            assert told in capsys.readouterr().out, (command, way)


@pytest.mark.parametrize(
    "command", ["status", "errors", "log double", "why double", "cancel", "attach", "forget"]
)
@pytest.mark.parametrize("text", ["''", "'  '"])
def test_an_empty_name_is_no_run_and_nothing_is_done(cells: Cells, command: str, text: str) -> None:
    cells.run(f"%%dag kept --detach\n{DOUBLE}double(4)")
    cells["kept"].result(timeout_s=10)

    error = cells.attempt(f"%dag {command} {text}").error_in_exec

    assert isinstance(error, UsageError)
    assert isinstance(error.__cause__, AmbiguousNameError)
    assert "an empty name means no run" in str(error)
    assert cells["kept"].id in str(error)
    assert cells["kept"].state == "ok"


def test_a_name_of_several_runs_is_the_newest_to_look_at_and_none_to_forget(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        cells.run(f"%%dag repeated\n{DOUBLE}double({number})")
    newer, older = (line.run for line in dagnb.runs() if line.name == "repeated")
    capsys.readouterr()

    cells.run("%dag status repeated")
    printed = capsys.readouterr()
    assert f"run {newer} ok" in printed.out
    assert f"2 runs are named 'repeated'. The newest is taken: {newer}" in printed.err

    error = cells.attempt("%dag forget repeated").error_in_exec
    assert isinstance(error, UsageError)
    assert {line.split()[0] for line in str(error).splitlines()[1:3]} == {newer, older}
    assert {newer, older} <= {line.run for line in dagnb.runs()}


def test_names_that_are_offered_are_names_that_are_found(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run("import dagnb\nfrom dagnb import task\n@task\ndef double(n): return 2 * n")
    cells.run("dagnb.run(double(1), name='two words').result()")
    for number in (1, 2):
        cells.run(f"%%dag twice\n{DOUBLE}double({number})")

    for command in ("status", "errors", "cancel", "log double", "why double"):
        offered = _completions(cells, f"%dag {command} ")
        assert {"last", "'two words'"} <= set(offered)
        assert ("twice" in offered) == (command != "cancel")
        for name in offered:
            cells.run(f"%dag {command} {name}")
    assert "twice" not in _completions(cells, "%dag forget ")
    cells.run("%dag forget 'two words'")
    assert "'two words'" not in _completions(cells, "%dag status ")


def test_runs_that_were_listed_are_offered(cells: Cells) -> None:
    cells.run(f"%%dag early\n{DOUBLE}double(4)")
    cells.run("%unload_ext dagnb")
    cells.run("%load_ext dagnb")
    assert _completions(cells, "%dag status ear") == []

    cells.run("%dag runs")

    assert _completions(cells, "%dag status ear") == ["early"]


def test_cancel_attach_and_forget(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    cells.run("import time")
    cells.run("%%dag run --detach\ndef slow(n):\n    time.sleep(0.2)\n[slow(n) for n in range(20)]")
    run = cells["run"]

    cells.run("%dag cancel")
    assert "is cancelled" in capsys.readouterr().out
    cells.run("%dag cancel")
    assert "was over already (cancelled)" in capsys.readouterr().out
    found = cells.run(f"found = %dag attach {run.id}") or cells["found"]
    assert found.id == run.id
    cells.run(f"%dag forget {run.id}")
    assert run.id not in {line.run for line in dagnb.runs()}


def test_attach_alone_gives_the_latest_run(cells: Cells) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")

    cells.run("run = %dag attach")

    assert (cells["run"].description.name, cells["run"].result()) == ("value", 8)


def test_attach_alone_in_a_new_kernel_finds_the_run_that_goes_on_or_lists_several(
    cells: Cells, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wait = (
        f"def wait():\n    while not os.path.exists({str(tmp_path / 'gate')!r}): time.sleep(0.01)\n"
    )
    cells.run("import os, time")
    cells.run(f"%%dag only --detach\n{wait}wait()")
    cells.run("%unload_ext dagnb")
    cells.run("%load_ext dagnb")
    cells.run("found = %dag attach")
    one = capsys.readouterr().out

    cells.run(f"%%dag other --detach\n{wait}wait()")
    cells.run("%unload_ext dagnb")
    cells.run("%load_ext dagnb")
    cells.run("nothing = %dag attach")
    several = capsys.readouterr().out

    (tmp_path / "gate").touch()
    ids = [cells[name].id for name in ("other", "only")]
    assert [cells[name].result(timeout_s=20) for name in ("other", "only")] == [None, None]
    assert (cells["found"].id, cells["nothing"]) == (cells["only"].id, None)
    assert "attached to the only run that is going on: only, started" in one
    assert [line.split()[:2] for line in several.splitlines()[-2:]] == [
        ["other", "running"],
        ["only", "running"],
    ]
    assert [line.split("  ")[-1] for line in several.splitlines()[-2:]] == [
        f"%dag attach {run}" for run in ids
    ]


def test_log_tells_of_a_task_that_left_no_output(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    capsys.readouterr()

    cells.run("%dag log double-0")

    assert capsys.readouterr().out == "there is no output of task 'double-0'.\n"


@dataclass(frozen=True, kw_only=True)
class Odd(Inline):
    """Worker slots that would like to be markup."""

    name: ClassVar[str] = "odd"

    async def seats(self) -> tuple[WorkerSlot, ...]:
        return (
            WorkerSlot(
                name="<b>bold</b>",
                platform="odd",
                state="idle",
                memory_mb=512,
                made_of="image\x1b[2J",
                n_lent=2,
            ),
        )


def test_workers_are_a_table_of_text_nobody_vouches_for(
    cells: Cells,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path / "home"))
    cells.run("%dag workers")
    assert capsys.readouterr().out == "no worker is running or warm\n"

    monkeypatch.setitem(registry._added, ("launcher", "odd"), Odd)
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(commands, "put", shown.append)
    cells.run("%dag workers")

    (bundle,) = shown
    assert "<td>&lt;b&gt;bold&lt;/b&gt;</td>" in bundle["text/html"]
    assert "<td>image</td>" in bundle["text/html"]
    assert bundle["text/plain"].splitlines()[1].split() == [
        "<b>bold</b>",
        "odd",
        "idle",
        "512",
        "MB",
        "image",
        "2",
    ]


def test_config_shows_settings_without_secrets(
    cells: Cells, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGNB_REDIS_URL", "rediss://user:hunter2@example.org/0")
    cells.run("%dag config")

    printed = capsys.readouterr().out
    assert "inline" in printed
    assert "example.org" in printed
    assert "hunter2" not in printed


def test_config_tells_of_each_value_where_it_comes_from(
    cells: Cells, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_origins", {})
    monkeypatch.setenv("DAGNB_REDIS_URL", "redis://localhost:1/0")
    monkeypatch.delenv("DAGNB_NAMESPACE", raising=False)

    cells.run("import dagnb; dagnb.configure(planner='heft')")
    session.configure_by(session.BY_OPTION, percentile=0.75, planner=None)
    capsys.readouterr()
    cells.run("%dag config")
    lines = capsys.readouterr().out.splitlines()

    told = [tuple(filter(None, map(str.strip, line.split("  ")))) for line in lines]
    rows = {name: (value, origin) for name, value, origin, _ in told}
    assert rows["setting"] == ("value", "comes from")
    assert rows["planner"] == ("heft", "configure() in this session")
    assert rows["percentile"] == ("0.75", "option of the command line")
    assert rows["metrics"] == ("each_task", "default")
    assert rows["store"] == ("redis://localhost:1/0", "environment variable DAGNB_REDIS_URL")
    assert rows["DAGNB_REDIS_URL"] == ("redis://localhost:1/0", "environment")
    assert rows["DAGNB_NAMESPACE"] == ("not set", "default")
    assert set(session.MEANINGS) == set(session.Settings.__dataclass_fields__)


def test_a_store_that_is_configured_goes_before_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_origins", {})
    monkeypatch.setattr(session, "_settings", session.settings())
    dagnb.configure(store=dagnb.Redis(url="redis://me:hunter2@localhost:2/0"))

    (store,) = [
        one for one in in_force({"DAGNB_REDIS_URL": "redis://localhost:1/0"}) if one.name == "store"
    ]

    assert (store.value, store.origin) == ("redis://localhost:2/0", "configure() in this session")


def test_doctor_looks_at_what_is_here(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    cells.run("%dag doctor")

    assert "Python" in capsys.readouterr().out


def test_predict_tells_what_past_runs_and_hints_taught_of_a_function(
    cells: Cells,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGNB_HOME", str(tmp_path))
    cells.run("from dagnb import task\n@task(time_s=4.0)\ndef slow(): pass")
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    capsys.readouterr()
    cells.run("%dag predict double 5000")
    of_samples = capsys.readouterr().out
    cells.run("%dag predict slow")
    of_hints = capsys.readouterr().out

    assert "double: 1 samples" in of_samples
    assert "5,000 B" in of_samples
    assert "slow: hint of @task" in of_hints


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stats", "did you mean 'status'?"),
        ("status", "started no run yet"),
        ("run", "one NAME"),
        ("run valu", "unknown node 'valu'"),
        ("why", "started no run yet"),
        ("attach", "started no run yet"),
        ("log", "the name of a task"),
        ("forget", "it takes a RUN"),
        ("status a b", "it takes one RUN"),
        ("runs all", "it takes nothing"),
        ("workers all", "it takes nothing"),
        ("errors nobody", "unknown run 'nobody'"),
        ("why 'open", "No closing quotation"),
        ("predict", "the name of a FUNCTION"),
        ("predict double much", "the BYTES it reads"),
        ("predict nobody", "unknown function 'nobody'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(cells: Cells, line: str, words: str) -> None:
    error = cells.attempt(f"%dag {line}").error_in_exec

    assert isinstance(error, UsageError)
    assert words in str(error)


@pytest.mark.parametrize("command", ["why", "log"])
def test_an_unknown_task_gets_the_nearest(cells: Cells, command: str) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    error = cells.attempt(f"%dag {command} doubel-0").error_in_exec

    assert "Did you mean 'double-0'?" in str(error)


def _completions(cells: Cells, text: str) -> list[str]:
    completer: Any = cells.shell.Completer
    with provisionalcompleter():
        return [found.text for found in completer.completions(text, len(text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%%dag total --pl", ["--planner", "--plan"]),
        ("%%dag total --plan --pl", ["--planner"]),
        ("%%dag total --workers in", ["inline"]),
        ("%dag for", ["forget"]),
        ("%dag wo", ["workers"]),
        ("%dag run myn", ["mynode"]),
        ("%dag pre", ["predict"]),
        ("%dag predict myt", ["mytask"]),
    ],
)
def test_our_lines_are_completed_with_our_words_alone(
    cells: Cells, text: str, found: list[str]
) -> None:
    cells.run("from dagnb import task\nmytask = task(abs)\nmynode = mytask(1)")

    assert _completions(cells, text) == found


def test_a_comment_behind_a_magic_is_no_argument(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(f"%%dag value --planner heft  # twice four\n{DOUBLE}double(4)")

    cells.run("%dag status   # of the latest run")

    assert cells["value"] == 8
    assert "ok: 1 of 1 task done" in capsys.readouterr().out


def test_everything_that_run_takes_is_completed_behind_it(cells: Cells) -> None:
    cells.run(f"%%dag value\n{DOUBLE}double(4)")
    cells.run(
        "one = double(1)\nboth = [double(2), double(3)]\n_hidden = double(5)\n"
        "other = [1, 2]\nempty = []"
    )

    for text in ("%dag run ", "again = %dag run ", "a, b = %dag run "):
        assert _completions(cells, text) == ["one", "both", "value"]
    assert _completions(cells, "%dag run val") == ["value"]
    assert cells.run("%dag run both") == [4, 6]
    cells.run("table = {'rows': [double(1), double(2)]}")
    assert cells.run("%dag run table") == {"rows": [2, 4]}


def test_a_task_is_shown_as_its_function_by_a_question_mark(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.run(
        "from dagnb import task\n@task(retries=2)\ndef count(text: str, n=3) -> int:\n"
        "    'Count words.'\n    return 1"
    )

    cells.run("count?")
    shown = capsys.readouterr().out
    cells.run("count??")
    source = capsys.readouterr().out

    assert "Signature:       count(text: str, n=3) -> int\n" in shown
    assert "Docstring:       Count words.\n" in shown
    assert "String form:     <task count(text, n): retries=2>\n" in shown
    assert (
        "@task(retries=2)\ndef count(text: str, n=3) -> int:\n    'Count words.'\n    return 1\n"
        in source
    )


def test_runs_and_tasks_are_completed_from_what_is_known_here(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells.run(f"%%dag mine --detach\n{DOUBLE}[double(4), double(5)]")
    cells["mine"].result(timeout_s=10)
    monkeypatch.setattr(
        dagnb.session, "wait", lambda work: pytest.fail("completion asks the store")
    )

    for command in (
        "status",
        "errors",
        "cancel",
        "attach",
        "forget",
        "why double-0",
        "log double-1",
    ):
        assert _completions(cells, f"%dag {command} ") == ["mine", "last", cells["mine"].id]
    for command in ("why", "log"):
        assert _completions(cells, f"%dag {command} dou") == ["double-0", "double-1"]


def test_tasks_of_a_run_that_was_attached_to_are_completed(cells: Cells) -> None:
    cells.run(f"%%dag mine --detach\n{DOUBLE}double(4)")
    run = cells["mine"].id
    cells["mine"].result(timeout_s=10)
    cells.run("%unload_ext dagnb")
    cells.run("%load_ext dagnb")
    assert "double-0" not in _completions(cells, "%dag why dou")

    cells.run(f"%dag attach {run}")

    assert _completions(cells, "%dag why ") == ["double-0"]


def test_the_body_of_a_cell_is_completed_as_python(cells: Cells) -> None:
    cells.run("import os")

    assert "exists" in _completions(cells, "%%dag total\nos.path.exi")


def test_unloading_takes_everything_back_and_loading_twice_is_once(cells: Cells) -> None:
    matchers = cells.shell.Completer.custom_matchers
    viewers = dagnb.handle.viewers
    transformers = cells.shell.input_transformers_cleanup
    n_others = len(transformers) - 1
    assert (len(matchers), len(viewers)) == (1, 1)
    dagnb.load_ipython_extension(cells.shell)
    assert (len(matchers), len(viewers), len(transformers)) == (1, 1, n_others + 1)

    dagnb.unload_ipython_extension(cells.shell)
    assert (len(matchers), len(viewers), len(transformers)) == (0, 0, n_others)
    assert isinstance(cells.attempt("%dag status").error_in_exec, UsageError)
    dagnb.load_ipython_extension(cells.shell)
