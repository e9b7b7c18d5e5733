"""A machine and a run on a real server with several kinds, which get the same calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st

from dagnb.protocol.messages import HELD
from dagnb.storage.keys import hint_name
from tests.services.mirror import State, machine_state, store_state
from tests.services.pair import NAMESPACE, Call, Pair

KINDS = ("", "1cpu", "env-a:b")


class KindPair(Pair):
    """Instances register with kinds; launchers ask for the demand; whole containers die."""

    def step(self) -> None:
        """Act as a pair does; at times ask for the demand, or start an instance that is wanted."""
        kind = self.draw(st.sampled_from(("demand", "register", "register", *["any"] * 7)))
        if kind == "any":
            super().step()
            return
        self.now += self.draw(st.sampled_from((0.0, 0.25, 8.5))) if kind == "demand" else 0.0
        self.make(("demand", (), {}) if kind == "demand" else self.draw_register())
        self.compare(kind)

    def draw_register(self) -> Call:
        """Register, mostly with a kind that is wanted, or that of the worker it was started for."""
        name, args, options = super().draw_register()
        members = {
            self.machine.roster.name(member): member for member in self.machine.roster.invoked
        }
        kinds = sorted(self.machine.roster.wanted()) or KINDS
        if options["worker"] is not None and self.draw(st.integers(0, 4)):
            kinds = [self.machine.roster.kind(members[options["worker"][0]])]
        kind = self.draw(st.sampled_from(kinds if self.draw(st.integers(0, 9)) else KINDS))
        return name, args, {**options, "kind": kind}

    def draw_dead(self) -> Call:
        """At times with its container, and nobody knows what it was at."""
        name, (death,), options = super().draw_dead()
        return name, (replace(death, task=HELD) if self.draw(st.booleans()) else death,), options

    def compare(self, kind: str) -> None:
        """Compare hints and invoked members of each kind, and the kinds of instances."""
        hints, more = self.server.runner.run(self._store_kinds())
        theirs = self.server.runner.run(store_state(self.server.link, NAMESPACE, self.machine))
        theirs["invoked"].update(more.pop("invoked"))
        theirs = {**theirs, **more, "hints": hints}
        ours = {**machine_state(self.machine, self.n_events, self.blobs), **self._machine_kinds()}
        different = {
            name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]
        }
        assert not different, "\n".join((*self.story, f"after {kind} (theirs, ours): {different}"))
        self.n_events = len(self.machine.events)
        self.machine.take_hints()
        self.server.tally.steps += 1
        self.server.tally.kinds[kind] = self.server.tally.kinds.get(kind, 0) + 1

    def _machine_kinds(self) -> State:
        machine, roster = self.machine, self.machine.roster
        hints = {"": machine.hints, **machine.kind_hints}
        over = machine.state.value != "running"
        ends = any(event.kind == "end" for event in machine.events[self.n_events :])
        wanted = roster.wanted()
        kept = {
            k: len(names) if over else min(len(names), wanted.get(k, 0))
            for k, names in hints.items()
        }
        return {
            "hints": {k: n for k, n in kept.items() if n},
            "kinds": dict(roster.kinds),
            "need": int(machine.needs() and (not over or ends)),
        }

    async def _store_kinds(self) -> tuple[dict[str, int], State]:
        """Returns hints by kind, and the rest. Takes them away, but for the hints of kind ''."""
        asked = [kind for kind in KINDS if kind]
        p, n = self.prefix, len(asked)
        answers = await self.server.link.ask(
            [
                *(("LRANGE", p + hint_name(kind), 0, -1) for kind in ("", *asked)),
                *(("ZRANGE", f"{p}inv:{kind}", 0, -1, "WITHSCORES") for kind in asked),
                ("HGETALL", p + "k"),
                ("LLEN", p + "need"),
                ("DEL", p + "need", *(p + hint_name(kind) for kind in asked)),
            ]
        )
        lists, invoked, (instances, n_need, _) = (
            answers[: n + 1],
            answers[n + 1 : 2 * n + 1],
            answers[2 * n + 1 :],
        )
        hints = {kind: names for kind, names in zip(("", *asked), lists, strict=True) if names}
        for kind, names in hints.items():
            ours = self.machine.kind_hints.get(kind, []) if kind else self.machine.hints
            assert not Counter(map(bytes.decode, names)) - Counter(ours), (kind, names, ours)
        members = [pair for flat in invoked for pair in zip(flat[::2], flat[1::2], strict=True)]
        pairs = (
            instances.items()
            if isinstance(instances, dict)
            else zip(instances[::2], instances[1::2], strict=True)
        )
        return {kind: len(names) for kind, names in hints.items()}, {
            "invoked": {
                tuple(map(int, member.decode().split("/"))): float(score)
                for member, score in members
            },
            "kinds": {name.decode(): kind.decode() for name, kind in pairs},
            "need": n_need,
        }
