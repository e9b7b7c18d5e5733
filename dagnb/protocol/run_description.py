"""The description of a run: one schema, its writer and its reader; and counts and errors of a look.

`describe` writes it as JSON into the submission, `RunDescription.read` reads it back: in the
process that submitted the run, in one that attaches, in an agent, and years later from the
history. So a key is never renamed, and a key that an older release did not write has a default.

    describe(plan, ...) --> {"name": ..., "names": [...], ..., "seal": hex} --> RunDescription.read

The seal signs all the rest. The description names the results and their order, so values are only
unpickled after `verify`.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dagnb.errors import VersionMismatchError
from dagnb.graph.brief import brief
from dagnb.graph.dag import NO_OPTIONS, Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.payload import Signer
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.plan import Forecast, Plan, Step, Way, WorkerTerms
from dagnb.planning.planner import Pool
from dagnb.protocol.invocation import python_version
from dagnb.protocol.messages import Observation, TaskState
from dagnb.protocol.naming import TaskName
from dagnb.protocol.program import Program

_STATES = {state.value: state.word for state in TaskState}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """A run, as its submission describes it. Sequences have one item for each step.

    names, functions: of each step and of its function; `count-0'` is a copy of `count-0`.
    copy_of: the first step that computes the same task; None for that step itself.
    ordinals: number of the call among the calls of its function, from 0.
    is_single: the result is one value, not a tuple.
    structure: pickle of the structure for the results; only verified bytes may be unpickled.
    deadline_s: as submitted, None without one.
    resources: label of the step's; empty when all have the default. needs: label -> resources.
    codes: lasting hash of the function, see graph.identity. keys: of the call, see graph.lineage.
    workers: of pinned steps; empty when all steps float. priorities: smaller is more urgent.
    holding: workers that hold their order.
    ways: as in the plan.
    platform: name of the launcher. pool: what the plan was made for.
    forecast: of the plan, which the client makes beside the run: the history has it, the store not.
    meta: the JSON that all this was read from.
    """

    name: str
    planner: str
    names: tuple[str, ...]
    functions: tuple[str, ...]
    upstream: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    is_single: bool
    copy_of: tuple[int | None, ...] = ()
    ordinals: tuple[int, ...] = ()
    structure: bytes = field(default=b"", repr=False)
    deadline_s: float | None = None
    resources: tuple[str, ...] = ()
    needs: Mapping[str, Resources] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    workers: tuple[str | None, ...] = ()
    priorities: tuple[int, ...] = ()
    holding: tuple[str, ...] = ()
    ways: Mapping[tuple[int, int], Way] = field(default_factory=dict)
    platform: str = ""
    pool: Pool | None = None
    forecast: Forecast | None = None
    meta: str = field(default="", repr=False, compare=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Derive from the names what earlier releases did not write."""
        if not self.copy_of:
            tasks = [name.rstrip("'") for name in self.names]
            object.__setattr__(self, "copy_of", _first_steps(tasks))
        if not self.ordinals:
            ordinals = tuple(TaskName.of(name).ordinal for name in self.names)
            object.__setattr__(self, "ordinals", ordinals)

    def needs_of(self, step: int) -> Resources:
        """Returns the resources of the worker of a step."""
        return self.needs.get(self.resources[step], DEFAULT) if self.resources else DEFAULT

    @property
    def plan(self) -> Plan:
        """The plan as it was carried out, on the graph of steps: a copy is a task of its own."""
        steps = []
        for step, upstream in enumerate(self.upstream):
            steps.append(
                Step(
                    task=step,
                    upstream=upstream,
                    worker=self.workers[step] if self.workers else None,
                    resources=self.needs_of(step),
                    priority=self.priorities[step] if self.priorities else step,
                )
            )
        return Plan(
            dag=self.dag,
            steps=tuple(steps),
            planner=self.planner,
            ways=self.ways,
            workers=dict.fromkeys(self.holding, WorkerTerms(hold=True)),
        )

    @property
    def dag(self) -> Dag:
        """The graph of the steps, to be drawn; it holds no functions. O(steps + edges)."""
        calls = []
        for step, name in enumerate(self.names):
            needs = self.needs_of(step)
            calls.append(
                Call(
                    name=name,
                    function=self.functions[step],
                    upstream=self.upstream[step],
                    options=NO_OPTIONS if needs == DEFAULT else TaskOptions(resources=needs),
                )
            )
        return Dag(tuple(calls), self.sinks)

    @classmethod
    def read(cls, meta: str) -> RunDescription:
        """Read the JSON of a submission, of this release or an earlier one."""
        values = json.loads(meta)
        needs = _needs_from_json(values.get("needs", {}))
        forecast = values.get("forecast")
        return cls(
            meta=meta,
            name=values["name"],
            planner=values["planner"],
            names=tuple(values["names"]),
            functions=tuple(values["functions"]),
            upstream=tuple(map(tuple, values["upstream"])),
            sinks=tuple(values["sinks"]),
            is_single=values.get("single", len(values["sinks"]) == 1),
            copy_of=tuple(values.get("copy_of", ())),
            ordinals=tuple(values.get("ordinals", ())),
            structure=base64.b64decode(values.get("structure", "")),
            deadline_s=values.get("deadline_s"),
            resources=tuple(values.get("resources", ())),
            needs=needs,
            # The JSON has each hash once, however many steps call the function.
            codes=tuple(values["codes"][number] for number in values.get("code", ())),
            keys=tuple(values.get("keys", ())),
            workers=tuple(values.get("workers", ())),
            priorities=tuple(values.get("priorities", ())),
            holding=tuple(values.get("holding", ())),
            ways=_ways_from_json(values.get("ways", {})),
            platform=values.get("platform", ""),
            pool=_pool_from_json(values.get("pool"), needs),
            forecast=Forecast(**forecast) if forecast else None,
        )

    def with_forecast(self, forecast: Forecast) -> RunDescription:
        """Returns the description with the forecast of its plan. Its JSON has no seal any more."""
        values = json.loads(self.meta)
        values.pop("seal", None)
        meta = json.dumps({**values, "forecast": asdict(forecast)})
        return replace(self, forecast=forecast, meta=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """The part of a description that is neither in the plan nor in the program.

    platform: name of the launcher. pool: what the plan was made for.
    structure: pickle of the structure for the results, see graph.targets; b'' for none.
    """

    deadline_s: float | None = None
    platform: str = ""
    pool: Pool | None = None
    structure: bytes = b""

    __repr__ = brief


def describe(
    plan: Plan,
    name: str,
    program: Program,
    signer: Signer,
    run: str,
    details: RunDetails = RunDetails(),
) -> str:
    """Returns the JSON that RunDescription.read reads, signed. O(steps + edges)."""
    needs = sorted(plan.needs, key=Resources.label)
    calls = plan.dag.calls
    labels: list[str] = []
    if any(map(Resources.label, needs)):
        labels += [step.resources.label() for step in plan.steps]
    copy_of = _first_steps([step.task for step in plan.steps])
    values = {
        "name": name,
        "planner": plan.planner,
        "python": python_version(),
        "header": program.header,
        "names": plan.names,
        "functions": [calls[step.task].function for step in plan.steps],
        "copy_of": copy_of if copy_of.count(None) < len(copy_of) else [],
        "ordinals": program.ordinals,
        "codes": program.codes,
        "code": program.code,
        "keys": program.keys,
        "upstream": [step.upstream for step in plan.steps],
        "workers": [] if plan.is_floating else [step.worker for step in plan.steps],
        "priorities": [step.priority for step in plan.steps],
        "holding": [name for name, terms in plan.workers.items() if terms.hold],
        "ways": _ways_to_json(plan),
        "sinks": plan.sinks,
        "resources": labels,
        "needs": _needs_to_json(needs),
        "structure": base64.b64encode(details.structure).decode(),
        "deadline_s": details.deadline_s,
        "platform": details.platform,
        "pool": _pool_to_json(details.pool),
    }
    text = json.dumps(values)
    # Anyone may read the JSON without the key. "story:" is the name in stored runs.
    mac = signer.signature(f"story:{run}", text.encode())
    # As json.dumps would write it with one more key, without writing the others again.
    return f'{text[:-1]}, "seal": "{mac.hex()}"}}'


def verify(meta: str, signer: Signer, run: str) -> None:
    """Raises SignatureError when the description lacks this user's signature.

    It names the results and their order, so a forged one could swap values. Raises
    VersionMismatchError when another Python pickled the results: see check_python.
    """
    values = json.loads(meta)
    mac = bytes.fromhex(values.pop("seal", ""))
    # The order of the keys is that of the writer, so dumping what was read gives the same bytes.
    signer.open(f"story:{run}", mac + json.dumps(values).encode())
    check_python(meta)


def check_python(meta: str) -> None:
    """Raises VersionMismatchError when another minor version of Python pickled the values.

    A function among them holds byte code of that version, and this process would end by a
    segmentation fault. Runs of releases that did not note their version pass.
    """
    theirs, ours = json.loads(meta).get("python", ""), python_version()
    if theirs and theirs != ours:
        cure = (
            f"Read its values with {theirs}, or run it again here; "
            "its states and errors can be looked at."
        )
        raise VersionMismatchError(ours, theirs, cure)


def _first_steps(tasks: Sequence[object]) -> tuple[int | None, ...]:
    """Returns for each step the first one that computes the same task, None for that one."""
    first: dict[object, int] = {}
    steps: list[int | None] = []
    for step, task in enumerate(tasks):
        steps.append(first.get(task))
        first.setdefault(task, step)
    return tuple(steps)


def _needs_to_json(needs: Sequence[Resources]) -> dict[str, Any]:
    return {r.label(): [r.cpus, r.memory_mb, r.requirements, r.network] for r in needs}


def _needs_from_json(lines: Mapping[str, Any]) -> dict[str, Resources]:
    needs = {}
    for label, (cpus, memory_mb, requirements, network) in lines.items():
        needs[label] = Resources(
            cpus=cpus, memory_mb=memory_mb, requirements=tuple(requirements), network=network
        )
    return needs


def _ways_to_json(plan: Plan) -> dict[str, list[int]]:
    """Returns way -> upstream step, step of each edge that values take so, one after the other."""
    edges: dict[str, list[int]] = {}
    for edge, way in plan.ways.items():
        edges.setdefault(way.value, []).extend(edge)
    return edges


def _ways_from_json(values: Mapping[str, Sequence[int]]) -> dict[tuple[int, int], Way]:
    ways = {}
    for way, steps in values.items():
        for upstream, step in zip(steps[::2], steps[1::2], strict=True):
            ways[upstream, step] = Way(way)
    return ways


def _pool_to_json(pool: Pool | None) -> dict[str, Any] | None:
    """Returns the fields of a pool; infinity, which JSON has no word for, as null."""
    if pool is None:
        return None
    values: dict[str, Any] = {}
    for each in fields(pool):
        value = getattr(pool, each.name)
        values[each.name] = None if value == math.inf else value
    values["warm"] = {resources.label(): n for resources, n in pool.warm.items()}
    return values


def _pool_from_json(values: dict[str, Any] | None, needs: Mapping[str, Resources]) -> Pool | None:
    """Returns the pool. Warm workers of resources that the plan does not use are left out."""
    if not values:
        return None
    pool = dict(values)
    warm = {needs[label]: n for label, n in pool.pop("warm", {}).items() if label in needs}
    for name in ("linger_s", "keep_alive_s"):
        if pool.get(name) is None:
            pool[name] = math.inf
    # Workers of earlier releases took one task at a time.
    pool.setdefault("batches", False)
    return Pool(**pool, warm=warm)


def counts(seen: Observation) -> dict[str, int]:
    """Returns the number of tasks by the word of their state; states without tasks are left out."""
    numbers = Counter(seen.states)
    return {word: numbers[value] for value, word in _STATES.items() if numbers[value]}
