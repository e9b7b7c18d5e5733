"""A run on one page: a file that needs no network, no server and no script, and can be sent to anybody."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from dagnb.errors import TaskError
from dagnb.graph.dag import Dag
from dagnb.planning.plan import Plan
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace
from dagnb.views.errors import errors_html
from dagnb.views.graph import graph_svg
from dagnb.views.markup import element, escaped
from dagnb.views.page import fragment, meter, pre, scrolled, table
from dagnb.views.palette import STATES
from dagnb.views.plan import plan_svg
from dagnb.views.show import picture_or
from dagnb.views.sketch import icon
from dagnb.views.text import counts_text, dag_text, plan_text
from dagnb.views.timeline import functions_of, timeline_svg
from dagnb.views.wording import bytes_text, counted, seconds_text

MAX_FUNCTIONS = 40
"""so many functions have a row"""

_PAGE = (
    "html,body{margin:0}body.dagnb{background:var(--dagnb-bg)}"
    "body>.dagnb{max-width:1100px;margin:0 auto;padding:28px 24px 60px}"
)
_MEANING = {
    Phase.SUBMIT: "the client wrote DAG and functions",
    Phase.INVOKE: "workers started",
    Phase.QUEUE: "ready tasks waited for a worker",
    Phase.FETCH: "inputs came from the store",
    Phase.LOAD: "inputs were unpickled",
    Phase.RUN: "your functions ran",
    Phase.DUMP: "results were pickled",
    Phase.STORE: "large results went into the store",
    Phase.COMMIT: "tasks were marked done",
}


def report_html(
    *,
    run: str,
    name: str,
    state: str,
    dag: Dag,
    plan: Plan | None = None,
    trace: Trace | None = None,
    predicted: Trace | None = None,
    states: Mapping[int, str] | None = None,
    errors: Sequence[TaskError] = (),
    created: str = "",
) -> str:
    """The page. states: by position in the DAG; predicted: what the plan's simulation gave; created: when, as text."""
    body = [
        _head(run, name, state, trace, created),
        _counts(dag, states),
        _section("Graph", _drawn(lambda: graph_svg(dag, states), lambda: dag_text(dag))),
        _section("Errors", errors_html(errors)) if errors else "",
    ]
    if trace is not None:
        functions = functions_of(trace) if plan is None else [plan.dag.calls[step.task].function for step in plan.steps]
        body.append(_section("Timeline", scrolled(timeline_svg(trace, functions, width=1050, planned=predicted))))
        body.append(_section("Where the time went", _phases(trace)))
        body.append(_section("Functions", _functions(trace, functions)))
    if plan is not None:
        body.append(_section("Plan", _drawn(lambda: plan_svg(plan, predicted), lambda: plan_text(plan))))
    title = element("title", escaped(f"{name}: {state}"))
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    page = element("body", fragment(element("style", _PAGE), *body), class_="dagnb")
    return f'<!doctype html>\n<html lang="en"><head>{meta}{title}</head>{page}</html>\n'


def _section(title: str, *body: str) -> str:
    return element("section", element("h2", title), *body)


def _drawn(draw: Callable[[], str], say: Callable[[], str]) -> str:
    """The picture, or the text and how to get the picture."""
    picture, missing = picture_or(draw)
    return scrolled(picture) if picture else element("p", escaped(missing), class_="text-dim") + pre(say())


def _head(run: str, name: str, state: str, trace: Trace | None, created: str) -> str:
    """Name, state, run, and the numbers of the whole."""
    look = f"text-{state}" if state in STATES else "text-dim"
    title = element("h1", escaped(name), " ", element("span", escaped(state), class_=look))
    facts = [f"run {run}", *([created] if created else [])]
    if trace is not None:
        facts.append(f"makespan {seconds_text(trace.makespan_s)}")
        facts.append(counted(len(trace.workers), "worker"))
        facts.append(f"{trace.ran_parallel():.1f} functions at a time")
        facts.append(f"{bytes_text(trace.moved_bytes())} through the store")
    return title + element("p", escaped(" · ".join(facts)), class_="text-dim")


def _counts(dag: Dag, states: Mapping[int, str] | None) -> str:
    """A table of how many tasks are in which state, and the same in a sentence."""
    if states is None:
        return element("p", escaped(counted(len(dag), "task")))
    counts = Counter(states.get(position, "waiting") for position in range(len(dag)))
    present = [(state, counts[state]) for state in STATES if counts[state]]
    rows = [(_stated(state), f"{n:,}", meter(n / len(dag), state)) for state, n in present]
    return element("p", escaped(counts_text(counts))) + table(("state", "tasks", ""), rows, right=(1,))


def _stated(state: str) -> str:
    """A state with its icon."""
    mark = element("svg", icon(state), class_="dagnb", width=10, height=10, viewBox="0 0 10 10", aria_hidden="true")
    return f"{mark} {escaped(state)}"


def _phases(trace: Trace) -> str:
    totals = trace.by_phase()
    most = max(totals.values(), default=0.0) or 1.0
    rows = [
        (escaped(phase), escaped(_MEANING[phase]), seconds_text(total), meter(max(total, 0.0) / most))
        for phase, total in totals.items()
    ]
    note = "Seconds over all workers; phases overlap between workers, so they add up to more than the makespan."
    return table(("phase", "", "together", ""), rows, right=(2,)) + element("p", note, class_="text-dim")


def _functions(trace: Trace, functions: Sequence[str]) -> str:
    """A row a function: how often it ran and for how long, the longest together first."""
    runs: dict[str, list[float]] = defaultdict(list)
    for span in trace.spans:
        if span.phase is Phase.RUN and 0 <= span.task < len(functions):
            runs[functions[span.task]].append(span.duration_s)
    order = sorted(runs, key=lambda function: (-sum(runs[function]), function))
    rows = [(escaped(function), *_amounts(runs[function])) for function in order[:MAX_FUNCTIONS]]
    more = f"and {counted(len(order) - MAX_FUNCTIONS, 'more function')}" if len(order) > MAX_FUNCTIONS else ""
    made = table(("function", "runs", "together", "mean", "longest"), rows, right=(1, 2, 3, 4))
    return made + (element("p", more, class_="text-dim") if more else "")


def _amounts(runs_s: Sequence[float]) -> tuple[str, str, str, str]:
    """How many runs, and their total, mean and longest time."""
    total = sum(runs_s)
    return f"{len(runs_s):,}", seconds_text(total), seconds_text(total / len(runs_s)), seconds_text(max(runs_s))
