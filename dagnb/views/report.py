"""The report of a run: one HTML file that needs no network and no server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dagnb.errors import ProtocolError
from dagnb.forecast.makespans import makespans
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import counts
from dagnb.trace.trace import Phase, Trace
from dagnb.views.compared import makespans_svg
from dagnb.views.markup import element, escaped
from dagnb.views.page import fragment, meter, pre, scrolled, table
from dagnb.views.plan import plan_svg
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.text import counts_text, plan_text
from dagnb.views.time_use import TimeUse, time_use_html
from dagnb.views.view import RUN_LOOKS, view_section
from dagnb.views.wording import bytes_text, counted, seconds_text

_PAGE = (
    "html,body{margin:0}body.dagnb{background:var(--dagnb-bg)}"
    "body>.dagnb{max-width:1100px;margin:0 auto;padding:28px 24px 60px}"
)
_META = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
_MEANINGS = {
    Phase.SUBMIT: "the client pickled and wrote functions and DAG, before the makespan begins",
    Phase.INVOKE: "workers started, or waited for a free worker process or container",
    Phase.CREATE: "containers were made",
    Phase.BOOT: "containers booted, until Python ran in them",
    Phase.IMPORT: "workers and functions imported modules for the first time",
    Phase.REGISTER: "workers joined the run",
    Phase.PROGRAM: "workers read functions, large arguments and the description of the run",
    Phase.FETCH: "inputs came from the store",
    Phase.LOAD: "inputs were unpickled",
    Phase.RUN: "your functions ran",
    Phase.DUMP: "results were pickled",
    Phase.STORE: "large results went into the store",
    Phase.COMMIT: "tasks were marked done",
    Phase.RETURN: "the client fetched and unpickled the result, after the makespan has ended",
}
_PHASES_NOTE = "Seconds of all workers together, at the same time or one after the other."


def report_html(
    now: Snapshot, *, plan: Plan | None = None, predicted: Trace | None = None, created: str = ""
) -> str:
    """The page of a run.

    predicted: simulated run, drawn instead of the forecast of the plan. created: date, as text.
    """
    trace = now.whole_trace
    planned = predicted
    if plan is not None and predicted is None:
        outlook = forecast_of(plan)
        planned = outlook.trace if outlook is not None and outlook.is_known else None
    body = [
        _head(now, trace, created),
        element("p", escaped(counts_text(counts(now.seen)))),
        view_section(now, planned),
        _section("Where the time went", _time_use(now), _phases(trace)),
        _compared(now, now.trace, plan),
    ]
    if plan is not None:
        drawn = _drawn(lambda: plan_svg(plan, predicted), lambda: plan_text(plan))
        body.append(_section("Plan", drawn))
    title = element("title", escaped(f"{now.description.name}: {now.seen.state}"))
    page = element("body", fragment(element("style", _PAGE), *body), class_="dagnb")
    return f'<!doctype html>\n<html lang="en"><head>{_META}{title}</head>{page}</html>\n'


def _compared(now: Snapshot, trace: Trace, plan: Plan | None) -> str:
    """The run beside its plan and its replay; '' unless it ended well."""
    # A run that failed stopped early: its makespan says nothing about the plan.
    if now.seen.state is not RunState.OK or not trace.spans:
        return ""
    try:
        result = makespans(now.description, trace, plan)
        # Drawn with the attempts of workers that died, which no replay can have measured.
        result = replace(result, real=now.whole_trace)
    except ProtocolError as error:
        # The replay failed, which says nothing against the rest of the report.
        return _section("Planned and real", element("p", escaped(str(error)), class_="text-dim"))
    return _section("Planned and real", _drawn(lambda: makespans_svg(result), lambda: str(result)))


def _section(title: str, *body: str) -> str:
    return element("section", element("h2", title), *body)


def _drawn(draw: Callable[[], str], say: Callable[[], str]) -> str:
    """The picture; without Graphviz the text, and how to get the picture."""
    picture, missing = picture_or(draw)
    if picture:
        return scrolled(picture)
    return element("p", escaped(missing), class_="text-dim") + pre(say())


def _head(now: Snapshot, trace: Trace, created: str) -> str:
    """Name, state, run, and the numbers of the whole run."""
    state = element("span", escaped(now.seen.state), class_=RUN_LOOKS[now.seen.state])
    title = element("h1", escaped(now.description.name), " ", state)
    facts = [f"run {now.seen.run}"]
    if created:
        facts.append(created)
    facts += [
        f"makespan {seconds_text(trace.makespan_s)}",
        counted(len(trace.workers), "worker"),
        f"average parallelism {trace.ran_parallel():.1f}",
        f"{bytes_text(trace.moved_bytes())} through the store",
    ]
    return title + element("p", escaped(" · ".join(facts)), class_="text-dim")


def _time_use(now: Snapshot) -> str:
    upstream, sinks = now.description.upstream, now.description.sinks
    return time_use_html(TimeUse.of(upstream, sinks, now.trace_so_far, is_over=now.is_over))


def _phases(trace: Trace) -> str:
    """A table with one row per phase: its meaning, its seconds over all workers, a bar."""
    totals = trace.by_phase()
    totals.pop(Phase.QUEUE, None)  # tasks wait at the same time: that is no worker's time
    most = max(totals.values(), default=0.0) or 1.0
    rows = []
    for phase, total in totals.items():
        bar = meter(max(total, 0.0) / most)
        rows.append((escaped(phase), escaped(_MEANINGS[phase]), seconds_text(total), bar))
    phases = table(("phase", "", "total", ""), rows, right=(2,))
    return phases + element("p", _PHASES_NOTE, class_="text-dim")
