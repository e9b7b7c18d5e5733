"""The configurations that are explored: SMALL in every test run, LARGE in soaks.

Shapes: one, chain, fan-out, fan-in, diamond, two sinks. A queue is PINNED, or a pool with a cap.
"""

from __future__ import annotations

from dataclasses import replace

from tests.model.configuration import Configuration, Fault

PINNED = 0

_ONE = Configuration(name="one", upstream=((),), queues=(1,), placement=(0,), sinks=(0,))
_CHAIN_2 = Configuration(
    name="chain-2", upstream=((), (0,)), queues=(1,), placement=(0, 0), sinks=(1,)
)
_CHAIN_3 = Configuration(
    name="chain-3", upstream=((), (0,), (1,)), queues=(1,), placement=(0, 0, 0), sinks=(2,)
)
_THERE_AND_BACK = replace(
    _CHAIN_3, name="a on w0, b on w1, c on w0", queues=(PINNED, PINNED), placement=(0, 1, 0)
)
_FAN_OUT = Configuration(
    name="fan-out", upstream=((), (0,), (0,)), queues=(2,), placement=(0, 0, 0), sinks=(1, 2)
)
_FAN_IN = Configuration(
    name="fan-in", upstream=((), (), (0, 1)), queues=(2,), placement=(0, 0, 0), sinks=(2,)
)
_DIAMOND = Configuration(
    name="diamond",
    upstream=((), (0,), (0,), (1, 2)),
    queues=(2,),
    placement=(0, 0, 0, 0),
    sinks=(3,),
)
_INNER_SINK = replace(_CHAIN_2, name="chain-2, both sinks", sinks=(0, 1))
_TAIL = Configuration(
    name="fan-out with a tail",
    upstream=((), (0,), (0,), (1,)),
    queues=(2,),
    placement=(0, 0, 0, 0),
    sinks=(2, 3),
)
_BRANCHES = Configuration(
    name="two branches meet",
    upstream=((), (), (1,), (0, 2)),
    queues=(1,),
    placement=(0, 0, 0, 0),
    sinks=(3,),
)
_LATE_GATE = Configuration(
    name="a on w1, its reader, c and its reader on w0",
    upstream=((), (0,), (), (2,)),
    queues=(PINNED, PINNED),
    placement=(1, 0, 0, 0),
    sinks=(1, 3),
)
_HELD = Configuration(
    name="a on w1, its reader and then c on w0, which holds its order",
    upstream=((), (0,), ()),
    queues=(PINNED, PINNED),
    placement=(1, 0, 0),
    sinks=(1, 2),
    holds=True,
)
_CROSSED = Configuration(
    name="two workers hold their orders, a b and c d, d reads a, b reads c",
    upstream=((), (), (1,), (0,)),
    queues=(PINNED, PINNED),
    placement=(0, 1, 0, 1),
    sinks=(2, 3),
    holds=True,
)
_TWO_PARTS = Configuration(
    name="two tasks apart", upstream=((), ()), queues=(1,), placement=(0, 0), sinks=(0, 1)
)
_FOUR_PARTS = Configuration(
    name="four tasks apart",
    upstream=((), (), (), ()),
    queues=(1,),
    placement=(0, 0, 0, 0),
    sinks=(0, 1, 2, 3),
)
_KINDS = Configuration(
    name="a, c for kind x, b for y",
    upstream=((), (0,), (0,)),
    queues=(2, 1),
    placement=(0, 1, 0),
    sinks=(1, 2),
    kinds=("x", "y"),
    instances=("x", "y"),
)
_SOME_KIND = replace(
    _KINDS, name="a for any, b, c for kind x", placement=(1, 0, 0), kinds=("x", "")
)
_TWO_KINDS = replace(
    _TWO_PARTS, name="two tasks apart of kind x", kinds=("x",), instances=("x", "y")
)


def _with(
    base: Configuration, suffix: str, faults: dict[Fault, int], **changes: object
) -> Configuration:
    name = f"{base.name}: {suffix}"
    return replace(base, name=name, faults=faults, **changes)  # type: ignore[arg-type]  # by name


_RUDE = {Fault.RAISE: 2, Fault.SUSPECT: 1, Fault.CANCEL: 1, Fault.LOST_REPLY: 1}
_UPSET = {Fault.RAISE: 1, Fault.SUSPECT: 1}
_ZOMBIE = {Fault.RAISE: 1, Fault.SUSPECT: 1, Fault.VANISH: 1}

