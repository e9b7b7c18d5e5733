"""Which spans stand on which line of a timeline of nested slices: on one line, two lie inside each other or apart."""

from __future__ import annotations

from collections.abc import Sequence

from dagnb.trace.span import Span

NS_PER_S = 1_000_000_000


def ticks(span: Span, submitted_s: float) -> tuple[int, int]:
    """Begin and end in whole nanoseconds since the submission, neither before it nor turned round by clock jitter."""
    begin = max(0, round((span.begin_s - submitted_s) * NS_PER_S))
    return begin, max(begin, round((span.end_s - submitted_s) * NS_PER_S))


def lanes(spans: Sequence[Span], submitted_s: float) -> list[list[Span]]:
    """The spans of one worker on as few lines as they come to, by begin, enclosing spans before those inside.

    A span lies inside another only where both are of one task or one phase: what a worker did beside its task, a
    fetch for the next one say, has a line of its own. O(spans x lines).
    """
    ordered = sorted(spans, key=lambda span: _outer_first(ticks(span, submitted_s)))
    lines: list[list[Span]] = []
    open_: list[
        list[tuple[int, Span]]
    ] = []  # of each line, what encloses the present moment: end, span
    for span in ordered:
        begin, end = ticks(span, submitted_s)
        for line, stack in zip(lines, open_, strict=True):
            while stack and stack[-1][0] <= begin:
                stack.pop()
            if not stack or (end <= stack[-1][0] and _akin(span, stack[-1][1])):
                line.append(span)
                stack.append((end, span))
                break
        else:
            lines.append([span])
            open_.append([(end, span)])
    return lines


def _outer_first(interval: tuple[int, int]) -> tuple[int, int]:
    return interval[0], -interval[1]


def _akin(one: Span, other: Span) -> bool:
    return one.task == other.task or one.phase is other.phase
