"""The body of a `%%dag` cell: compiled with the line numbers the user sees, run in the notebook, down to its nodes."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from dagnb import task
from dagnb.errors import GraphError
from dagnb.graph.task import Node, Task
from dagnb_kernel_ext.output import cell_label

_MARK = "__dagnb_task__"
_CURE = "End it with what shall be run: a call of one of its functions, e.g. `merge(parts)`, or a list of such calls."


@dataclass(frozen=True, slots=True)
class Targets:
    """The nodes to run. is_single: one node was asked for, not a list of them."""

    nodes: tuple[Node[Any], ...]
    is_single: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    file: str
    body: ast.Module
    last: ast.Expression


def run_body(shell: InteractiveShell, line: str, cell: str) -> Targets:
    """Run the cell's statements in the notebook's namespace; what its last expression gives.

    Raises SyntaxError, GraphError when the last line gives no node, and whatever the cell's own code raises.
    """
    __tracebackhide__ = True
    parsed = _parse(shell, line, cell)
    space = shell.user_ns
    space[_MARK] = _as_task
    try:
        exec(_compiled(shell, parsed.body, parsed.file, "exec"), space)  # noqa: S102  # this is what a cell is for
        value = eval(_compiled(shell, parsed.last, parsed.file, "eval"), space)  # noqa: S307  # as above
    except SyntaxError as error:
        if "outside" in str(error.msg) and "await" in str(error.msg):
            error.msg += " (await it in a cell of its own, before the %%dag cell)"
        raise
    finally:
        space.pop(_MARK, None)
    return targets(value)


def targets(value: object) -> Targets:
    """The nodes a value is. Raises GraphError with the cure."""
    __tracebackhide__ = True
    if isinstance(value, Node):
        return Targets((value,), is_single=True)
    if isinstance(value, list | tuple) and value and all(isinstance(item, Node) for item in value):
        return Targets(tuple(value), is_single=False)
    if isinstance(value, Task):
        raise GraphError(f"the last line names the task '{value.name}', but does not call it. {_CURE}")
    if isinstance(value, list | tuple):
        kinds = {type(item).__name__ for item in value if not isinstance(item, Node)}
        what = f"holds {', '.join(sorted(kinds))}, not only nodes" if kinds else "is empty"
        raise GraphError(f"the {type(value).__name__} in the last line {what}. {_CURE}")
    raise GraphError(f"the last line gives a value of type {type(value).__name__}, not a node. {_CURE}")


def _parse(shell: InteractiveShell, line: str, cell: str) -> _Parsed:
    """The tree, under a file name that tracebacks and inspect know as this cell."""
    __tracebackhide__ = True
    raw = f"%%dag {line}\n{cell}"
    file = shell.compile.cache(raw, _number(shell), raw_code=raw)
    # The transformers drop blank lines at the top; they and the line of %%dag itself must count.
    blank = 1 + len(cell) - len(cell.lstrip("\n"))
    tree = shell.compile.ast_parse("\n" * blank + _transformed(shell, cell), file)
    tree = shell.transform_ast(tree)  # type: ignore[no-untyped-call]  # IPython has no types here
    last = tree.body.pop() if tree.body else None
    if not isinstance(last, ast.Expr):
        raise GraphError(f"the %%dag cell ends in {_kind(last)}, which gives no node. {_CURE}")
    for function in _functions(tree):
        function.decorator_list.insert(0, ast.copy_location(ast.Name(_MARK, ast.Load()), _first(function)))
    return _Parsed(file=file, body=tree, last=ast.fix_missing_locations(ast.Expression(last.value)))


def _transformed(shell: InteractiveShell, cell: str) -> str:
    """Without line magics and `!`. What cannot even be cut into tokens stays, for the parser to say where and why."""
    try:
        text: str = shell.transform_cell(cell)  # type: ignore[no-untyped-call]  # IPython has no types here
    except SyntaxError:
        return cell.lstrip("\n")
    return text


def _compiled(shell: InteractiveShell, tree: ast.Module | ast.Expression, file: str, mode: str) -> CodeType:
    """As the shell compiles, with the notebook's `from __future__` imports."""
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
    if not callable(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
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


def help_alone(lines: list[str]) -> list[str]:
    """An input transformer: IPython refuses `%%dag -h` without a body, so it becomes `%dag -h`."""
    words = lines[0].split() if lines else []
    is_bare = not any(line.strip() for line in lines[1:])
    return ["%dag -h\n"] if words[:1] == ["%%dag"] and is_bare and {"-h", "--help"} & set(words) else lines
