"""The body of a `%%dag` cell: compiled with the user's line numbers, run in the notebook.

The statements run as in any cell, but functions at the top level of the cell become tasks. The last
line must be an expression; its value, a node or a structure of nodes, is passed to `dagnb.run`.

Functions that stay functions
-----------------------------
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
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell

from dagnb import task
from dagnb.errors import GraphError, NoNodeError
from dagnb.graph.dag import Targets
from dagnb.graph.task import Node, Task

_MARK = "__dagnb_task__"
"""name of the decorator that makes tasks of a cell's functions; it exists while the cell runs"""

_NOT_DIGITS = re.compile(r"\D")
_STRUCTURES = (list, tuple, dict, set, frozenset)
_CURE = (
    "End it with what shall be run: a call of one of its functions, e.g. `merge(parts)`, "
    "or a list or dict of such calls."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBody:
    """A cell's code: its statements, then the expression whose value is run."""

    statements: CodeType
    last: CodeType

    @property
    def is_awaiting(self) -> bool:
        """Returns whether the cell awaits outside its functions."""
        return awaits(self.statements) or awaits(self.last)


def awaits(code: CodeType) -> bool:
    """Returns whether the code, when it is run, gives a coroutine."""
    return bool(code.co_flags & inspect.CO_COROUTINE)


def run_body(body: CellBody, space: dict[str, Any]) -> Any:
    """Run the cell's statements in the notebook's namespace. Returns the value of its last line.

    Raises GraphError when that value holds no node, and all that the cell's own code raises.
    """
    __tracebackhide__ = True
    space[_MARK] = _as_task
    try:
        exec(body.statements, space)  # noqa: S102  # this is what a cell is for
        return checked_targets(eval(body.last, space))  # noqa: S307  # as above
    finally:
        space.pop(_MARK, None)


async def await_body(body: CellBody, space: dict[str, Any]) -> Any:
    """Does the same as run_body, for code that awaits."""
    __tracebackhide__ = True
    space[_MARK] = _as_task
    try:
        for code in (body.statements, body.last):
            value = eval(code, space)  # noqa: S307  # as above
            if awaits(code):
                value = await value
        return checked_targets(value)
    finally:
        space.pop(_MARK, None)


def checked_targets(value: Any) -> Any:
    """Returns the value if it is a node or holds nodes. Raises GraphError with the cure."""
    __tracebackhide__ = True
    if isinstance(value, Task):
        raise GraphError(
            f"the last line names the task '{value.name}', but does not call it. {_CURE}"
        )
    try:
        Targets.of(value)
    except NoNodeError:
        kind = type(value).__name__
        problem = f"the last line gives a value of type {kind}, not a node."
        if isinstance(value, _STRUCTURES):
            problem = f"the {kind} in the last line holds no node."
        raise GraphError(f"{problem} {_CURE}") from None
    return value


def holds_nodes(value: Any) -> bool:
    """Returns whether dagnb.run takes the value."""
    try:
        Targets.of(value)
    except GraphError:
        return False
    return True


def is_runnable(value: object) -> bool:
    """Returns whether the value is a node, or a list, tuple or dict of nodes."""
    if isinstance(value, Node):
        return True
    items = tuple(value.values()) if isinstance(value, dict) else value
    # Shallow, unlike `holds_nodes`: completion asks this of every variable at every key.
    return (
        isinstance(items, list | tuple)
        and bool(items)
        and all(isinstance(item, Node) for item in items)
    )


def checked(shell: InteractiveShell, line: str, cell: str) -> CodeType:
    """Compile the cell as it is written, to inspect the code; it is not run.

    Raises SyntaxError with the line number that the user sees.
    """
    tree, file = _parsed(shell, line, cell)
    return _compiled(shell, tree, file, "exec")


def compiled(shell: InteractiveShell, line: str, cell: str) -> CellBody:
    """Compile the cell; its functions become tasks, except those of `functions_called_early`.

    Raises SyntaxError, or GraphError when the last line is no expression.
    """
    __tracebackhide__ = True
    tree, file = _parsed(shell, line, cell)
    tree = shell.transform_ast(tree)  # type: ignore[no-untyped-call]  # IPython has no types here
    helpers = functions_called_early(tree)
    last = tree.body.pop() if tree.body else None
    if not isinstance(last, ast.Expr):
        raise GraphError(f"the %%dag cell ends in {_kind(last)}, which gives no node. {_CURE}")
    for function in _functions(tree):
        if function.name in helpers:
            continue
        # The outermost decorator, so that it gets the result of the user's own decorators.
        mark = ast.copy_location(ast.Name(_MARK, ast.Load()), _first(function))
        function.decorator_list.insert(0, mark)
    expression = ast.fix_missing_locations(ast.Expression(last.value))
    return CellBody(
        statements=_compiled(shell, tree, file, "exec"),
        last=_compiled(shell, expression, file, "eval"),
    )


def _parsed(shell: InteractiveShell, line: str, cell: str) -> tuple[ast.Module, str]:
    """The tree, and the file name under which tracebacks and inspect know this cell."""
    __tracebackhide__ = True
    raw = f"%%dag {line}\n{cell}"
    file = shell.compile.cache(raw, _number(shell), raw_code=raw)
    # The transformers drop blank lines at the top. Line numbers must count these, and the line of
    # %%dag itself.
    blank = 1 + len(cell) - len(cell.lstrip("\n"))
    tree = shell.compile.ast_parse("\n" * blank + _transformed(shell, cell), file)
    return cast("ast.Module", tree), file


def _transformed(shell: InteractiveShell, cell: str) -> str:
    """The cell with line magics and `!` turned into Python.

    A cell that cannot be tokenised is returned unchanged: the parser then says where and why.
    """
    try:
        text: str = shell.transform_cell(cell)  # type: ignore[no-untyped-call]  # IPython's
    except SyntaxError:
        return cell.lstrip("\n")
    return text


def _compiled(
    shell: InteractiveShell, tree: ast.Module | ast.Expression, file: str, mode: str
) -> CodeType:
    """Compile as the shell does.

    The notebook's `from __future__` imports hold, and `await` is allowed unless %autoawait is off.
    """
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0
    with shell.compile.extra_flags(flags):
        return shell.compile(tree, file, mode)  # type: ignore[arg-type]  # it takes trees too


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _first(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    """The node at which a function begins for inspect: its first decorator, if it has one."""
    return function.decorator_list[0] if function.decorator_list else function


def _kind(last: ast.stmt | None) -> str:
    if last is None:
        return "nothing"
    if isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return f"the definition of '{last.name}'"
    if isinstance(last, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return "an assignment"
    return f"`{ast.unparse(last):.40}`"


def _as_task(function: Any) -> Any:
    """Make a task of a decorated function; generators, which cannot be tasks, stay helpers."""
    if isinstance(function, Node):
        raise GraphError(
            f"a decorator of this cell is the task '{function.task.name}', "
            "so it gave a node instead of a function. "
            "Define decorators in a cell of their own, without %%dag."
        )
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return task(function) if callable(function) and not is_generator else function


def _number(shell: InteractiveShell) -> int:
    """The number of the cell that is running; execution_count may be one ahead of it."""
    frame: FrameType | None = sys._getframe()  # the only way to the calling cell
    while frame is not None:
        if (label := cell_label(shell, frame.f_code.co_filename)) is not None:
            return int(_NOT_DIGITS.sub("", label) or 0)  # 'Cell In[3]'
        frame = frame.f_back
    return shell.execution_count


def cell_label(shell: InteractiveShell, file: str) -> str | None:
    """The name of a cell in tracebacks, 'Cell In[3]'; None for a file that is no cell here."""
    known = shell.compile.format_code_name(file)
    return " ".join(known) if known is not None else None


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
