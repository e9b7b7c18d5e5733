"""The time of a run in words and as a table: how workers used it, and the chain that took it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagnb.graph.brief import brief
from dagnb.trace.critical import Link, Reason, explained, links, shares
from dagnb.trace.trace import Trace
from dagnb.trace.utilisation import Use, Utilisation, utilisation
from dagnb.views.canvas import stacked
from dagnb.views.explained import NAMES, explained_bar, explained_text
from dagnb.views.markup import element, escaped, plain, shortened
from dagnb.views.page import scrolled, table
from dagnb.views.wording import counted, seconds_text, window_text

# Links of the chain with a row of their own: the longest. The others have one together.
_SHOWN = 20
_NAME = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeUse:
    """The time of a run: the use of its workers, and the chain of steps that took it.

    chain: leads to the last result, or where there is none to the step that ended last; empty
    before the first step. is_over: otherwise all times are those so far.
    """

    trace: Trace
    used: Utilisation
    chain: tuple[Link, ...]
    is_over: bool = True

    __repr__ = brief

    @classmethod
    def of(
        cls,
        upstream: Sequence[Sequence[int]],
        sinks: Sequence[int],
        trace: Trace,
        *,
        is_over: bool = True,
    ) -> TimeUse:
        """Returns the time of a run with these steps. O(spans log spans)."""
        chain = links(explained(upstream, sinks, trace))
        if all(link.task < 0 for link in chain):
            # A run that failed, or goes on, has no result: what came last took its time.
            acts = [(span.end_s, span.task) for span in trace.spans if span.task >= 0]
            last = (max(acts)[1],) if acts else ()
            chain = links(explained(upstream, last, trace)) if last else ()
        return cls(trace=trace, used=utilisation(trace), chain=chain, is_over=is_over)

    @property
    def whole(self) -> str:
        """The length of the run in words: "makespan 2.4 s", or "so far 2.4 s"."""
        word = "makespan" if self.is_over else "so far"
        return f"{word} {seconds_text(self.trace.makespan_s)}"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Returns task, when, seconds of the makespan, and what they were, of each link.

        All seconds add up to the makespan. Of a long chain the longest links have a row, and the
        others one together, at the end.
        """
        longest = sorted(self.chain, key=lambda link: -link.duration_s)[:_SHOWN]
        limit_s = longest[-1].duration_s if longest else 0.0
        shown: list[Link] = []
        rest: list[Link] = []
        for link in self.chain:
            is_long = link.duration_s >= limit_s and len(shown) < _SHOWN
            (shown if is_long else rest).append(link)

        rows = []
        for link in shown:
            name = "unknown" if link.task < 0 else self.trace.names[link.task]
            window = window_text(link.begin_s, link.end_s)
            rows.append((name, window, seconds_text(link.duration_s), _parts([link])))
        if rest:
            rest_s = sum(link.duration_s for link in rest)
            name = counted(len(rest), "more task")
            rows.append((name, "in between", seconds_text(rest_s), _parts(rest)))
        return rows


def _parts(chain: Sequence[Link]) -> str:
    """The reasons of some links with their seconds, in the order in which they first occur."""
    totals: dict[Reason, float] = {}
    for link in chain:
        for segment in link.segments:
            totals[segment.cause] = totals.get(segment.cause, 0.0) + segment.duration_s
    return ", ".join(f"{NAMES[reason]} {seconds_text(spent)}" for reason, spent in totals.items())


def used_text(used: Utilisation) -> str:
    """The use of the workers in one line; '' for a run without workers.

    >>> used_text(Utilisation(n_workers=2, seconds={Use.COMPUTING: 3.0, Use.IDLE: 1.0}))
    '2 workers: 75 % computing, 25 % idle'
    """
    shown = percents(used.shares())
    if not shown:
        return ""
    parts = [f"{percent or '<1'} % {use}" for use, percent in shown.items()]
    return f"{counted(used.n_workers, 'worker')}: {', '.join(parts)}"


def percents(parts: Mapping[Use, float]) -> dict[Use, int]:
    """Shares of 1 as whole percents that add up to 100; 0 stands for less than one.

    The largest remainders are rounded up.

    >>> list(percents({Use.COMPUTING: 0.334, Use.MOVING: 0.333, Use.IDLE: 0.333}).values())
    [34, 33, 33]
    """
    shown = {use: int(100 * share) for use, share in parts.items()}
    by_rest = sorted(parts, key=lambda use: shown[use] - 100 * parts[use])
    for use in by_rest[: 100 - sum(shown.values())]:
        shown[use] += 1
    return shown


def time_use_text(time_use: TimeUse) -> str:
    """The time of a run for a terminal: workers, makespan, and the chain, a line a step."""
    whole = seconds_text(time_use.trace.makespan_s)
    lines = [line for line in (used_text(time_use.used),) if line]
    if not time_use.chain:
        return "\n".join([*lines, "No task has run."])

    segments = [segment for link in time_use.chain for segment in link.segments]
    lines.append(f"{time_use.whole}: {explained_text(segments)}")
    lines.append(f"the chain of tasks that took these {whole}:")
    rows = [(_name(row[0]), *row[1:]) for row in time_use.rows()]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, window, spent, parts in rows:
        lines.append(f"  {name:<{wide[0]}}  {window:<{wide[1]}}  {spent:>{wide[2]}}: {parts}")
    return "\n".join(lines)


def _name(text: str) -> str:
    return shortened(" ".join(plain(text).split()), _NAME)


def time_use_html(time_use: TimeUse) -> str:
    """The time of a run for a page: a line, the bar of the makespan, and a row a step."""
    used = used_text(time_use.used)
    line = element("p", escaped(used)) if used else ""
    if not time_use.chain:
        return line or element("p", "No task has run.")
    segments = [segment for link in time_use.chain for segment in link.segments]
    whole = seconds_text(time_use.trace.makespan_s)
    bar = explained_bar(segments, width=900, title=time_use.whole)
    parts = shares(segments)
    label = f"{time_use.whole}: {explained_text(segments)}"
    picture = stacked(bar, label=label, is_styled=False)
    rows = []
    for *short, by_what in time_use.rows():
        cells = [element("span", escaped(text), style="white-space:nowrap") for text in short]
        rows.append((*cells, escaped(by_what)))
    heads = ("task", "when", "took", "spent on")
    note = f"This chain of tasks made the run as long as it is: its seconds add up to {whole}."
    chain = table(heads, rows, right=(2,)) + element("p", escaped(note), class_="text-dim")
    return line + (scrolled(picture) if parts else "") + chain
