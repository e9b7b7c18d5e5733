"""Laws of every store: runs that are never started end; and all laws of stores in one class."""

from __future__ import annotations

import pytest

from dagnb.protocol.messages import Observation, RunState, Status
from dagnb.protocol.tasks import NEVER_STARTED
from dagnb.storage.interface import Store
from dagnb.testing.content_laws import ContentLaws
from dagnb.testing.run_laws import KindLaws, RoomLaws, TimeLaws
from dagnb.testing.step_laws import LEASE_S, StepLaws, chain
from dagnb.testing.step_laws import Subject as Subject  # noqa: PLC0414  # public, as StoreLaws

START_S = 60.0


class StartLaws:
    """Laws about a run whose client died before it launched workers."""

    async def test_a_run_without_participants_is_cancelled_by_the_next_step(
        self, subject: Subject
    ) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S - 1)
        await store.reap("run")
        assert (await store.observe("run")).state is RunState.RUNNING

        subject.advance(1)
        await store.reap("run")

        assert end_of(await store.observe("run")) == (RunState.CANCELLED, NEVER_STARTED)
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
        "participant", ["an instance", "its supervisor", "the launcher", "the client"]
    )
    async def test_a_run_with_a_participant_goes_on(
        self, subject: Subject, participant: str
    ) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S - 1)

        await take_part(store, participant)
        subject.advance(2 * START_S)
        await store.reap("run")

        assert (await store.observe("run")).state is RunState.RUNNING

    async def test_a_participant_that_is_too_late_gets_stop(self, subject: Subject) -> None:
        store = subject.store
        await store.submit(chain(1, start_s=START_S))
        subject.advance(START_S)

        # As the client does after launching workers; it may have slept in between.
        await store.record("run", b"spans of a client that slept")

        assert end_of(await store.observe("run")) == (RunState.CANCELLED, NEVER_STARTED)
        assert await store.heartbeat("run", ["nobody"], lease_s=LEASE_S) == {"nobody": Status.STOP}


async def take_part(store: Store, participant: str) -> None:
    """Takes one step as this participant."""
    if participant == "an instance":
        await store.register("run", "i1", lease_s=LEASE_S)
    elif participant == "its supervisor":
        await store.heartbeat("run", ["nobody"], lease_s=LEASE_S)
    elif participant == "the launcher":
        await store.demand("run")
    else:
        await store.record("run", b"spans")


def end_of(seen: Observation) -> tuple[RunState, str]:
    """Returns the state of a run that ended, and the reason."""
    return seen.state, seen.reason


@pytest.mark.asyncio
class StoreLaws(StepLaws, TimeLaws, StartLaws, KindLaws, RoomLaws, ContentLaws):
    """Laws of every store. Derive, and define a fixture `subject`; see Subject."""
