"""What the submission and the errors key say of a run, read back: names, edges, counts, errors."""

from __future__ import annotations

import json
import linecache
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from dagnb.errors import Frame, TaskError
from dagnb.graph.dag import Call, Dag
from dagnb.protocol.messages import Observation, TaskState

_STATES = {state.value: state.word for state in TaskState}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the submission says of a run: names, functions and edges by position of the step."""

    name: str
    planner: str
    names: tuple[str, ...]
    functions: tuple[str, ...]
    upstream: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    is_single: bool

    @property
    def dag(self) -> Dag:
        """The graph of the steps, to be drawn; it holds no functions. O(steps + edges)."""
        told = zip(self.names, self.functions, self.upstream, strict=True)
        return Dag(tuple(Call(name=name, function=function, upstream=u) for name, function, u in told), self.sinks)

    @classmethod
    def read(cls, meta: str) -> Story:
        """From the JSON of the submission."""
        told = json.loads(meta)
        return cls(
            name=told["name"],
            planner=told["planner"],
            names=tuple(told["names"]),
            functions=tuple(told["functions"]),
            upstream=tuple(map(tuple, told["upstream"])),
            sinks=tuple(told["sinks"]),
            is_single=told.get("single", len(told["sinks"]) == 1),
        )


def counts(seen: Observation) -> dict[str, int]:
    """state word -> number of tasks"""
    found = Counter(seen.states)
    return {word: found[value] for value, word in _STATES.items() if found[value]}


def errors_of(seen: Observation, story: Story) -> list[TaskError]:
    """The errors key as TaskErrors, source lines of notebook cells filled in from this process."""
    last: dict[int, int] = {}
    for task, attempt in seen.errors:
        last[task] = max(attempt, last.get(task, 0))
    found = []
    for (task, attempt), text in seen.errors.items():
        told = json.loads(text)
        final = last[task] == attempt and seen.states[task] == TaskState.FAILED
        found.append(_error(told, story.names[task], attempt, final))
    return sorted(found, key=lambda error: (error.at, error.task, error.attempt))


def _error(told: dict[str, Any], task: str, attempt: int, final: bool) -> TaskError:
    frames = tuple(_with_source(Frame(**frame)) for frame in told.get("frames", ()))
    known = {
        name: told[name]
        for name in ("stderr_tail", "stdout_tail", "exit_code", "signal", "at")
        if told.get(name) is not None
    }
    return TaskError(
        task=task,
        attempt=attempt,
        worker=told.get("worker", ""),
        type=told["type"],
        message=told["message"],
        frames=frames,
        traceback=tuple(told.get("traceback", ())),
        final=final,
        **known,
    )


def _with_source(frame: Frame) -> Frame:
    return frame if frame.source else replace(frame, source=linecache.getline(frame.file, frame.line).strip())
