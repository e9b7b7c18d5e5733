"""A run on one page: a file that needs no network and no server, and can be sent to anybody."""

from __future__ import annotations

from collections.abc import Callable

from dagnb.errors import ProtocolError
from dagnb.forecast.makespans import makespans
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.planning.plan import Plan
from dagnb.protocol.messages import RunState
from dagnb.protocol.run_description import counts
from dagnb.trace.span import Phase
from dagnb.trace.trace import Trace
from dagnb.views.compared import makespans_svg
from dagnb.views.markup import element, escaped
from dagnb.views.page import fragment, meter, pre, scrolled, table
from dagnb.views.plan import plan_svg
from dagnb.views.show import picture_or
from dagnb.views.snapshot import Snapshot
from dagnb.views.text import counts_text, plan_text
from dagnb.views.view import RUN_LOOKS, view_section
from dagnb.views.wording import bytes_text, counted, seconds_text

_PAGE = (
    "html,body{margin:0}body.dagnb{background:var(--dagnb-bg)}"
    "body>.dagnb{max-width:1100px;margin:0 auto;padding:28px 24px 60px}"
)
_MEANING = {
    Phase.SUBMIT: "the client pickled and wrote functions and DAG, before the makespan begins",
    Phase.INVOKE: "workers started, or waited for a place to start at",
    Phase.CREATE: "containers were made",
    Phase.BOOT: "containers booted, until Python ran in them",
    Phase.IMPORT: "workers imported what they need",
    Phase.REGISTER: "workers joined the run",
    Phase.PROGRAM: "workers read functions, large arguments and what describes the run",
    Phase.QUEUE: "ready tasks waited for a worker",
    Phase.FETCH: "inputs came from the store",
    Phase.LOAD: "inputs were unpickled",
    Phase.RUN: "your functions ran",
    Phase.DUMP: "results were pickled",
    Phase.STORE: "large results went into the store",
    Phase.COMMIT: "tasks were marked done",
    Phase.RETURN: "the client fetched and unpickled the result, after the makespan has ended",
}


def report_html(
    now: Snapshot, *, plan: Plan | None = None, predicted: Trace | None = None, created: str = ""
) -> str:
    """The page. predicted: instead of the outlook of the plan; created: when, as text."""
    trace = now.trace
    outlook = forecast_of(plan) if plan is not None and predicted is None else None
    planned = outlook.trace if outlook is not None else predicted
    body = [
        _head(now, trace, created),
        element("p", escaped(counts_text(counts(now.seen)))),
        view_section(now, planned),
        _section("Where the time went", _phases(trace)),
        _compared(now, trace, plan),
    ]
    if plan is not None:
        body.append(
            _section("Plan", _drawn(lambda: plan_svg(plan, predicted), lambda: plan_text(plan)))
        )
    title = element("title", escaped(f"{now.description.name}: {now.seen.state}"))
    meta = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    )
    page = element("body", fragment(element("style", _PAGE), *body), class_="dagnb")
    return f'<!doctype html>\n<html lang="en"><head>{meta}{title}</head>{page}</html>\n'


def _compared(now: Snapshot, trace: Trace, plan: Plan | None) -> str:
    """The run beside its plan and its replay, if it ended well."""
    if now.seen.state is not RunState.OK or not trace.spans:
        return ""
    try:
        found = makespans(now.description, trace, plan)
    except ProtocolError as error:  # the replay's; the report of the run is right without it
        return _section("Planned and real", element("p", escaped(str(error)), class_="text-dim"))
    return _section("Planned and real", _drawn(lambda: makespans_svg(found), lambda: str(found)))


def _section(title: str, *body: str) -> str:
    return element("section", element("h2", title), *body)


def _drawn(draw: Callable[[], str], say: Callable[[], str]) -> str:
    """The picture, or the text and how to get the picture."""
    picture, missing = picture_or(draw)
    return (
        scrolled(picture)
        if picture
        else element("p", escaped(missing), class_="text-dim") + pre(say())
    )


def _head(now: Snapshot, trace: Trace, created: str) -> str:
    """Name, state, run, and the numbers of the whole."""
    state = now.seen.state
    title = element(
        "h1",
        escaped(now.description.name),
        " ",
        element("span", escaped(state), class_=RUN_LOOKS[state]),
    )
    facts = [f"run {now.seen.run}", *([created] if created else [])]
    facts.append(f"makespan {seconds_text(trace.makespan_s)}")
    facts.append(counted(len(trace.workers), "worker"))
    facts.append(f"{trace.ran_parallel():.1f} functions at a time")
    facts.append(f"{bytes_text(trace.moved_bytes())} through the store")
    return title + element("p", escaped(" · ".join(facts)), class_="text-dim")


def _phases(trace: Trace) -> str:
    totals = trace.by_phase()
    most = max(totals.values(), default=0.0) or 1.0
    rows = [
        (
            escaped(phase),
            escaped(_MEANING[phase]),
            seconds_text(total),
            meter(max(total, 0.0) / most),
        )
        for phase, total in totals.items()
    ]
    note = "Seconds over all workers; phases overlap between workers, so they add up to more than the makespan."
    return table(("phase", "", "together", ""), rows, right=(2,)) + element(
        "p", note, class_="text-dim"
    )
