"""Runs whose client is gone are kept in the history by whoever hosted them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dagnb_workers.hosting.history_writer import keep_in_history
from dagnb_workers.launchers.process import Processes

from dagnb import session, task
from dagnb.graph.task import Node
from dagnb.protocol.invocation import Invocation
from dagnb.run_history.history import History
from dagnb.trace.trace import Phase
from tests.services.processes import await_that, is_alive, supervisor_of

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("agent")]

CLIENT = """
import sys, time
from pathlib import Path
import dagnb
from dagnb import task
from dagnb_workers.launchers.process import Processes

@task
def part(gate: str, i: int) -> bytes:
    while not Path(gate).exists():
        time.sleep(0.01)
    return bytes(20_000 * i)

@task
def total(parts: list) -> int:
    return sum(map(len, parts))

run = total([part(sys.argv[1], i) for i in range(4)]).run(workers=Processes(n=2))
print(run.id, flush=True)
print(run.result())
"""


@task
def twice(x: int) -> int:
    return 2 * x


def client(gate: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that waits for its run of five tasks, and the run; its tasks end when the gate is
    there.
    """
    command = [sys.executable, "-c", CLIENT, str(gate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_run_teaches_though_its_client_was_killed(tmp_path: Path) -> None:
    process, run = client(tmp_path / "gate")
    supervisor = supervisor_of(run)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    (tmp_path / "gate").touch()
    await_that(lambda: not is_alive(supervisor), "the host of the run left")

    description, trace = History().run(run)
    runs, _ = History().samples(["part", "total"])
    assert [kept.state for kept in History().runs()] == ["ok"]
    assert description.functions == ("part",) * 4 + ("total",)
    assert sorted((s.name, s.output_bytes > 20_000, s.key != "") for s in runs[0].samples) == [
        ("part", False, True),
        *[("part", True, True)] * 3,
        ("total", False, True),
    ]
    assert len({sample.key for sample in runs[0].samples}) == 5
    assert trace.makespan_s > 0
    assert sum(span.phase is Phase.COMMIT for span in trace.spans) == 5
    assert History().acts(description.platform)[0]


def test_a_client_that_is_there_keeps_its_run_itself_and_once(tmp_path: Path) -> None:
    process, run = client(tmp_path / "gate")
    supervisor = supervisor_of(run)

    (tmp_path / "gate").touch()
    printed, _ = process.communicate(timeout=60)
    await_that(lambda: not is_alive(supervisor), "the host of the run left")

    assert int(printed) == 20_000 * 6
    assert len(History().runs()) == 1
    assert [len(run.samples) for run in History().samples(["part", "total"])[0]] == [5]


async def test_nothing_is_kept_of_a_run_that_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    gone = Invocation(run="gone", store=os.environ[session.STORE_VARIABLE], key=bytes(32))

    assert not await keep_in_history(gone, client_first_s=0.0)

    assert History().runs() == []
    assert "run gone is not kept" in caplog.text


def test_a_damaged_history_is_set_aside_and_keeps_no_run_from_its_end() -> None:
    History().path.write_bytes(b"damaged")
    node: Node[int] = twice(21)

    run = node.run(workers=Processes(n=1))

    assert run.result() == 42
    (kept,) = History().path.parent.glob("*.damaged-*")
    assert kept.read_bytes() == b"damaged"
