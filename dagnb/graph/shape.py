"""The shape of a DAG: levels, width, fan-ins, its critical path, its depth-first order.

All functions depend on edges alone; callers pass the costs of tasks. None recurses, so a chain may
be as long as memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dagnb.graph.dag import Dag


def sources(dag: Dag) -> tuple[int, ...]:
    """Returns the positions of the tasks without upstream, ascending."""
    return tuple(i for i, call in enumerate(dag.calls) if not call.upstream)


def fan_ins(dag: Dag) -> tuple[int, ...]:
    """Returns the positions of the tasks with several upstream, ascending."""
    return tuple(i for i, call in enumerate(dag.calls) if len(call.upstream) > 1)


def fan_outs(dag: Dag) -> tuple[int, ...]:
    """Returns the positions of the tasks with several downstream, ascending."""
    return tuple(i for i, downstream in enumerate(dag.downstream) if len(downstream) > 1)


def levels(dag: Dag) -> tuple[int, ...]:
    """Returns the level of each task: edges on the longest path from a source, 0 for a source.

    O(tasks + edges).
    """
    # Calls are in topological order, so the levels of upstream tasks are known.
    level: list[int] = []
    for call in dag.calls:
        deepest = -1
        for u in call.upstream:
            deepest = max(deepest, level[u])
        level.append(deepest + 1)
    return tuple(level)


def by_level(dag: Dag) -> tuple[tuple[int, ...], ...]:
    """Returns the positions on each level, ascending; no level is empty. O(tasks + edges)."""
    level_of = levels(dag)
    lists: list[list[int]] = [[] for _ in range(max(level_of) + 1)]
    for position, level in enumerate(level_of):
        lists[level].append(position)
    return tuple(map(tuple, lists))


def width(dag: Dag) -> int:
    """Returns the largest number of tasks on one level, >= 1.

    A hint at the parallelism, no bound: tasks of different levels may run at the same time.
    """
    return max(map(len, by_level(dag)))


def critical_path(dag: Dag, cost: Callable[[int], float]) -> tuple[int, ...]:
    """Returns the positions along the chain of the largest total cost, source first.

    Of equal chains the one of smaller positions. cost: position -> seconds, >= 0. No makespan is
    shorter than the total. O(tasks + edges).
    """
    total: list[float] = []
    before: list[int | None] = []
    for position, call in enumerate(dag.calls):
        best = max(call.upstream, key=lambda u: (total[u], -u), default=None)
        before.append(best)
        total.append(cost(position) + (0.0 if best is None else total[best]))

    end: int | None = max(range(len(total)), key=lambda i: (total[i], -i))
    path = []
    while end is not None:
        path.append(end)
        end = before[end]
    return tuple(reversed(path))


def depth_first(dag: Dag) -> tuple[int, ...]:
    """Returns the number of each task in depth-first order: after its ancestors, by branches.

    A post-order walk up from the sinks, the deepest upstream first. Run in this order, a task's
    inputs are consumed soon after they are made: a tree of degree k and depth d holds at most about
    k * d values at a time, where level by level it holds a whole level. The deepest comes first
    because values that wait for it would occupy memory meanwhile (Sethi and Ullman 1970,
    doi:10.1145/321607.321620, order trees by a similar number). O(tasks + edges).
    """
    number = [-1] * len(dag)
    upstream = _shallow_first(dag)
    count = 0
    # The sinks on top; all tasks below them, for those that no sink needs.
    stack = [*reversed(range(len(dag))), *reversed(dag.sinks)]
    opened = [False] * len(dag)
    while stack:
        task = stack[-1]
        if not opened[task]:
            opened[task] = True
            below = [u for u in upstream[task] if not opened[u]]
            if below:
                stack += below
                continue
        stack.pop()
        if number[task] < 0:  # it may be on the stack several times
            number[task] = count
            count += 1
    return tuple(number)


def _shallow_first(dag: Dag) -> list[Sequence[int]]:
    """Returns the upstream of each task in the order to push on a stack: the deepest last.

    Of equally deep ones the first comes last. Sorts by counting: no comparison.
    """
    lists: list[Sequence[int]] = []
    sorted_lists: dict[int, list[int]] = {}  # fan-in -> its upstream; others need no order
    for task, call in enumerate(dag.calls):
        if len(call.upstream) > 1:
            lists.append(sorted_lists.setdefault(task, []))
        else:
            lists.append(call.upstream)
    if not sorted_lists:
        return lists

    for level in by_level(dag):
        for u in reversed(level):
            for d in dag.downstream[u]:
                if d in sorted_lists:
                    sorted_lists[d].append(u)
    return lists
