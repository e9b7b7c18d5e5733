"""What the submission and the errors key say of a run, read back: names, edges, counts, errors."""

from __future__ import annotations

import base64
import json
import linecache
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dagnb.errors import Cause, Frame, TaskError
from dagnb.graph.brief import brief
from dagnb.graph.dag import NO_OPTIONS, Call, Dag
from dagnb.graph.options import TaskOptions
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.forecast import Forecast
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Pool
from dagnb.protocol.messages import Observation, TaskState

_STATES = {state.value: state.word for state in TaskState}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What the submission says of a run: names, functions and edges by position of the step; its deadline, if any.

    structure: pickle of what the results are given in; verified bytes only may be unpickled.
    resources: label of each step's, nothing when all have the default; needs: label -> what it stands for.
    codes: lasting hash of each step's function; keys: of its call. workers: of each step, nothing when all float.
    platform: name of the launcher. meta: what all this was read from. pool: what the plan was made for; forecast: what
    was foretold; None where nobody said.
    """

    name: str
    planner: str
    names: tuple[str, ...]
    functions: tuple[str, ...]
    upstream: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    is_single: bool
    structure: bytes = field(default=b"", repr=False)
    deadline_s: float | None = None
    resources: tuple[str, ...] = ()
    needs: Mapping[str, Resources] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    workers: tuple[str | None, ...] = ()
    priorities: tuple[int, ...] = ()
    platform: str = ""
    pool: Pool | None = None
    forecast: Forecast | None = None
    meta: str = field(default="", repr=False, compare=False)

    __repr__ = brief

    def needs_of(self, step: int) -> Resources:
        """What the worker of a step has."""
        return self.needs.get(self.resources[step], DEFAULT) if self.resources else DEFAULT

    @property
    def plan(self) -> Plan:
        """The plan as it was carried out, on the graph of its steps: copies are tasks of their own."""
        steps = tuple(
            Step(
                task=step,
                upstream=upstream,
                worker=self.workers[step] if self.workers else None,
                resources=self.needs_of(step),
                priority=self.priorities[step] if self.priorities else step,
            )
            for step, upstream in enumerate(self.upstream)
        )
        return Plan(dag=self.dag, steps=steps, planner=self.planner)

    @property
    def dag(self) -> Dag:
        """The graph of the steps, to be drawn; it holds no functions. O(steps + edges)."""
        told = zip(self.names, self.functions, self.upstream, strict=True)
        return Dag(
            tuple(
                Call(name=name, function=function, upstream=u, options=self._options(step))
                for step, (name, function, u) in enumerate(told)
            ),
            self.sinks,
        )

    def _options(self, step: int) -> TaskOptions:
        needs = self.needs_of(step)
        return TaskOptions(resources=needs) if needs != DEFAULT else NO_OPTIONS

    @classmethod
    def read(cls, meta: str) -> RunDescription:
        """From the JSON of the submission."""
        told = json.loads(meta)
        return cls(
            meta=meta,
            name=told["name"],
            planner=told["planner"],
            names=tuple(told["names"]),
            functions=tuple(told["functions"]),
            upstream=tuple(map(tuple, told["upstream"])),
            sinks=tuple(told["sinks"]),
            is_single=told.get("single", len(told["sinks"]) == 1),
            structure=base64.b64decode(told.get("structure", "")),
            deadline_s=told.get("deadline_s"),
            resources=tuple(told.get("resources", ())),
            needs={label: _resources(*line) for label, line in told.get("needs", {}).items()},
            codes=tuple(told["codes"][number] for number in told.get("code", ())),
            keys=tuple(told.get("keys", ())),
            workers=tuple(told.get("workers", ())),
            priorities=tuple(told.get("priorities", ())),
            platform=told.get("platform", ""),
            pool=_pool(told),
            forecast=Forecast(**told["forecast"]) if told.get("forecast") else None,
        )


def _resources(
    cpus: float | None, memory_mb: int | None, requirements: Sequence[str], network: bool
) -> Resources:
    return Resources(
        cpus=cpus, memory_mb=memory_mb, requirements=tuple(requirements), network=network
    )


def _pool(told: dict[str, Any]) -> Pool | None:
    if not told.get("pool"):
        return None
    pool = dict(told["pool"])
    needs = {label: _resources(*line) for label, line in told.get("needs", {}).items()}
    warm = {needs[label]: n for label, n in pool.pop("warm", {}).items() if label in needs}
    endless = {name: math.inf for name in ("linger_s", "keep_alive_s") if pool.get(name) is None}
    return Pool(**{**pool, **endless, "warm": warm})


def counts(seen: Observation) -> dict[str, int]:
    """state word -> number of tasks"""
    found = Counter(seen.states)
    return {word: found[value] for value, word in _STATES.items() if found[value]}


def errors_of(seen: Observation, description: RunDescription) -> list[TaskError]:
    """The errors key as TaskErrors, source lines of notebook cells filled in from this process."""
    last: dict[int, int] = {}
    for task, attempt in seen.errors:
        last[task] = max(attempt, last.get(task, 0))
    found = []
    for (task, attempt), text in seen.errors.items():
        told = json.loads(text)
        final = last[task] == attempt and seen.states[task] == TaskState.FAILED
        found.append(_error(told, description.names[task], attempt, final))
    return sorted(found, key=lambda error: (error.at, error.task, error.attempt))


def _error(told: dict[str, Any], task: str, attempt: int, final: bool) -> TaskError:
    known = {
        name: told[name]
        for name in ("stderr_tail", "stdout_tail", "exit_code", "signal", "at")
        if told.get(name) is not None
    }
    return TaskError(
        task=task,
        attempt=attempt,
        worker=told.get("worker", ""),
        traceback=tuple(told.get("traceback", ())),
        mro=tuple(told.get("mro", ())),
        final=final,
        **known,
        **_raised(told),
    )


def _raised(told: dict[str, Any]) -> dict[str, Any]:
    """What a TaskError and each of its causes say of an exception. Fields that the writer did not know are empty."""
    return {
        "type": told["type"],
        "message": told["message"],
        "frames": tuple(map(_frame, told.get("frames", ()))),
        "notes": tuple(told.get("notes", ())),
        "causes": tuple(
            Cause(how=cause["how"], **_raised(cause)) for cause in told.get("causes", ())
        ),
    }


def _frame(told: dict[str, Any]) -> Frame:
    """Its line filled in from this process, where the writer had none."""
    known = {name: value for name, value in told.items() if name in _FRAME}
    frame = Frame(**known | {side: tuple(told.get(side, ())) for side in ("before", "after")})
    return (
        frame
        if frame.source
        else replace(frame, source=linecache.getline(frame.file, frame.line).rstrip())
    )


_FRAME = {field.name for field in fields(Frame)}
