"""Containers lent, shared and kept warm: who gets which, how many there are, how they start and
end.

Each test has a runtime directory of its own; at its end nothing is left of it
(tests/docker/made_containers.py).
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
from dagnb_workers.launchers.docker.image import images
from dagnb_workers.launchers.docker.image.images import BASE_VARIABLE

import dagnb
from dagnb import session
from dagnb.errors import RunCancelledError
from dagnb.graph.resources import Resources
from dagnb.graph.task import Node, Task
from dagnb.trace.trace import STARTING, Phase
from tests.docker.chores import squared
from tests.docker.index import Index
from tests.docker.made_containers import LIMIT_S, SOON_S, Containers, Watch, starts
from tests.services.processes import await_that

pytestmark = [pytest.mark.docker, pytest.mark.redis]


# ---- the cap ----


def test_one_container_at_a_time_runs_a_dag_of_three_kinds(yard: Containers) -> None:
    """Workers would linger for a minute; who is needed elsewhere is hurried."""
    sizes = (96, 128, 160)
    nodes: list[Node[int]] = [
        Task(squared).with_options(resources=Resources(memory_mb=sizes[n % 3]))(n) for n in range(6)
    ]
    with Watch(yard) as watch:
        run = dagnb.run(*nodes, workers=yard.docker(cap=1, linger_s=60.0))

        assert run.result(30.0) == tuple(n * n for n in range(6))

    assert watch.most == 1
    assert watch.n_started >= 3
    yard.forgotten(run)


def test_twenty_runs_in_a_row_and_five_at_once_keep_to_the_cap_and_are_warm(
    yard: Containers, summary: list[str]
) -> None:
    def in_a_row(n: int) -> dagnb.Run[tuple[int, ...]]:
        return dagnb.run(Task(squared)(n), Task(squared)(n + 1), workers=yard.docker(cap=2))

    with Watch(yard) as watch:
        begin = time.monotonic()
        row = []
        for n in range(20):
            row.append(in_a_row(n))
            assert row[-1].result(LIMIT_S) == (n * n, (n + 1) ** 2)
        between = time.monotonic()
        at_once = [in_a_row(n) for n in range(5)]
        assert [run.result(LIMIT_S) for run in at_once] == [(n * n, (n + 1) ** 2) for n in range(5)]
        end = time.monotonic()
        runs = [*row, *at_once]

    assert watch.most <= 2
    counted = starts(*runs)
    assert (
        counted["cold"] <= watch.n_started <= 2
    )  # one that came too late for its run is warm for the next
    assert all(
        any(starts(run).values()) for run in runs
    )  # by one of the two alone, where that is quick
    assert counted["warm"] >= len(runs) - counted["cold"]
    summary.append(
        f"20 runs in a row {between - begin:.2f} s, 5 at once {end - between:.2f} s: {counted['cold']} cold starts, "
        f"{counted['warm']} warm, {watch.most} containers at most"
    )
    for run in runs:
        yard.forgotten(run)


# ---- kinds and images ----


def test_tasks_of_one_run_have_each_the_packages_they_ask_for(
    yard: Containers, package_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_index.add("dagnbprobe", "1.0")
    package_index.add("dagnbprobe", "2.0")
    monkeypatch.setenv("PIP_INDEX_URL", package_index.url)
    monkeypatch.setenv("PIP_CERT", str(package_index.authority))

    def version(*upstream: str) -> str:
        import dagnbprobe  # type: ignore[import-not-found]  # in the image only

        return " ".join((*upstream, dagnbprobe.VERSION))

    old, new = (Task(version).with_options(requirements=(f"dagnbprobe=={n}.0",)) for n in (1, 2))

    assert dagnb.run(old(new(old())), workers=yard.docker(cap=1)).result(LIMIT_S) == "1.0 2.0 1.0"


def test_images_are_found_not_built_again(yard: Containers, worker_image: str) -> None:
    run = dagnb.run(Task(squared)(2), workers=yard.docker(cap=1))
    run.result(LIMIT_S)

    assert yard.only().image.tags == [worker_image]
    assert images.find(images.Recipe(base=os.environ[BASE_VARIABLE])) == worker_image
    assert Path(yard.directory).is_dir()


# ---- warm and cold ----


def test_a_prewarm_makes_room_and_keeps_to_the_memory_there_is(yard: Containers) -> None:
    launcher = yard.docker(cap=2, total_memory_mb=200)
    assert dagnb.run(Task(squared)(2), workers=launcher).result(LIMIT_S) == 4
    await_that(lambda: [seat.state for seat in yard.seats()] == ["idle"], "it is idle", SOON_S)

    assert session.wait(launcher.prewarm(Resources(memory_mb=128), 2)) == 1

    assert [(seat.state, seat.memory_mb) for seat in yard.seats()] == [("idle", 128)]
    assert session.wait(launcher.prewarm(Resources(memory_mb=128), 1)) == 1


def test_a_prewarmed_worker_starts_warm(yard: Containers) -> None:
    launcher = yard.docker(cap=2)

    assert session.wait(launcher.prewarm(Resources(), 1)) == 1

    assert [(seat.state, seat.run) for seat in yard.seats()] == [("idle", "")]
    assert session.wait(launcher.pool([Resources()])).warm == {Resources(): 1}
    run = dagnb.run(Task(squared)(2), workers=launcher)
    assert run.result(LIMIT_S) == 4
    assert starts(run) == {"cold": 0, "warm": 1}
    start = {span.phase for span in run.trace.spans if span.is_start}
    assert start & {Phase.CREATE, Phase.BOOT, Phase.IMPORT} == set()


def test_a_cold_start_is_told_with_its_phases_one_after_the_other(yard: Containers) -> None:
    run = dagnb.run(Task(squared)(2), workers=yard.docker(cap=1))
    assert run.result(LIMIT_S) == 4

    told = [span for span in run.trace.spans if span.task == -1 and span.worker]

    told.sort(key=lambda span: span.begin_s)
    reading = [
        Phase.PROGRAM,
        Phase.REGISTER,
    ]  # what describes the run is read in the middle of the registration
    assert [span.phase for span in told] == [*STARTING, *reading]
    assert {span.detail for span in told if span.phase is not Phase.PROGRAM} == {"cold"}
    assert all(one.end_s <= next_.begin_s + 1e-6 for one, next_ in itertools.pairwise(told))


# ---- whom they serve, and their end ----


def test_containers_are_labelled_and_called_after_whom_they_serve(yard: Containers) -> None:
    gate = yard.gate()
    run = dagnb.run(yard.waits(gate), workers=yard.docker(cap=1))
    gate.until_there()
    end = run.id[-6:].lower()

    await_that(
        lambda: f"dagnb-{end}-1-" in yard.only().name, "it is called after its worker", SOON_S
    )

    labels = yard.only().labels
    assert (labels["dagnb.run"], labels["dagnb.worker"], labels["dagnb.project"]) == (
        run.id,
        "default",
        "dagnb",
    )
    assert labels["dagnb.instance"] == labels["dagnb.name"]
    assert labels["dagnb.attempt"] == "1"
    gate.open()
    run.result(LIMIT_S)
    gate.close()


def test_an_idle_container_is_ended_when_its_time_is_over(yard: Containers) -> None:
    run = dagnb.run(Task(squared)(2), workers=yard.docker(cap=1, idle_s=0.2, linger_s=0.1))
    run.result(LIMIT_S)

    await_that(lambda: not yard.containers(), "no container is left", SOON_S)


def test_a_cancel_ends_the_work_and_keeps_the_container(yard: Containers) -> None:
    gate = yard.gate()
    run = dagnb.run(yard.waits(gate), workers=yard.docker(cap=1))
    gate.until_there()
    before = yard.only().id

    run.cancel("enough")

    with pytest.raises(RunCancelledError, match="enough"):
        run.result(LIMIT_S)
    await_that(lambda: [seat.state for seat in yard.seats()] == ["idle"], "it is idle", SOON_S)
    assert yard.only().id == before
    yard.forgotten(run)
    gate.close()


def test_a_killed_run_takes_its_container_along(yard: Containers) -> None:
    gate = yard.gate()
    run = dagnb.run(yard.waits(gate), workers=yard.docker(cap=1))
    gate.until_there()

    run.kill()

    await_that(lambda: not yard.containers(), "no container is left", SOON_S)
    gate.close()
