"""Laws of every store: a run that nobody starts ends, and says so; whoever takes part lets it go on."""

from __future__ import annotations

import pytest

from dagnb.protocol.messages import Observation, RunState, Status
from dagnb.protocol.tasks import NEVER_STARTED
from dagnb.storage.interface import Store
from dagnb.testing.step_laws import LEASE_S, Subject, chain

START_S = 60.0


class StartLaws:
    """What becomes of a run whose client died before it launched workers."""

    async def test_a_run_that_nobody_took_part_in_is_cancelled_by_whoever_takes_a_step(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S - 1)
        await store.reap("run")
        assert (await store.observe("run")).state is RunState.RUNNING

        subject.advance(1)
        await store.reap("run")

        assert told(await store.observe("run")) == (RunState.CANCELLED, NEVER_STARTED)
        assert (await store.register("run", "i1", lease_s=LEASE_S)).status is Status.STOP

    async def test_the_list_of_runs_shows_none_as_running_that_is_overdue(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        await store.submit(chain(1, run="late", deadline_s=START_S))
        await store.submit(chain(1, run="third"))
        subject.advance(START_S)

        listed = {line.run: line.state for line in await store.runs()}

        assert listed == {
            "run": RunState.CANCELLED,
            "late": RunState.DEADLINE,
            "third": RunState.RUNNING,
        }
        for run in listed:
            await store.forget(run)

    @pytest.mark.parametrize(
        "who", ["an instance", "its supervisor", "who starts instances", "the client"]
    )
    async def test_a_run_that_somebody_took_part_in_goes_on(
        self, subject: Subject, who: str
    ) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S - 1)

        await take_part(store, who)
        subject.advance(2 * START_S)
        await store.reap("run")

        assert (await store.observe("run")).state is RunState.RUNNING

    async def test_who_comes_too_late_is_told_to_stop(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S)

        await store.record("run", b"spans of a client that slept")

        assert told(await store.observe("run")) == (RunState.CANCELLED, NEVER_STARTED)
        assert await store.heartbeat("run", ["nobody"], lease_s=LEASE_S) == {"nobody": Status.STOP}


async def take_part(store: Store, who: str) -> None:
    """One step of whoever is meant."""
    if who == "an instance":
        await store.register("run", "i1", lease_s=LEASE_S)
    elif who == "its supervisor":
        await store.heartbeat("run", ["nobody"], lease_s=LEASE_S)
    elif who == "who starts instances":
        await store.demand("run")
    else:
        await store.record("run", b"spans")


def told(seen: Observation) -> tuple[RunState, str]:
    """How the run ended, and why."""
    return seen.state, seen.reason