SMALL = (
    _with(_ONE, "exception, suspicion, cancel", _RUDE, retries=1, delays=(1.0, None)),
    _with(_ONE, "crash, deadline", {Fault.CRASH: 1, Fault.DEADLINE: 1, Fault.RAISE: 1}, retries=1),
    _with(
        _ONE,
        "nobody starts it in time, crash, lost reply",
        {Fault.CRASH: 1, Fault.LOST_REPLY: 1},
        start_s=1.0,
    ),
    _with(
        _ONE,
        "2 crashes, stored apart",
        {Fault.CRASH: 2, Fault.VANISH: 1},
        is_small=False,
        n_instances=1,
    ),
    _with(_CHAIN_2, "crash, lost reply", {Fault.CRASH: 1, Fault.LOST_REPLY: 1}),
    _with(
        _CHAIN_2, "lost blob, stored apart", {Fault.VANISH: 1, Fault.LOST_REPLY: 1}, is_small=False
    ),
    _with(_CHAIN_2, "zombie and back-off", _ZOMBIE, queues=(2,), retries=1, delays=(1.0,)),
    _with(_CHAIN_3, "2 lost blobs", {Fault.VANISH: 2}),
    _with(_THERE_AND_BACK, "crash, suspicion", {Fault.CRASH: 1, Fault.SUSPECT: 1}),
    _with(_THERE_AND_BACK, "hints", {Fault.HINT: 1}, with_hints=True),
    _with(
        _FAN_OUT,
        "exceptions, lost blob, go on",
        {Fault.RAISE: 1, Fault.VANISH: 1},
        on_error="continue",
        is_small=False,
    ),
    _with(_FAN_OUT, "hints, one instance too many", {}, with_hints=True, n_instances=3),
    _with(_FAN_IN, "suspicion, lost reply", {Fault.SUSPECT: 1, Fault.LOST_REPLY: 1}),
    _with(
        _FAN_IN,
        "pinned, started for a worker",
        {Fault.CRASH: 1},
        queues=(PINNED, PINNED),
        placement=(0, 1, 0),
        is_bound=True,
    ),
    _with(_DIAMOND, "crash", {Fault.CRASH: 1}, queues=(2,)),
    _with(
        _DIAMOND, "mixed, hints", {}, queues=(1, PINNED), placement=(0, 1, 0, 1), with_hints=True
    ),
    _with(_INNER_SINK, "lost blob, suspicion", {Fault.VANISH: 1, Fault.SUSPECT: 1}),
    _with(
        _TAIL,
        "exception, lost blob, go on",
        {Fault.RAISE: 1, Fault.VANISH: 1},
        on_error="continue",
        is_small=False,
    ),
    _with(_FAN_IN, "exception, suspicion, go on", _UPSET, on_error="continue", queues=(1,)),
    _with(
        _FAN_IN,
        "exception, lost blob, go on",
        {Fault.RAISE: 1, Fault.VANISH: 1},
        on_error="continue",
    ),
    _with(_BRANCHES, "exception, go on", {Fault.RAISE: 1}, on_error="continue"),
    _with(_TWO_PARTS, "batches of 2, crash", {Fault.CRASH: 1, Fault.LOST_REPLY: 1}, want=2),
    _with(
        _CHAIN_3,
        "kept, crash, exception",
        {Fault.CRASH: 1, Fault.RAISE: 1},
        together=True,
        retries=1,
        delays=(0.0, 1.0),
        want=2,
    ),
    _with(
        _CHAIN_3,
        "kept one by one, crash, lost reply",
        {Fault.CRASH: 1, Fault.LOST_REPLY: 1},
        together=True,
    ),
    _with(
        _CHAIN_3,
        "kept, suspicion, lost reply, go on",
        {Fault.SUSPECT: 1, Fault.LOST_REPLY: 1, Fault.RAISE: 1},
        together=True,
        on_error="continue",
        want=2,
    ),
    _with(
        _FAN_IN,
        "kept, containers die, go on",
        {Fault.CRASH: 1, Fault.SUSPECT: 1},
        together=True,
        want=2,
        crash_budget=0,
        in_containers=True,
        on_error="continue",
    ),
    _with(
        _CHAIN_3,
        "kept behind a sink, lost blob, stored apart",
        {Fault.VANISH: 1},
        together=True,
        sinks=(0, 2),
        is_small=False,
    ),
    _with(
        _BRANCHES,
        "kept, lost blob, suspicion",
        {Fault.VANISH: 1, Fault.SUSPECT: 1},
        together=True,
        want=2,
        queues=(2,),
    ),
    _with(
        _CHAIN_3,
        "pinned, kept, crash, lost reply",
        {Fault.CRASH: 1, Fault.LOST_REPLY: 1},
        together=True,
        queues=(PINNED,),
        want=2,
    ),
    _with(
        _LATE_GATE,
        "kept one by one, crash, lost reply",
        {Fault.CRASH: 1, Fault.LOST_REPLY: 1},
        together=True,
        is_small=False,
    ),
    _with(_LATE_GATE, "kept, suspicion", {Fault.SUSPECT: 1}, together=True, want=2),
    _with(_HELD, "one instance, hints, crash", {Fault.CRASH: 1}, with_hints=True, n_instances=1),
    _with(
        _HELD,
        "exception, back-off, suspicion, go on",
        {Fault.RAISE: 2, Fault.SUSPECT: 1},
        retries=1,
        delays=(0.0, 1.0),
        on_error="continue",
    ),
    _with(
        _HELD,
        "exceptions, lost blob, go on",
        {Fault.RAISE: 2, Fault.VANISH: 1},
        on_error="continue",
        is_small=False,
    ),
    _with(
        replace(_HELD, upstream=((), (), (0,)), placement=(1, 0, 0), name="c waits for two"),
        "lost blob, suspicion, lost reply",
        {Fault.VANISH: 1, Fault.SUSPECT: 1, Fault.LOST_REPLY: 1},
        sinks=(0, 1, 2),
        is_small=False,
    ),
    _with(
        replace(
            _HELD,
            upstream=((), (), (0,)),
            placement=(1, 0, 0),
            name="a on w1, b, then its reader c on w0, held",
        ),
        "exceptions, back-off, go on",
        {Fault.RAISE: 2},
        retries=1,
        delays=(1.0,),
        on_error="continue",
    ),
    _with(
        _CROSSED, "kept, crash, lost reply", {Fault.CRASH: 1, Fault.LOST_REPLY: 1}, together=True
    ),
    _with(_FOUR_PARTS, "a fair share of 3, suspicion", {Fault.SUSPECT: 1}, want=3, queues=(2,)),
    _with(
        _TWO_PARTS,
        "late repetition, exception",
        {Fault.LATE: 1, Fault.RAISE: 1},
        retries=1,
        queues=(2,),
    ),
    _with(
        _KINDS,
        "suspicion, exception, back-off",
        {Fault.SUSPECT: 1, Fault.RAISE: 1},
        retries=1,
        delays=(1.0,),
    ),
    _with(_SOME_KIND, "hints", {}, with_hints=True, instances=("x", "x", "")),
    _with(
        _TWO_KINDS,
        "batches of 2, containers die",
        {Fault.CRASH: 1, Fault.LATE: 1},
        want=2,
        in_containers=True,
    ),
)

