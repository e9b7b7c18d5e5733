"""The MIME bundle of a thing for a notebook: its picture, and its text where there is no picture.

This room imports plans, traces and runs. They cannot import it in turn, so they ask for their
bundle by a hook.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

from dagnb.errors import ConfigError
from dagnb.forecast.compare import Comparison
from dagnb.forecast.function_forecast import FunctionForecast
from dagnb.forecast.makespans import Makespans
from dagnb.forecast.plan_forecast import forecast_of
from dagnb.graph.dag import Dag
from dagnb.graph.task import Node
from dagnb.planning.chains import ChainBreak
from dagnb.planning.plan import Plan
from dagnb.trace.trace import Trace
from dagnb.views.compared import makespans_lines, makespans_svg
from dagnb.views.comparison import comparison_html
from dagnb.views.graph import dag_svg
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, scrolled
from dagnb.views.plan import forecast_lines, plan_svg, summary
from dagnb.views.prediction import function_svg
from dagnb.views.text import dag_text, plan_text, trace_text
from dagnb.views.timeline import timeline_svg
from dagnb.views.wording import counted, seconds_text


@singledispatch
def bundle(thing: object) -> dict[str, str]:
    """The bundle of `_repr_mimebundle_`; without Graphviz it is text, with the cure.

    Plans and traces come as HTML too: in a page, unlike in an image, tooltips and the notebook's
    theme work.
    """
    return {"text/plain": plain(repr(thing))}


@bundle.register
def _(node: Node) -> dict[str, str]:  # type: ignore[type-arg]  # singledispatch takes no parameters
    return bundle(Dag.of(node))


@bundle.register
def _(dag: Dag) -> dict[str, str]:
    return _pictured(lambda: dag_svg(dag), dag_text(dag))


@bundle.register
def _(plan: Plan) -> dict[str, str]:
    caption = summary(plan)
    outlook = forecast_of(plan)
    if outlook is not None:
        caption += f". {forecast_lines(outlook)[0]}"
    return _pictured(lambda: plan_svg(plan), plan_text(plan), caption=caption)


@bundle.register
def _(broken: ChainBreak) -> dict[str, str]:
    text = f"{plan_text(broken.plan)}\n  Chain rule: {plain(broken.text)}"
    return _pictured(lambda: plan_svg(broken.plan, broken=broken), text, caption=plain(broken.text))


@bundle.register
def _(trace: Trace) -> dict[str, str]:
    caption = f"makespan {seconds_text(trace.makespan_s)}, {counted(len(trace.workers), 'worker')}"
    return _pictured(lambda: timeline_svg(trace), trace_text(trace), caption=caption)


@bundle.register
def _(makespans: Makespans) -> dict[str, str]:
    if makespans.real is None:
        return {"text/plain": plain(str(makespans))}
    caption = ". ".join(makespans_lines(makespans))
    return _pictured(lambda: makespans_svg(makespans), plain(str(makespans)), caption=caption)


@bundle.register
def _(comparison: Comparison) -> dict[str, str]:
    return {"text/html": comparison_html(comparison), "text/plain": plain(str(comparison))}


@bundle.register
def _(outlook: FunctionForecast) -> dict[str, str]:
    caption = f"{outlook.name}: {outlook.basis}"
    return _pictured(lambda: function_svg(outlook), plain(str(outlook)), caption=caption)


def _pictured(draw: Callable[[], str], text: str, *, caption: str | None = None) -> dict[str, str]:
    """The bundle of a picture and its text.

    caption: asks for HTML too. Pages that allow no pictures, such as GitHub's, show the caption
    alone.
    """
    picture, missing = picture_or(draw)
    if missing:
        return {"text/plain": f"{text}\n\n{missing}"}
    shown = {"image/svg+xml": picture, "text/plain": text}
    if caption is not None:
        below = element("p", escaped(caption), class_="text-dim")
        shown["text/html"] = fragment(scrolled(picture), below)
    return shown


def picture_or(draw: Callable[[], str]) -> tuple[str, str]:
    """The picture and '', or '' and the reason why there is none, with the cure."""
    try:
        return draw(), ""
    except ConfigError as error:
        return "", f"No picture: {error}"
