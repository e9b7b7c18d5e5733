"""Things to look at, and how to look into a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

from dagnb.graph.dag import Dag
from dagnb.graph.resources import DEFAULT, Resources
from dagnb.planning.plan import Plan, Step
from dagnb.planning.planner import Costs, Pool, Problem
from dagnb.protocol.messages import Observation, RunState
from dagnb.protocol.run_description import RunDescription
from dagnb.trace.trace import Phase, Span, Trace
from dagnb.views.snapshot import Snapshot
from tests.unit.known_costs import MEASURED

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "</title></svg>",
    "a&b\"c'd]]>",
    "\x1b[31mred\x00",
)
"""names nobody should get away with"""


class Tags(HTMLParser):
    """What a browser makes of a page: its tags and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def job(n: int = 4) -> Dag:
    """scan -> count-0 ... count-(n-1) -> join -> report
    `-> stats ------------------/
    """
    counts = [f"count-{i}" for i in range(n)]
    names = ["scan", *counts, "stats", "join", "report"]
    edges = [("scan", "stats"), ("stats", "join"), ("join", "report")]
    edges += [edge for name in counts for edge in (("scan", name), (name, "join"))]
    return Dag.from_edges(names, edges, functions=[name.split("-")[0] for name in names])


def pinned(dag: Dag, workers: Sequence[str], *, resources: Resources = DEFAULT) -> Plan:
    """Tasks dealt to the workers in turn."""
    steps = [
        Step(
            task=i,
            upstream=call.upstream,
            worker=workers[i % len(workers)],
            resources=resources,
            priority=i,
        )
        for i, call in enumerate(dag.calls)
    ]
    return Plan(dag=dag, steps=tuple(steps), planner="dealt")


def floating(dag: Dag, *, resources: Resources = DEFAULT) -> Plan:
    """Every step for any worker."""
    steps = [
        Step(task=i, upstream=call.upstream, resources=resources)
        for i, call in enumerate(dag.calls)
    ]
    return Plan(dag=dag, steps=tuple(steps), planner="loose")


def predicted(plan: Plan, **known: Any) -> Plan:
    """The plan with its problem: containers start cold, one of them warm. known: prices."""
    pool = Pool(cap=4, eager=False, linger_s=0.5, warm={DEFAULT: 1})
    measured: dict[str, Any] = {"basis": dict.fromkeys(range(len(plan.dag)), MEASURED)}
    costs = Costs(**measured | known)
    return replace(plan, problem=Problem(dag=plan.dag, costs=costs, pool=pool))


def trace(
    *spans: Span, names: Sequence[str] = ("f-0", "f-1", "g-0"), submitted_s: float = 1_000.0
) -> Trace:
    """A trace that ends with its last span."""
    end = max((span.end_s for span in spans), default=submitted_s)
    return Trace.of(spans, names, submitted_s=submitted_s, finished_s=end)


def run(
    task: int, worker: str, begin_s: float, end_s: float, phase: Phase = Phase.RUN, **more: object
) -> Span:
    """A span from second to second after submission."""
    return Span(task, worker, phase, 1_000.0 + begin_s, 1_000.0 + end_s, **more)  # type: ignore[arg-type]


def played(plan: Plan, *, run_s: float = 1.0, fetch_s: float = 0.1) -> Trace:
    """Every step fetches and runs for these times, as soon as its worker and its upstream allow."""
    free: dict[str, float] = {}
    end: dict[int, float] = {}
    spans = []
    for i, step in enumerate(plan.steps):
        worker = step.worker or "w0"
        begin = max([free.get(worker, 0.0), *(end[u] for u in step.upstream)])
        spans.append(run(i, worker, begin, begin + fetch_s, Phase.FETCH, n_bytes=1_000))
        spans.append(run(i, worker, begin + fetch_s, begin + fetch_s + run_s))
        free[worker] = end[i] = begin + fetch_s + run_s
    return trace(*spans, names=plan.names)


def parsed(svg: str) -> ET.Element:
    """The root of a well-formed picture."""
    return ET.fromstring(svg)


def titles(root: ET.Element) -> list[str]:
    """Every tooltip."""
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}title")]


def texts(root: ET.Element) -> list[str]:
    """Every text drawn."""
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]


def boxes(root: ET.Element) -> dict[str, ET.Element]:
    """label -> group of a box"""
    found = [node for node in root.iter(f"{SVG}g") if node.get("class") == "box"]
    return {texts(node)[0]: node for node in found}


def frame(box: ET.Element) -> ET.Element:
    """The border of a box."""
    return next(node for node in box.iter(f"{SVG}rect") if "frame" in (node.get("class") or ""))


def arrows(root: ET.Element) -> list[ET.Element]:
    """Every arrow."""
    return [
        node for node in root.iter(f"{SVG}path") if (node.get("class") or "").startswith("arrow")
    ]


def observed(dag: Dag, states: str, **changes: object) -> Observation:
    """One look at a run of this DAG, 6 s after submission."""
    fields: dict[str, object] = {
        "run": "01J9ZZ",
        "state": RunState.RUNNING,
        "states": states,
        "meta": "",
        "now": 1_006.0,
        "submitted_at": 1_000.0,
        "finished_at": 0.0,
        "reason": "",
        "events": (),
        "errors": {},
        "workers": {},
        "results": {},
        "n_instances": 2,
        "cursor": "1",
    }
    return Observation(**(fields | changes))  # type: ignore[arg-type]


def description_of(dag: Dag, name: str = "total") -> RunDescription:
    """What a submission says of it."""
    return RunDescription(
        name=name,
        planner="dealt",
        names=tuple(call.name for call in dag.calls),
        functions=tuple(call.function for call in dag.calls),
        upstream=tuple(call.upstream for call in dag.calls),
        sinks=tuple(dag.sinks),
        is_single=len(dag.sinks) == 1,
    )


def snapped(
    dag: Dag,
    states: str,
    *spans: Span,
    logs: Mapping[int, str] | None = None,
    name: str = "total",
    **changes: object,
) -> Snapshot:
    """A moment of a run of this DAG. changes: of the observation."""
    return Snapshot(
        description=description_of(dag, name),
        seen=observed(dag, states, **changes),
        spans=spans,
        n_chunks=1,
        logs=logs or {},
        started={},
    )


def failure(text: str, **more: object) -> str:
    """An error as the errors key holds it."""
    return json.dumps(
        {"type": "ValueError", "message": text, "worker": "w1", "stderr_tail": text, **more}
    )
