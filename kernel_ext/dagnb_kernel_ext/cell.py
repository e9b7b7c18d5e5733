"""The body of a `%%dag` cell: compiled with the line numbers the user sees, run in the notebook, down to its nodes."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell

from dagnb import task
from dagnb.errors import GraphError, NoNodeError
from dagnb.graph.node import Node
from dagnb.graph.targets import Targets
from dagnb.graph.task import Task
from dagnb_kernel_ext.functions_called_early import makers
from dagnb_kernel_ext.output import cell_label

_MARK = "__dagnb_task__"
_STRUCTURES = (list, tuple, dict, set, frozenset)
_CURE = "End it with what shall be run: a call of one of its functions, e.g. `merge(parts)`, or a list or dict of them."


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBody:
    """A cell's code: its statements, then the expression that gives what shall be run."""

    statements: CodeType
    last: CodeType

    @property
    def is_awaiting(self) -> bool:
        """Whether it awaits outside its functions."""
        return awaits(self.statements) or awaits(self.last)


def awaits(code: CodeType) -> bool:
    """Whether running the code gives a coroutine."""
    return bool(code.co_flags & inspect.CO_COROUTINE)


def run_body(body: CellBody, space: dict[str, Any]) -> Any:
    """Run the cell's statements in the notebook's namespace; what its last expression gives, to be run.

    Raises GraphError when that holds no node, and whatever the cell's own code raises.
    """
    __tracebackhide__ = True
    space[_MARK] = _as_task
    try:
        exec(body.statements, space)  # noqa: S102  # this is what a cell is for
        return checked_targets(eval(body.last, space))  # noqa: S307  # as above
    finally:
        space.pop(_MARK, None)


async def await_body(body: CellBody, space: dict[str, Any]) -> Any:
    """As run_body, for code that awaits."""
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
    """The value, when it is a node or a structure that holds nodes. Raises GraphError with the cure."""
    __tracebackhide__ = True
    if isinstance(value, Task):
        raise GraphError(
            f"the last line names the task '{value.name}', but does not call it. {_CURE}"
        )
    try:
        Targets.of(value)
    except NoNodeError:
        kind = type(value).__name__
        if isinstance(value, _STRUCTURES):
            raise GraphError(f"the {kind} in the last line holds no node. {_CURE}") from None
        raise GraphError(
            f"the last line gives a value of type {kind}, not a node. {_CURE}"
        ) from None
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
    return (
        isinstance(items, list | tuple)
        and bool(items)
        and all(isinstance(item, Node) for item in items)
    )


def checked(shell: InteractiveShell, line: str, cell: str) -> CodeType:
    """The cell as it is written, compiled to be looked at. Raises SyntaxError with the line the user sees."""
    tree, file = _parsed(shell, line, cell)
    return _compiled(shell, tree, file, "exec")


def compiled(shell: InteractiveShell, line: str, cell: str) -> CellBody:
    """The cell with its functions made tasks, but for those of `makers`.

    Raises SyntaxError, or GraphError when no expression ends it.
    """
    __tracebackhide__ = True
    tree, file = _parsed(shell, line, cell)
    tree = shell.transform_ast(tree)  # type: ignore[no-untyped-call]  # IPython has no types here
    helpers = makers(tree)
    last = tree.body.pop() if tree.body else None
    if not isinstance(last, ast.Expr):
        raise GraphError(f"the %%dag cell ends in {_kind(last)}, which gives no node. {_CURE}")
    for function in _functions(tree):
        if function.name in helpers:
            continue
        function.decorator_list.insert(
            0, ast.copy_location(ast.Name(_MARK, ast.Load()), _first(function))
        )
    return CellBody(
        statements=_compiled(shell, tree, file, "exec"),
        last=_compiled(shell, ast.fix_missing_locations(ast.Expression(last.value)), file, "eval"),
    )


def _parsed(shell: InteractiveShell, line: str, cell: str) -> tuple[ast.Module, str]:
    """The tree, and the file name under which tracebacks and inspect know this cell."""
    __tracebackhide__ = True
    raw = f"%%dag {line}\n{cell}"
    file = shell.compile.cache(raw, _number(shell), raw_code=raw)
    # The transformers drop blank lines at the top; they and the line of %%dag itself must count.
    blank = 1 + len(cell) - len(cell.lstrip("\n"))
    tree = shell.compile.ast_parse("\n" * blank + _transformed(shell, cell), file)
    return cast("ast.Module", tree), file


def _transformed(shell: InteractiveShell, cell: str) -> str:
    """Without line magics and `!`. What cannot even be cut into tokens stays, for the parser to say where and why."""
    try:
        text: str = shell.transform_cell(cell)  # type: ignore[no-untyped-call]  # IPython has no types here
    except SyntaxError:
        return cell.lstrip("\n")
    return text


def _compiled(
    shell: InteractiveShell, tree: ast.Module | ast.Expression, file: str, mode: str
) -> CodeType:
    """As the shell compiles: with the notebook's `from __future__` imports, with `await` unless %autoawait is off."""
    with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0):
        return shell.compile(tree, file, mode)  # type: ignore[arg-type]  # it takes trees too


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _first(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    """Where the function begins, for inspect: at its first decorator, if it has one."""
    return function.decorator_list[0] if function.decorator_list else function


def _kind(last: ast.stmt | None) -> str:
    if last is None:
        return "nothing"
    if isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return f"the definition of '{last.name}'"
    return (
        "an assignment"
        if isinstance(last, ast.Assign | ast.AnnAssign | ast.AugAssign)
        else f"`{ast.unparse(last):.40}`"
    )


def _as_task(function: Any) -> Any:
    """A task of whatever the decorators made; generators, which cannot be tasks, stay helpers."""
    if isinstance(function, Node):
        raise GraphError(
            f"a decorator of this cell is the task '{function.task.name}', so it gave a node instead of a function. "
            "Define decorators in a cell of their own, without %%dag."
        )
    if (
        not callable(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        return function
    return task(function)


def _number(shell: InteractiveShell) -> int:
    """The number of the cell that is running; execution_count may be one ahead of it."""
    frame: FrameType | None = sys._getframe()  # the only way to the calling cell
    while frame is not None:
        if (label := cell_label(shell, frame.f_code.co_filename)) is not None:
            return int("".join(character for character in label if character.isdigit()) or 0)
        frame = frame.f_back
    return shell.execution_count