_WORSE = {Fault.CRASH: 1, Fault.LOST_REPLY: 1, Fault.SUSPECT: 1, Fault.VANISH: 1}
_BAD = {Fault.CRASH: 1, Fault.VANISH: 1}
_WRONG = {Fault.RAISE: 2, Fault.VANISH: 1, Fault.SUSPECT: 1}

LARGE = (
    _with(
        _ONE,
        "every fault",
        dict.fromkeys(Fault, 1) | {Fault.HINT: 0, Fault.LATE: 0},
        retries=1,
        delays=(1.0, None),
    ),
    _with(
        _ONE, "three instances, stored apart", _WORSE, n_instances=3, is_small=False, loss_budget=2
    ),
    _with(_CHAIN_2, "stored apart", _WORSE, is_small=False),
    _with(_CHAIN_2, "three instances", _WORSE, n_instances=3),
    _with(_CHAIN_2, "late repetitions", {Fault.LATE: 2, Fault.VANISH: 1, Fault.SUSPECT: 1}),
    _with(_CHAIN_3, "pool of 1", _WORSE | {Fault.VANISH: 2}),
    _with(_CHAIN_3, "exceptions", _WRONG, retries=1, delays=(0.0, 1.0), on_error="continue"),
    _with(_THERE_AND_BACK, "pinned", _WORSE),
    _with(
        _THERE_AND_BACK,
        "pinned, hints",
        {Fault.CRASH: 1, Fault.HINT: 1, Fault.LOST_REPLY: 1},
        with_hints=True,
    ),
    _with(
        _THERE_AND_BACK,
        "pinned, started for a worker",
        {Fault.CRASH: 1, Fault.LOST_REPLY: 1, Fault.LATE: 1},
        is_bound=True,
    ),
    _with(_THERE_AND_BACK, "pinned, 2 crashes", {Fault.CRASH: 2, Fault.SUSPECT: 1}, is_small=False),
    _with(_FAN_OUT, "pool of 2", _BAD),
    _with(
        _FAN_OUT,
        "go on",
        {Fault.RAISE: 1, Fault.VANISH: 1, Fault.SUSPECT: 1},
        on_error="continue",
        is_small=False,
    ),
    _with(
        _FAN_OUT,
        "mixed, late",
        {Fault.LATE: 1, Fault.CRASH: 1},
        queues=(1, PINNED),
        placement=(0, 1, 0),
    ),
    _with(_FAN_IN, "pool of 2", _BAD),
    _with(
        _FAN_IN,
        "pinned",
        {Fault.CRASH: 1, Fault.SUSPECT: 1},
        queues=(PINNED, PINNED),
        placement=(0, 1, 1),
    ),
    _with(_FAN_IN, "three instances", {Fault.CRASH: 1, Fault.LOST_REPLY: 1}, n_instances=3),
    _with(_DIAMOND, "pool of 2", {Fault.CRASH: 1, Fault.LOST_REPLY: 1}),
    _with(_DIAMOND, "pool of 1, lost blobs", {Fault.VANISH: 2, Fault.SUSPECT: 1}, queues=(1,)),
    _with(_DIAMOND, "pinned", _BAD, queues=(0, 0), placement=(0, 0, 1, 0)),
    _with(
        _DIAMOND,
        "mixed",
        {Fault.SUSPECT: 1, Fault.LOST_REPLY: 1},
        queues=(2, 0),
        placement=(0, 1, 0, 0),
    ),
    _with(
        _DIAMOND,
        "exceptions, go on",
        {Fault.RAISE: 1, Fault.VANISH: 1},
        on_error="continue",
        is_small=False,
    ),
    _with(
        _DIAMOND,
        "hints",
        {Fault.CRASH: 1, Fault.HINT: 1},
        with_hints=True,
        queues=(1, PINNED),
        placement=(0, 1, 0, 0),
    ),
    _with(_DIAMOND, "cancel, deadline", {Fault.CANCEL: 1, Fault.DEADLINE: 1, Fault.SUSPECT: 1}),
    _with(_INNER_SINK, "all", _BAD | {Fault.RAISE: 1}, on_error="continue"),
    _with(_TAIL, "go on", {Fault.RAISE: 1, Fault.VANISH: 2}, on_error="continue", is_small=False),
    _with(
        _TAIL,
        "go on, back-off",
        {Fault.RAISE: 2, Fault.VANISH: 1},
        on_error="continue",
        retries=1,
        delays=(1.0, None),
    ),
    _with(
        _BRANCHES,
        "go on",
        {Fault.RAISE: 2, Fault.VANISH: 1},
        on_error="continue",
        queues=(2,),
        is_small=False,
    ),
    _with(_KINDS, "crash, lost blob", _BAD, in_containers=True),
    _with(
        _KINDS, "hints", {Fault.CRASH: 1, Fault.HINT: 1}, with_hints=True, instances=("x", "y", "")
    ),
    _with(_CHAIN_3, "kept one by one", _WORSE, together=True),
    _with(_HELD, "all", _WORSE | {Fault.RAISE: 1}, retries=1, on_error="continue"),
    _with(_CROSSED, "suspicion, lost blob", {Fault.SUSPECT: 1, Fault.VANISH: 1}),
    _with(
        replace(_LATE_GATE, holds=True, name=f"{_LATE_GATE.name}, held"),
        "kept, exception",
        _BAD | {Fault.RAISE: 1},
        together=True,
        want=2,
        retries=1,
        delays=(0.0, 1.0),
    ),
    _with(_LATE_GATE, "kept", _BAD | {Fault.SUSPECT: 1}, together=True, want=2),
    _with(_BRANCHES, "kept", _WORSE | {Fault.RAISE: 1}, together=True, want=2, retries=1),
    _with(_TWO_PARTS, "batches of 2", _WORSE | {Fault.RAISE: 1}, want=2, retries=1),
)
