"""What stays in the notebook when a run is over: HTML with the picture inside, and text. No script, no widget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dagnb.errors import TaskError
from dagnb.graph.dag import Dag
from dagnb.protocol.messages import Observation
from dagnb.protocol.story import Story, counts, errors_of
from dagnb.views.errors import errors_html, errors_text
from dagnb.views.graph import graph_svg
from dagnb.views.markup import element, escaped, plain
from dagnb.views.page import fragment, pre, scrolled, table
from dagnb.views.palette import STATES
from dagnb.views.show import picture_or
from dagnb.views.text import counts_text, dag_text
from dagnb.views.wording import seconds_text
from dagnb_kernel_ext.moment import WORDS, Label, labelled

_LOOKS = {"ok": "text-done", "failed": "text-failed", "deadline": "text-failed", "cancelled": "text-cancelled"}
_MAX_ROWS = 20


def bundle(seen: Observation, story: Story, label: Label) -> dict[str, str]:
    """MIME type -> what to show of a run as it stands."""
    errors = [labelled(error, label) for error in errors_of(seen, story)]
    dag = story.dag
    return {"text/html": _html(seen, story, dag, errors), "text/plain": _text(seen, story, errors)}


def _html(seen: Observation, story: Story, dag: Dag, errors: Sequence[TaskError]) -> str:
    states = {i: WORDS[state] for i, state in enumerate(seen.states)}
    picture, missing = picture_or(lambda: graph_svg(dag, states))
    drawn = scrolled(picture) if picture else element("p", escaped(missing), class_="text-dim") + pre(dag_text(dag))
    head = element("p", element("b", escaped(story.name)), " ", _state(seen), escaped(f" · {_facts(seen)}"))
    parts = [head, drawn, _functions(story, states)]
    if errors:
        parts.append(errors_html(errors))
    return fragment(*parts)


def _state(seen: Observation) -> str:
    reason = f" ({seen.reason})" if seen.reason and seen.reason != seen.state else ""
    return element("span", escaped(seen.state + reason), class_=_LOOKS.get(seen.state, "text-running"))


def _facts(seen: Observation) -> str:
    elapsed_s = (seen.finished_at or seen.now) - seen.submitted_at
    return f"{counts_text(counts(seen))} · {seconds_text(elapsed_s)} · run {seen.run}"


def _functions(story: Story, states: dict[int, str]) -> str:
    """A table: a row a function, a column a state; it is what is left where pictures are not allowed."""
    tally: dict[str, Counter[str]] = {}
    for i, function in enumerate(story.functions):
        tally.setdefault(function, Counter())[states[i]] += 1
    present = [state for state in STATES if any(found[state] for found in tally.values())]
    rows = [
        (escaped(function), f"{found.total():,}", *(f"{found[state]:,}" for state in present))
        for function, found in list(tally.items())[:_MAX_ROWS]
    ]
    more = element("p", f"and {len(tally) - _MAX_ROWS:,} more functions") if len(tally) > _MAX_ROWS else ""
    return table(("function", "tasks", *present), rows, right=range(1, len(present) + 2)) + more


def _text(seen: Observation, story: Story, errors: Sequence[TaskError]) -> str:
    head = f"{plain(story.name)}: {seen.state}, {_facts(seen).replace(' · ', ', ')}"
    return f"{head}\n\n{errors_text(errors)}" if errors else head
