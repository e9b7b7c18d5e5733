"""A machine and a run on a real server, compared after each of the same calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from dagnb.protocol.machine import Machine
from dagnb.protocol.messages import (
    Address,
    Charge,
    Commit,
    Death,
    Failure,
    Record,
    Reply,
    Submission,
    TaskState,
)
from dagnb.storage.keys import chunk_key, run_prefix, small_field
from dagnb.storage.redis import RedisStore
from tests.services.mirror import (
    Blob,
    SteeredLink,
    blobs_at,
    machine_state,
    remove_small,
    reply_state,
    store_state,
)

NAMESPACE = "diff"
INSTANCES = ("i1", "i2", "i3")
LEASE_S = 8.0


@dataclass
class Tally:
    runs: int = 0
    steps: int = 0
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class Server:
    """The store under test and the loop it lives in."""

    runner: asyncio.Runner
    store: RedisStore
    link: SteeredLink
    tally: Tally = field(default_factory=Tally)


Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""Name of a step, what both take, what both take by name"""


class Pair:
    """A machine and a run in the server, which are told the same."""

    def __init__(
        self, server: Server, submission: Submission, draw: Callable[[st.SearchStrategy[Any]], Any]
    ) -> None:
        self.server, self.draw, self.run = server, draw, submission.run
        self.prefix = run_prefix(NAMESPACE, self.run)
        self.now, self.n_calls, self.n_events = 1000.5, 0, 0
        self.blobs: set[Blob] = set()
        self.last: Call | None = None
        self.story = [
            repr([Record.unpack(record) for record in submission.records]),
            repr(submission.queues),
        ]
        self.steer()
        server.runner.run(server.store.submit(submission))
        self.machine = Machine(submission, self.now, server.link.fresh, self.has_blob)
        self.compare("submit")

    def has_blob(self, task: int, address: Address) -> bool:
        return self.blobs.issuperset(blobs_at(task, address))

    def steer(self) -> None:
        self.n_calls += 1
        self.server.link.now, self.server.link.fresh = self.now, f"f{self.n_calls}"

    def step(self) -> None:
        """One random step on both sides, then the comparison."""
        self.now += self.draw(st.sampled_from((0.0, 0.125, 0.25, 0.5, 1.0, 4.0, 8.0, 8.5)))
        kinds = (
            "register",
            *["complete"] * 5,
            "fail",
            "lost",
            "lost",
            "heartbeat",
            "reap",
            "dead",
            "give_back",
        )
        kind = self.draw(st.sampled_from((*kinds, "evict", "again", "cancel", "put", "record")))
        if kind in ("evict", "put", "record"):
            getattr(self, kind)()
            self.compare(kind)
            return
        call = self.last if kind == "again" and self.last is not None else self.call_of(kind)
        self.make(call)
        self.compare(kind)

    def make(self, call: Call) -> None:
        self.last = call
        name, args, options = call
        self.story.append(f"{self.now}: {name} {args} {options}")
        if name == "complete":
            self.blobs |= {
                b
                for c in args[1]
                if c.blob is not None and self.is_open(c)
                for b in blobs_at(c.task, c.address)
            }
        self.steer()
        theirs = self.server.runner.run(
            getattr(self.server.store, name)(self.run, *args, **options)
        )
        fresh = {} if name == "cancel" else {"fresh": self.server.link.fresh}
        ours = getattr(self.machine, name)(*args, now=self.now, **fresh, **options)
        self.settle()
        if isinstance(ours, Reply):
            assert reply_state(theirs) == reply_state(ours), "\n".join(self.story)
            self.check_inputs(theirs)
        else:
            assert theirs == ours, name

    def is_open(self, commit: Commit) -> bool:
        """A result that comes along is kept only if its commit counts."""
        over = self.machine.state.value != "running" or self.machine.is_overdue(self.now)
        return not over and self.machine.states[commit.task].value in "WRXB"

    def settle(self) -> None:
        for task, address in self.machine.discarded:
            self.blobs.difference_update(blobs_at(task, address))
        self.machine.discarded.clear()

    def check_inputs(self, reply: Reply) -> None:
        for offer in reply.offers:
            for i in offer.inputs:
                rides = i.address.n_chunks == 0 and self.has_blob(i.task, i.address)
                assert i.blob == (b"v" if rides else None)

    def compare(self, kind: str) -> None:
        ours = machine_state(self.machine, self.n_events, self.blobs)
        theirs = self.server.runner.run(store_state(self.server.link, NAMESPACE, self.machine))
        different = {
            name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]
        }
        assert not different, "\n".join((*self.story, f"after {kind} (theirs, ours)"))
        self.n_events = len(self.machine.events)
        self.machine.hints.clear()
        self.server.tally.steps += 1
        self.server.tally.kinds[kind] = self.server.tally.kinds.get(kind, 0) + 1

    # ---- what is asked ----

    def act(self, what: str, instance: str, task: int, missing: int) -> Call:
        """One act of a story."""
        if what == "register":
            return "register", (instance,), {"lease_s": LEASE_S}
        if what == "fail":
            failure = Failure(task=task, attempt=self.machine.attempt(task), error="{}")
            return "fail", (instance, failure), {}
        if what == "lost":
            self.remove(missing, 0)
            return "lost", (instance, task, [missing]), {}
        commit = Commit(task=task, address=Address(f"t{task}", 1), blob=b"v")
        if what == "keep":
            commit = Commit(task=task, address=Address(f"k{task}", 1), is_kept=True)
        return "complete", (instance, [commit]), {}

    def call_of(self, kind: str) -> Call:
        call: Call = getattr(self, f"draw_{kind if kind != 'again' else 'reap'}")()
        return call

    def any_task(self, *preferred: int) -> int:
        everything = st.integers(0, len(self.machine.records) - 1)
        some = st.sampled_from(preferred) if preferred else everything
        task: int = self.draw(some if self.draw(st.integers(0, 4)) else everything)
        return task

    def instance(self) -> str:
        name: str = self.draw(st.sampled_from(INSTANCES))
        return name

    def busy(self) -> str:
        """An instance, more likely one that runs something."""
        busy = [i for i, tasks in self.machine.running.items() if tasks]
        name: str = (
            self.draw(st.sampled_from(busy))
            if busy and self.draw(st.integers(0, 5))
            else self.instance()
        )
        return name

    def options(self) -> dict[str, Any]:
        return {"want": self.draw(st.sampled_from((1, 1, 2, 3)))}

    def address(self, task: int) -> Address:
        known = self.machine.results.get(task)
        if known is not None and self.draw(st.booleans()):
            return known
        chunks = self.draw(st.sampled_from((0, 0, 2)))
        return Address(self.draw(st.sampled_from(("ta", "tb", "tc"))) + str(chunks), 1, chunks)

    def draw_register(self) -> Call:
        instance, worker = self.instance(), None
        invoked = self.machine.roster.invoked
        if invoked and not self.draw(st.integers(0, 2)):
            member = self.draw(st.sampled_from(sorted(invoked)))
            nonce = invoked[member][1] if self.draw(st.integers(0, 3)) else "f0:9"
            worker = (self.machine.roster.name(member), nonce)
        return "register", (instance,), {**self.options(), "lease_s": LEASE_S, "worker": worker}

    def draw_complete(self) -> Call:
        instance = self.busy()
        running = self.machine.running.get(instance, [])
        n_commits = self.draw(st.sampled_from((1, 1, 1, 0, 2)))
        late = (
            sorted(self.machine.due) if not self.draw(st.integers(0, 4)) else []
        )  # whoever lost it may still commit it
        tasks = list(dict.fromkeys(self.any_task(*(late or running)) for _ in range(n_commits)))
        commits = []
        for task in tasks:
            address, way = (
                self.address(task),
                self.draw(st.sampled_from(("along", "along", "before", "not"))),
            )
            if self.machine.records[task].together and self.draw(st.integers(0, 3)):
                commits.append(Commit(task=task, address=Address("tk", 1), is_kept=True))
                continue
            along = way == "along" and address.n_chunks == 0
            if not along and way != "not":
                self.bring(task, address)
            commits.append(Commit(task=task, address=address, blob=b"v" if along else None))
        return "complete", (instance, commits), self.options()

    def draw_give_back(self) -> Call:
        instance = self.busy()
        task = self.any_task(*self.machine.running.get(instance, []))
        attempt = self.machine.attempt(task) - (not self.draw(st.integers(0, 5)))
        return "give_back", (instance, task, attempt), {}

    def draw_fail(self) -> Call:
        instance = self.busy()
        task = self.any_task(*self.machine.running.get(instance, []))
        attempt = self.machine.attempt(task) - (not self.draw(st.integers(0, 5)))
        delay_s = self.draw(st.sampled_from((0.0, 0.0, 0.0, 0.25, 0.25, 3.0, 3.0, None)))
        return (
            "fail",
            (instance, Failure(task=task, attempt=attempt, error="{}", delay_s=delay_s)),
            self.options(),
        )

    def draw_lost(self) -> Call:
        """Mostly a running task whose inputs really go away, for that leads farthest."""
        reading = [t for t in self.machine.owner if self.machine.records[t].upstream]
        task = self.any_task(*sorted(reading))
        instance = (
            self.machine.owner.get(task, "") if self.draw(st.integers(0, 5)) else self.instance()
        )
        upstream = self.machine.records[task].upstream
        missing = [u for u in upstream if self.draw(st.integers(0, 3))]
        for up in missing:
            if self.draw(st.integers(0, 3)):
                self.remove(up, 0)
                for above in self.machine.records[up].upstream[:1]:
                    self.remove(above, 0)
        return "lost", (instance or self.instance(), task, missing), self.options()

    def draw_heartbeat(self) -> Call:
        return (
            "heartbeat",
            (sorted(self.draw(st.sets(st.sampled_from(INSTANCES)))),),
            {"lease_s": LEASE_S},
        )

    def draw_reap(self) -> Call:
        return "reap", (), {}

    def draw_cancel(self) -> Call:
        if self.draw(st.integers(0, 4)):
            return self.draw_complete()
        return "cancel", ("enough",), {}

    def draw_dead(self) -> Call:
        instance = self.busy()
        running = self.machine.running.get(instance, [])
        task = self.draw(st.sampled_from([None, *running]))
        charge = self.draw(st.sampled_from(tuple(Charge)))
        delay_s = self.draw(st.sampled_from((0.0, 0.5, 0.5, None)))
        death = Death(
            instance=instance,
            task=task,
            charge=charge,
            error='{"type": "WorkerDied"}',
            delay_s=delay_s,
        )
        return "dead", (death,), {}

    # ---- bytes that come and go outside of steps ----

    def bring(self, task: int, address: Address) -> None:
        """Store a result ahead of its commit, whatever becomes of it."""
        is_sink = self.machine.records[task].is_sink
        commands: list[tuple[Any, ...]] = [
            ("SET", chunk_key(self.prefix, task, address.token, i), b"v", "PX", 60_000)
            for i in range(address.n_chunks)
        ]
        if self.machine.state.value == "running" and not commands:
            commands = [
                ("HSET", self.prefix + "vz"[is_sink], small_field(task, address.token), b"v")
            ]
        if commands:
            self.server.runner.run(self.server.link.ask(commands))
            self.blobs.update(blobs_at(task, address))

    def record(self) -> None:
        """A client launched workers, and uploads a span."""
        self.story.append(f"{self.now}: record")
        self.steer()
        self.server.runner.run(self.server.store.record(self.run, b"span"))
        self.machine.take_part(now=self.now)
        self.settle()

    def put(self) -> None:
        task = self.any_task()
        self.bring(task, self.address(task))

    def evict(self) -> None:
        """Delete the bytes of a result, or one chunk of them, behind both backs."""
        if self.machine.results:
            task = self.draw(st.sampled_from(sorted(self.machine.results)))
            self.remove(task, self.draw(st.integers(-1, 1)))

    def remove(self, task: int, chunk: int) -> None:
        address = self.machine.results.get(task)
        if address is None or self.machine.states[task] is not TaskState.DONE:
            return
        blob = blobs_at(task, address)[chunk % max(1, address.n_chunks)]
        runner, link = self.server.runner, self.server.link
        if blob[2] < 0:
            runner.run(remove_small(link, self.prefix, task, address))
        else:
            key = chunk_key(self.prefix, task, address.token, blob[2])
            runner.run(link.ask([("DEL", key)]))
        self.blobs.discard(blob)
