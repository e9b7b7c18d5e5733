"""Finds the functions of a `%%dag` cell that are no tasks, because the cell needs what they give while its body runs.

A call of a task gives a node, which can neither be called nor entered. So a function is a helper if the cell calls what
it gives, or enters it by `with`: decorators, makers of decorators, functions that wrap others, context managers.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def makers(tree: ast.Module) -> frozenset[str]:
    """The names of the functions whose results are called or entered while the body runs. O(nodes of the tree)."""
    given = _assigned(tree)
    found: set[str] = set()
    waiting = list(_making(tree, given))
    while waiting:
        maker = waiting.pop()
        if isinstance(maker, ast.Call):
            waiting.append(maker.func)
            waiting.extend(_returned(tree, maker.func))
        elif isinstance(maker, ast.Name) and maker.id not in found:
            found.add(maker.id)
            waiting.extend(given[maker.id])
    return frozenset(found)


def _returned(tree: ast.Module, factory: ast.expr) -> Iterator[ast.expr]:
    """The names that a function of the cell returns: a maker of decorators may return one that stands beside it."""
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef)
            and isinstance(factory, ast.Name)
            and node.name == factory.id
        ):
            yield from (
                inner.value
                for inner in ast.walk(node)
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Name)
            )


def _making(tree: ast.Module, given: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """What is called, and the result of that called, entered, or put in the place of a function or class."""
    for node in _at_top(tree):
        yield from getattr(node, "decorator_list", ())
        if isinstance(node, ast.Call):
            yield from _makers_of(node.func, given)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                yield from _makers_of(item.context_expr, given)
    for name in _called_inside(tree):
        yield from _makers_of(name, given)


def _makers_of(value: ast.expr, given: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """What was called to get this value."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.Call):
            yield value.func
        elif isinstance(value, ast.Name) and value.id not in seen:
            seen.add(value.id)
            waiting.extend(given[value.id])


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """name -> the expressions that the body assigns to it."""
    given: dict[str, list[ast.expr]] = defaultdict(list)
    for node in _at_top(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and value is not None:
                given[target.id].append(value)
    return given


def _at_top(tree: ast.Module) -> Iterator[ast.AST]:
    """All that runs with the body: everything but the inside of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            waiting.extend(getattr(node, "decorator_list", ()))
            waiting.extend(
                default
                for default in (*node.args.defaults, *node.args.kw_defaults)
                if default is not None
            )
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _called_inside(tree: ast.Module) -> Iterator[ast.Name]:
    """Names that functions call and do not define themselves."""
    for function in ast.walk(tree):
        if not isinstance(function, _FUNCTIONS):
            continue
        inside = list(ast.walk(function))
        own = {node.arg for node in inside if isinstance(node, ast.arg)}
        own |= {
            node.id
            for node in inside
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for node in inside:
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id not in own
            ):
                yield node.func
