"""Laws of every launcher (dagnb.protocol.launcher.Launcher).

Tasks of these tests wait at named pipes: they work between threads, processes and containers that
share a folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagnb import client, session
from dagnb.errors import RunCancelledError, RunTimeoutError, TaskFailedError
from dagnb.graph.dag import Dag
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, Task
from dagnb.handle import Run
from dagnb.protocol.invocation import Invocation
from dagnb.protocol.launcher import Launcher, shares_files
from dagnb.testing import graphs

LIMIT_S = 30.0


class Recording:
    """The launcher under test, with a record of its launches, so that they can be repeated."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.name, self.cap, self.by_kind = launcher.name, launcher.cap, launcher.by_kind
        self.default_store, self.stop = launcher.default_store, launcher.stop
        self.pool, self.prepare = launcher.pool, launcher.prepare
        self.prewarm, self.seats = launcher.prewarm, launcher.seats
        self.shares_files = shares_files(launcher)
        self.launches: list[tuple[Invocation, Collection[Resources]]] = []

    async def launch(self, invocation: Invocation, needs: Collection[Resources] = ()) -> None:
        """Records the launch, and passes it on."""
        self.launches.append((invocation, needs))
        await self.launcher.launch(invocation, needs)


class Gate:
    """Two named pipes that hold a task back: it writes to `came`, and then reads from `go`.

    Every user may open the pipes: in a container a task may run as another user.
    """

    def __init__(self, folder: Path) -> None:
        self.came, self.go = folder / "came", folder / "go"
        folder.chmod(0o755)
        for pipe in (self.came, self.go):
            os.mkfifo(pipe)
            pipe.chmod(0o666)
        self._came = os.open(self.came, os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(self.go, os.O_RDWR | os.O_NONBLOCK)

    def until_there(self) -> None:
        """Waits until a task is at the gate."""
        os.set_blocking(self._came, True)
        assert os.read(self._came, 1) == b"!"

    def open(self) -> None:
        """Lets the task go on."""
        # One byte lets one attempt go on; a task may have several.
        os.write(self._go, b"!" * 16)

    def close(self) -> None:
        """Lets the task go on, and closes the pipes."""
        self.open()
        os.close(self._came)
        os.close(self._go)


def waiting(came: str, go: str) -> Node[str]:
    """Returns a task that waits at a gate."""

    def at_the_gate(came: str, go: str) -> str:
        with open(came, "wb", buffering=0) as pipe:
            pipe.write(b"!")
        with open(go, "rb", buffering=0) as pipe:
            pipe.read(1)
        return "through"

    return Task(at_the_gate)(came, go)


def awaited(happened: Callable[[], bool]) -> bool:
    """Waits until the condition holds. Returns False if it does not within LIMIT_S."""
    until = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > until:
            return False
    return True


class LauncherLaws:
    """Laws of every launcher. Derive, and define `launcher` and `leftovers`."""

    def launcher(self, n: int) -> Launcher:
        """Returns the launcher, with at most n workers."""
        raise NotImplementedError

    def leftovers(self, run: str) -> list[str]:
        """Returns the threads, processes or containers that still belong to a run."""
        raise NotImplementedError

    def gates(self) -> str:
        """Returns a folder that tasks can reach."""
        return tempfile.gettempdir()

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """A gate, which opens at the latest when the test ends."""
        folder = Path(tempfile.mkdtemp(prefix="dagnb-gate-", dir=self.gates()))
        gate = Gate(folder)
        yield gate
        gate.close()
        shutil.rmtree(folder)

    def nothing_is_left(self, run: Run[Any]) -> None:
        assert awaited(lambda: self.leftovers(run.id) == []), self.leftovers(run.id)

    def test_it_is_a_launcher_with_a_name_and_a_cap(self) -> None:
        launcher = self.launcher(2)

        assert isinstance(launcher, Launcher)
        assert (launcher.cap, launcher.name != "") == (2, True)

    def test_a_planner_may_count_on_the_cap_and_no_more_are_ready_than_that(self) -> None:
        launcher = self.launcher(1)

        assert session.wait(launcher.pool()).cap == 1
        assert session.wait(launcher.prewarm(Resources(), 3)) == 1

    def test_slots_name_a_run_as_long_as_it_goes_on(self, gate: Gate) -> None:
        launcher = self.launcher(1)
        run = client.run(waiting(str(gate.came), str(gate.go)), workers=launcher)
        gate.until_there()

        (slot,) = [slot for slot in session.wait(launcher.seats()) if slot.run == run.id]

        assert (slot.platform, slot.state) == (launcher.name, "lent")
        gate.open()
        run.result(LIMIT_S)
        assert awaited(lambda: all(slot.run != run.id for slot in session.wait(launcher.seats())))

    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize(
        "shape", ["diamond_of_diamonds", "bipartite", "ladder", "two_components"]
    )
    def test_any_dag_finishes_with_any_cap(self, shape: str, n: int) -> None:
        dag: Dag = graphs.SMALL[shape]
        nodes = graphs.built(dag, graphs.told)

        run = client.run(*nodes, workers=self.launcher(n))

        value = run.result(LIMIT_S)
        expected = graphs.reference(dag, graphs.told)
        assert value == (expected if len(expected) > 1 else expected[0])
        self.nothing_is_left(run)

    def test_nothing_is_left_after_a_failure(self) -> None:
        def broken() -> None:
            raise ValueError("on purpose")

        run = Task(broken)().run(workers=self.launcher(2))

        with pytest.raises(TaskFailedError, match="on purpose"):
            run.result(LIMIT_S)
        self.nothing_is_left(run)

    def test_a_failed_task_can_be_caught_by_the_class_of_its_exception(self) -> None:
        def broken() -> None:
            raise KeyError("left")

        run = Task(broken)().run(workers=self.launcher(1))

        with pytest.raises(KeyError) as caught:
            run.result(LIMIT_S)
        assert isinstance(caught.value, TaskFailedError)
        assert str(caught.value.__cause__) == "KeyError: 'left'"
        self.nothing_is_left(run)

    def test_nothing_is_left_after_a_cancel_once_the_function_ends(self, gate: Gate) -> None:
        run = waiting(str(gate.came), str(gate.go)).run(workers=self.launcher(1))
        gate.until_there()
        assert self.leftovers(run.id) != []

        run.cancel()
        gate.open()

        with pytest.raises(RunCancelledError):
            run.result(LIMIT_S)
        self.nothing_is_left(run)

    def test_nothing_is_left_after_a_deadline(self, gate: Gate) -> None:
        run = client.run(
            waiting(str(gate.came), str(gate.go)), workers=self.launcher(1), deadline_s=0.5
        )

        with pytest.raises(RunTimeoutError, match="deadline"):
            run.result(LIMIT_S)
        gate.open()

        self.nothing_is_left(run)

    def test_stop_of_a_run_that_is_not_there_does_nothing(self) -> None:
        session.wait(self.launcher(1).stop("01NEVER"))

    def test_a_second_launch_starts_no_worker_while_the_run_goes_on(self, gate: Gate) -> None:
        launcher = Recording(self.launcher(1))
        run = waiting(str(gate.came), str(gate.go)).run(workers=launcher)
        gate.until_there()
        before = self.leftovers(run.id)

        session.wait(launcher.launch(*launcher.launches[0]))

        assert self.leftovers(run.id) == before
        assert run.look().n_instances == 1
        gate.open()
        assert run.result(LIMIT_S) == "through"
        self.nothing_is_left(run)

    def test_a_second_launch_after_the_end_leaves_no_worker(self) -> None:
        launcher = Recording(self.launcher(2))
        run = graphs.built(graphs.diamond(), graphs.told)[0].run(workers=launcher)
        run.result(LIMIT_S)
        self.nothing_is_left(run)

        session.wait(launcher.launch(*launcher.launches[0]))

        # Workers may start, find that the run is over, and leave.
        self.nothing_is_left(run)
        assert [event.kind for event in run.look().events].count("done") == 4
