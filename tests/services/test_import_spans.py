"""Imports of tasks are spans of their own in the trace of real worker processes."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagnb.trace.trace import Phase, Trace
from tests.conformance.agent import private_agent
from tests.services.project import Project

pytestmark = pytest.mark.redis

MEASURED = """
import time
began = time.monotonic()
{body}
took = time.monotonic() - began
"""
"""A module that knows for how long its code ran."""

SCRIPT = """
import json
from dagnb import task
from dagnb_workers import Processes
import when_read

@task
def uses(number):
    import when_run
    return when_read.took, when_run.took

@task
def both(first, second):
    return first

run = both(uses(1), uses(2)).run(workers=Processes(n=1))
open("../pipe", "w").close()  # the other end is opened by the import
print(json.dumps([run.result(60), run.trace.to_json()]))
"""

MOMENT_S = 1e-5
"""Seconds by which two clocks, and sums of epoch seconds, may disagree."""


@pytest.fixture(scope="module", autouse=True)
def _agent() -> Iterator[None]:
    with private_agent():
        yield


def test_imports_of_reading_and_of_running_a_function_are_one_span_before_its_run(
    tmp_path: Path,
) -> None:
    """`when_read` is imported with the function, `when_run` by it, after the client opens a pipe."""
    os.mkfifo(tmp_path / "pipe")
    files = {
        "nb/when_read.py": MEASURED.format(body="import when_nested"),
        "nb/when_nested.py": "value = 1",
        "nb/when_run.py": MEASURED.format(body="open('../pipe').read()"),
        "nb/main.py": SCRIPT,
    }

    out = Project(tmp_path, files).run("main.py", cwd="nb")

    (read_s, run_s), text = json.loads(out.splitlines()[-1])
    trace = Trace.from_json(text)
    uses, again = (trace.names.index(name) for name in ("uses-0", "uses-1"))
    first, second = ([span.phase for span in trace.of_task(task)] for task in (uses, again))
    assert first[-5:] == [Phase.LOAD, Phase.IMPORT, Phase.RUN, Phase.DUMP, Phase.COMMIT]
    assert second[-4:] == [Phase.LOAD, Phase.RUN, Phase.DUMP, Phase.COMMIT]
    assert [span.task for span in trace.spans if span.phase is Phase.IMPORT] == [uses]

    acts = {span.phase: span for span in trace.of_task(uses)}
    assert acts[Phase.IMPORT].duration_s >= read_s + run_s - MOMENT_S
    assert acts[Phase.RUN].begin_s == acts[Phase.IMPORT].end_s
    ordered = [span for span in trace.of_task(uses) if span.phase is not Phase.QUEUE]
    for before, after in itertools.pairwise(ordered):
        assert before.end_s <= after.begin_s + MOMENT_S
