"""Functions of a `%%dag` cell that stay functions: the cell needs their results while it runs.

A call of a task gives a node, which can neither be called nor be used in a `with` statement. So a
function stays a plain function (a helper) if the cell calls its result, or enters it by `with`:

    def logged(f): ...            a decorator: its result is put in the place of a function
    def limited(n): ...           `@limited(3)`: a factory of decorators
    def adder(n): ...             `add = adder(3); add(4)`
    def timer(): ...              `with timer(): ...`

Assignments are followed by name: `add` above leads to `adder`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def functions_called_early(tree: ast.Module) -> frozenset[str]:
    """The names of functions whose results are called or entered while the body runs.

    O(nodes of the tree).
    """
    assigned = _assigned(tree)
    names: set[str] = set()
    waiting = list(_called_early(tree, assigned))
    while waiting:
        function = waiting.pop()
        if isinstance(function, ast.Call):  # `limited(3)`: its factory, and what that returns
            waiting.append(function.func)
            waiting.extend(_returned(tree, function.func))
        elif isinstance(function, ast.Name) and function.id not in names:
            names.add(function.id)
            waiting.extend(assigned[function.id])
    return frozenset(names)


def _returned(tree: ast.Module, factory: ast.expr) -> Iterator[ast.expr]:
    """The names that a function of the cell returns.

    A factory of decorators may return a function of the cell, which is then a decorator, too.
    """
    if not isinstance(factory, ast.Name):
        return
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name != factory.id:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Name):
                yield node.value


def _called_early(tree: ast.Module, assigned: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """Functions whose result is called, entered, or put in the place of a function or class."""
    for node in _at_top(tree):
        yield from getattr(node, "decorator_list", ())
        if isinstance(node, ast.Call):
            yield from _sources_of(node.func, assigned)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                yield from _sources_of(item.context_expr, assigned)
    # With `add = adder(3)`, a function that calls `add` needs adder's result, too.
    for name in _called_inside(tree):
        yield from _sources_of(name, assigned)


def _sources_of(value: ast.expr, assigned: dict[str, list[ast.expr]]) -> Iterator[ast.expr]:
    """Functions whose call gave this value."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.Call):
            yield value.func
        elif isinstance(value, ast.Name) and value.id not in seen:
            seen.add(value.id)
            waiting.extend(assigned[value.id])


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """name -> the expressions that the body assigns to it."""
    assigned: dict[str, list[ast.expr]] = defaultdict(list)
    for node in _at_top(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        for target in targets:
            value = getattr(node, "value", None)  # `x: int` has none
            if isinstance(target, ast.Name) and value is not None:
                assigned[target.id].append(value)
    return assigned


def _at_top(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything that runs with the body: all but the inside of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            # Decorators and defaults are evaluated where the function is defined.
            waiting.extend(getattr(node, "decorator_list", ()))
            waiting.extend(filter(None, (*node.args.defaults, *node.args.kw_defaults)))
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _called_inside(tree: ast.Module) -> Iterator[ast.Name]:
    """Names that functions call and do not define themselves."""
    for function in ast.walk(tree):
        if not isinstance(function, _FUNCTIONS):
            continue
        inside = list(ast.walk(function))
        own = {node.arg for node in inside if isinstance(node, ast.arg)}
        for node in inside:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
        for node in inside:
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id not in own:
                yield called
