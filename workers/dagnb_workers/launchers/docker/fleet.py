"""The containers of one user and the runs they work for: asks the pool's decision what to do, and does it.

It holds no state that could be lost: containers are found again by their labels, runs by the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dagnb.errors import LaunchError
from dagnb.protocol.invocation import Invocation
from dagnb_workers.launchers.docker import spec as labels
from dagnb_workers.launchers.docker.box import ENGINE_ERRORS, Box
from dagnb_workers.launchers.docker.engine import connect
from dagnb_workers.launchers.docker.follower import Follower, Terms
from dagnb_workers.launchers.docker.obituaries import Obituaries
from dagnb_workers.launchers.docker.pool import Limits, State, Want, decide
from dagnb_workers.launchers.docker.spec import Spec
from dagnb_workers.ledger import Entry

TICK_S = 0.5
PING_S = 30.0
LEAVE_S = 5.0


class Fleet:
    """All containers of a runtime directory, and the runs they work for."""

    def __init__(self, directory: Path, mark: str, group: asyncio.TaskGroup) -> None:
        self._directory, self._mark, self._group = directory, mark, group
        self._home = labels.home_mark(directory)
        self._boxes: dict[str, Box] = {}
        self._followers: dict[str, Follower] = {}
        self._limits = Limits(cap=1, memory_mb=0)
        self._obituaries = Obituaries(self._home)
        self._changed = asyncio.Event()
        self._pinged = time.monotonic()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The containers."""
        return tuple(self._boxes.values())

    # ---- runs ---------------------------------------------------------------------------------------------------

    async def follow(self, run: str, launch: dict[str, Any]) -> None:
        """Give a run what it needs until it is over."""
        follower = self._followers[run] = Follower(
            entry=Entry(self._directory, run),
            invocation=Invocation.from_json(launch["invocation"]),
            inside=launch["inside"],
            terms=Terms.of(launch["terms"]),
            settle=self.settle,
        )
        self._limit()
        try:
            await follower.follow(self._retire)
        finally:
            self._followers.pop(run, None)
            self.settle()

    async def stop(self, run: str) -> None:
        """End the containers that work for a run. Its follower then sees that it is over."""
        follower = self._followers.get(run)
        if follower is not None:
            follower.is_over = True
            follower.poke()
        await asyncio.gather(*(box.remove() for box in self._of(run)))

    async def prewarm(self, n: int, terms: Terms) -> int:
        """Have so many idle containers of the one spec in the terms, as far as the caps allow. How many are idle then.

        Raises what the engine says.
        """
        ((kind, spec),) = terms.kinds.items()
        self._limits = self._limits if self._followers else Limits(cap=terms.cap, memory_mb=terms.memory_mb)
        warm = {box.name for box in self.boxes if box.spec == spec and not box.run}
        apart = [replace(box.held(), spec=replace(spec, image="?")) for box in self.boxes if box.name in warm]
        others = [box.held() for box in self.boxes if box.name not in warm]
        want = Want(run="", kind=kind, spec=spec, n=max(0, n - len(warm)))
        orders = decide([*others, *apart], [want], self._limits)
        self._end([name for name in orders.end if name not in warm])
        started = [self._new(want, terms.idle_s) for want in orders.start]
        await asyncio.gather(*(self._start(box) for box in started))
        for box in started:
            self._ready(box)
        return sum(box.spec == spec and box.state is State.IDLE for box in self.boxes)

    async def leave(self) -> None:
        """End all containers."""
        await asyncio.gather(*(box.remove() for box in self.boxes))

    def _begin(self, act: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(act)

    # ---- who gets which container -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what the pool decides, by what is known now."""
        for box in self.boxes:
            follower = self._followers.get(box.run)
            if box.state is State.LENT and follower is not None:
                is_there, worker = follower.staffed(box.name)
                box.is_expected = box.is_expected and not is_there
                box.is_resting = is_there and not worker
                if worker and worker != box.worker:
                    self._begin(box.rename(box.run, worker))
        wants = [want for follower in tuple(self._followers.values()) for want in follower.wants()]
        orders = decide([box.held() for box in self.boxes], wants, self._limits)
        self._end(orders.end)
        for name, want in orders.lend:
            self._lend(self._boxes[name], want)
        for want in orders.start:
            follower = self._followers[want.run]
            self._begin(self._start_for(follower, self._new(want, follower.terms.idle_s)))
        for name in orders.hurry:
            self._begin(self._boxes[name].hurry())
        self._changed.set()

    def _limit(self) -> None:
        """The widest of what the runs' launchers allow, and what each run may hold."""
        terms = {run: follower.terms for run, follower in self._followers.items()}
        self._limits = Limits(
            cap=max(term.cap for term in terms.values()),
            memory_mb=max(term.memory_mb for term in terms.values()),
            per_run={run: term.cap for run, term in terms.items()},
        )

    def _new(self, want: Want, idle_s: float) -> Box:
        box = Box(name=secrets.token_hex(4), spec=want.spec, hear=self._hear, run=want.run, kind=want.kind)
        box.is_expected, box.idle_s = bool(want.run), idle_s
        self._boxes[box.name] = box
        return box

    async def _start(self, box: Box) -> None:
        follower = self._followers.get(box.run)
        told = {
            labels.HOME: self._home,
            labels.HOST: self._mark,
            labels.NAME: box.name,
            labels.SPEC: box.spec.to_json(),
            labels.RUN: box.run,
            labels.WORKER: box.kind,
            labels.INSTANCE: box.name,
            labels.ATTEMPT: str(1 + follower.n_failures if follower else 1),
            labels.PROJECT: follower.invocation.namespace if follower else "",
        }
        try:
            await box.start(told)
        except ENGINE_ERRORS:
            self._boxes.pop(box.name, None)
            await box.remove()
            raise

    async def _start_for(self, follower: Follower, box: Box) -> None:
        """Start a container for a run, and lend it to the run if that still goes on."""
        try:
            await self._start(box)
        except ENGINE_ERRORS as error:
            is_gone = not await asyncio.to_thread(_answers)
            await follower.failed(str(error), is_engine_gone=is_gone)
            wait_s = max(0.0, follower.blocked_until - time.monotonic())
            asyncio.get_running_loop().call_later(wait_s, self.settle)
            return
        follower.started()
        self._ready(box)

    def _ready(self, box: Box) -> None:
        """It has started: for whoever it was meant, or for nobody any more."""
        if box.is_gone:
            self._bury(box)
        elif box.run in self._followers:
            self._lend(box, Want(run=box.run, kind=box.kind, spec=box.spec, n=1))
        else:
            self._rest(box)

    def _lend(self, box: Box, want: Want) -> None:
        follower = self._followers[want.run]
        box.run, box.kind, box.is_expected, box.is_resting = want.run, want.kind, True, False
        if box.state is State.STARTING and not box.versions:
            return  # it is lent when it is ready
        box.state, box.idle_s = State.LENT, follower.terms.idle_s
        self._begin(self._send(box, follower, want))

    async def _send(self, box: Box, follower: Follower, want: Want) -> None:
        if await follower.refused(box.versions):
            self._rest(box)
            return
        lease, is_called_so = follower.lease(box), box.n_lent == 0 and bool(box.phases)
        box.n_lent, box.phases = box.n_lent + 1, ()
        await box.send(lease)
        if not is_called_so:
            await box.rename(want.run, want.kind)

    def _rest(self, box: Box) -> None:
        """Nobody needs it now."""
        box.state, box.run, box.kind, box.is_expected, box.is_resting = State.IDLE, "", "", False, False
        box.phases = ()  # whoever gets it now has a warm start
        box.idle_since = time.monotonic()
        self.settle()

    def _end(self, names: Sequence[str]) -> None:
        for name in names:
            self._boxes[name].state, self._boxes[name].idle_since = State.ENDING, time.monotonic()
            self._begin(self._boxes[name].remove())

    # ---- news of containers -------------------------------------------------------------------------------------

    def _hear(self, box: Box, news: dict[str, Any]) -> None:
        if "gone" in news:
            box.is_gone = True
            if box.state is not State.STARTING:  # else whoever starts it learns it
                self._bury(box)
        elif news.get("exited", news.get("failed")) == box.run and box.state is State.LENT:
            follower = self._followers.get(box.run)
            self._rest(box)
            if follower is not None:
                follower.poke()

    def _bury(self, box: Box) -> None:
        if self._boxes.pop(box.name, None) is box:
            self._begin(self._mourn(box))

    async def _mourn(self, box: Box) -> None:
        follower = self._followers.get(box.run)
        if follower is not None and box.state is State.LENT:
            await follower.mourn(box, await self._obituaries.of(box.id))
        self.settle()

    async def _retire(self, run: str) -> None:
        """A run is over: its workers leave by themselves; who does not is ended with its container."""
        for box in self._of(run):
            if box.state is State.STARTING:
                box.run, box.is_expected = "", False
        deadline = time.monotonic() + LEAVE_S
        while self._of(run) and time.monotonic() < deadline:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TICK_S)
        await asyncio.gather(*(box.remove() for box in self._of(run)))

    def _of(self, run: str) -> list[Box]:
        return [box for box in self.boxes if box.run == run and box.state is not State.ENDING]

    async def adopt(self) -> None:
        """Take over what an earlier fleet left at work; remove what does not answer."""
        with contextlib.suppress(*ENGINE_ERRORS):
            wanted: dict[str, Any] = {"label": [f"{labels.HOME}={self._home}", f"{labels.HOST}={self._mark}"]}
            found = await asyncio.to_thread(connect().containers.list, all=True, filters=wanted)
            await asyncio.gather(*(self._adopt_one(container) for container in found))

    async def _adopt_one(self, container: Any) -> None:
        told = container.labels
        box = Box(name=told[labels.NAME], spec=Spec.from_json(told[labels.SPEC]), hear=self._hear, id=container.id)
        try:
            if container.status != "running":
                raise LaunchError("it does not run")
            runs = await box.adopt(container.id)
        except ENGINE_ERRORS:
            await box.remove()
            return
        self._boxes[box.name], box.n_lent = box, 1
        box.run, box.state = (runs[0], State.LENT) if runs else ("", State.IDLE)
        box.idle_since = time.monotonic()

    async def care(self) -> None:
        """End who was idle for too long; let the others know that somebody is here."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            idle = [box for box in self.boxes if box.state is State.IDLE]
            late = [box for box in self.boxes if box.state is State.ENDING and now - box.idle_since > LEAVE_S]
            self._end([box.name for box in (*idle, *late) if box in late or now - box.idle_since > box.idle_s])
            if now - self._pinged > PING_S:
                self._pinged = now
                for box in self.boxes:
                    await box.send({"who": True})


def _answers() -> bool:
    """Whether there is an engine."""
    try:
        return bool(connect().ping())
    except ENGINE_ERRORS:
        return False
