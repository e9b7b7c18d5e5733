"""Kept results: the values that may stay with the worker that computes them, by `Way.LOCAL`.

A worker that runs a task and its only reader, one right behind the other, hands the value over in
its memory: nothing is stored, fetched or pickled, and short tasks share a trip to the store. This
is task clustering as in Wukong, doi:10.1145/3419111.3421286, without its threshold of bytes: no
other worker waits for a value that has one reader.

`with_kept_results` asks for it in a plan, wherever no step is overtaken by that:

    both float in one pool   no other worker could begin the reader earlier
    both on one worker       the reader comes next in the order of that worker, or only after steps
                             that it waits for anyway: a worker takes it with its last input

      order of a worker: a, b, c, d, e
      c reads a and b, e reads c and d     all four stay
      c reads a and b, e reads c           c is stored: behind it, e would overtake d

A more urgent step that is late in a run, and ready when the input ends, goes first all the same:
the input is stored then (`Roster.goes_before`).

Any plan may ask on any edge; `kept_steps` says where workers do so. The step must have one reader,
in the same place, and no effects: these must not be repeated because the process of the reader
crashes. The results of sinks are stored in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dagnb.planning.plan import Plan, Way, by_worker

FEW_INPUTS = 16
"""A task with more inputs is not run together with them: they are spread over workers."""


def with_kept_results(plan: Plan) -> Plan:
    """Returns the plan with LOCAL as the way of each value that can stay where it is needed next.

    The reader has no retries: an attempt that fails loses the values that were kept for it, and
    tasks that are expected to fail should not have others run again. O(steps log steps + edges).
    """
    calls, steps = plan.dag.calls, plan.steps
    may_be_kept = _may_be_kept(plan)
    ways = {}
    for upstream, reader in _in_turn(plan):
        if not may_be_kept[upstream] or calls[steps[reader].task].options.retries:
            continue
        if _share_place(plan, upstream, reader):
            ways[upstream, reader] = Way.LOCAL
    return replace(plan, ways=ways)


def kept_steps(plan: Plan) -> set[int]:
    """Returns the steps that are run together with their reader, as the plan asks."""
    may_be_kept = _may_be_kept(plan) if plan.ways else []
    kept = set()
    for (upstream, reader), way in plan.ways.items():
        if way is Way.LOCAL and may_be_kept[upstream] and _share_place(plan, upstream, reader):
            kept.add(upstream)
    return kept


def _may_be_kept(plan: Plan) -> list[bool]:
    """Returns for each step whether it has one reader and no effects, and computes no sink."""
    n_readers = [0] * len(plan.steps)
    for step in plan.steps:
        for upstream in step.upstream:
            n_readers[upstream] += 1
    calls, sinks = plan.dag.calls, set(plan.dag.sinks)
    may_be_kept = []
    for step, n in zip(plan.steps, n_readers, strict=True):
        may_be_kept.append(n == 1 and step.task not in sinks and calls[step.task].options.pure)
    return may_be_kept


def _share_place(plan: Plan, upstream: int, reader: int) -> bool:
    """Returns whether both steps have one worker, or one pool."""
    first, then = plan.steps[upstream], plan.steps[reader]
    if first.worker != then.worker:
        return False
    # Mostly one object; comparing resources takes long.
    return first.resources is then.resources or first.resources == then.resources


def _in_turn(plan: Plan) -> Iterator[tuple[int, int]]:
    """Yields the edges whose reader may follow its input at once without overtaking a step."""
    for reader, step in enumerate(plan.steps):
        if step.worker is None and len(step.upstream) <= FEW_INPUTS:
            for upstream in step.upstream:
                yield upstream, reader
    for order in by_worker(plan).values():
        order.sort(key=lambda step: plan.steps[step].priority)
        # For each step of the order, the first of the unbroken row of steps that it waits for.
        begins: list[int] = []
        for turn, reader in enumerate(order):
            begin, inputs = turn, plan.steps[reader].upstream
            if len(inputs) > FEW_INPUTS:
                inputs = ()
            while begin and order[begin - 1] in inputs:
                yield order[begin - 1], reader
                begin = begins[begin - 1]
            begins.append(begin)
