"""`%%dag` and `%dag`: parse the line, call dagnb, show the answer.

%%dag cell --> compiled, run to its target --> dagnb.run or dagnb.plan --> value bound to NAME
%dag line  --> a subcommand (commands.py), or `run`, which needs the cells of this notebook
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

import dagnb
from dagnb.handle import Run
from dagnb.views.show import bundle
from dagnb_kernel_ext import help_text
from dagnb_kernel_ext.cell import CellBody, await_body, compiled, holds_nodes, is_runnable, run_body
from dagnb_kernel_ext.cell_transformer import CellTransformer
from dagnb_kernel_ext.commands import COMMANDS, CommandContext
from dagnb_kernel_ext.flags import HELP, Flags, parse, unknown_text
from dagnb_kernel_ext.output import put, say
from dagnb_kernel_ext.short_traceback import ShortTraceback
from dagnb_kernel_ext.waiting import awaited_value, interruptible, value
from dagnb_kernel_ext.widgets import LiveViews


@magics_class
class DagMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell, live_views: LiveViews) -> None:
        """Begin without cells."""
        super().__init__(shell)
        self.transformer = CellTransformer(shell)
        self.context = CommandContext(shell, live_views)
        self._ipython = shell  # typed, which the trait `Magics.shell` is not
        self._space = shell.user_ns
        self._live_views = live_views
        self._cells: dict[str, tuple[Any, Flags]] = {}
        self.context.cells = self._cells.keys()

    @no_var_expand
    @line_cell_magic
    def dag(self, line: str, cell: str | None = None) -> object:  # noqa: D102  # it is set below
        __tracebackhide__ = True
        with ShortTraceback(self._ipython):
            return self._command(line) if cell is None else self._cell(line, cell)

    dag.__doc__ = help_text.TEXT

    def _cell(self, line: str, cell: str) -> Awaitable[None] | None:
        """Run a cell. Returns a coroutine for a cell that awaits; IPython awaits that."""
        __tracebackhide__ = True
        flags = parse(line)
        if flags.wants_help:
            say(help_text.TEXT)
            return None
        body = compiled(self._ipython, line, cell)
        if body.is_awaiting:
            return interruptible(self._awaited(body, flags))
        target = run_body(body, self._space)
        run = self._begin(target, flags)
        if run is not None:
            self._space[flags.name] = value(run, self._live_views)
        return None

    async def _awaited(self, body: CellBody, flags: Flags) -> None:
        """Run a cell that awaits; the kernel's loop goes on meanwhile."""
        __tracebackhide__ = True
        with ShortTraceback(self._ipython):
            target = await await_body(body, self._space)
            run = self._begin(target, flags)
            if run is not None:
                self._space[flags.name] = await awaited_value(run, self._live_views)

    def _begin(self, target: Any, flags: Flags) -> Run[Any] | None:
        """Plan or start the target of a cell. Returns the run to wait for, if any.

        With `--plan` the name is bound to the target, with `--detach` to the run.
        """
        __tracebackhide__ = True
        self._cells[flags.name] = (target, flags)
        # If the cell fails, NAME must not keep the value of an earlier run.
        self._space.pop(flags.name, None)
        if flags.plan:
            put(bundle(dagnb.plan(target, **_options(flags))))
            self._space[flags.name] = target
            return None
        run = _start(target, flags)
        if flags.detach:
            self._space[flags.name] = run
            return None
        return run

    def _command(self, line: str) -> object:
        __tracebackhide__ = True
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"%dag: {error} in {line!r}.") from None
        if not words or words[0] in {*HELP, "help"}:
            say(help_text.TEXT)
            return None
        if words[0] not in help_text.SUBCOMMANDS:
            known = list(help_text.SUBCOMMANDS)
            raise UsageError(f"%dag: {unknown_text('subcommand', words[0], known)}")
        if words[0] == "run":
            return self._run(words[1:])
        return COMMANDS[words[0]](self.context, words[1:])

    def _run(self, words: list[str]) -> object:
        """Run a node, or the last %%dag cell of that name again. Returns the value.

        The name of a cell is bound to the new value; that of a node stays bound to the node.
        """
        __tracebackhide__ = True
        if len(words) != 1:
            raise UsageError("%dag run: it takes one NAME, of a node or of a %%dag cell.")
        name = words[0]
        if name in self._space and holds_nodes(self._space[name]):
            return value(_start(self._space[name], Flags(name=name)), self._live_views)
        if name in self._cells:
            target, flags = self._cells[name]
            self._space[name] = value(_start(target, flags), self._live_views)
            return self._space[name]

        known: dict[str, bool] = {}  # a set that keeps its order
        for variable, content in self._space.items():
            if is_runnable(content) and not variable.startswith("_"):
                known[variable] = True
        for cell in self._cells:
            known[cell] = True
        raise UsageError(f"%dag run: {unknown_text('node', name, list(known))}")


def _start(target: Any, flags: Flags) -> Run[Any]:
    __tracebackhide__ = True
    return dagnb.run(
        target,
        name=flags.name,
        deadline_s=flags.timeout_s,
        metrics=flags.metrics,
        **_options(flags),
    )


def _options(flags: Flags) -> dict[str, Any]:
    percentile = None if flags.percentile is None else flags.percentile / 100
    return {"planner": flags.planner, "workers": flags.workers, "percentile": percentile}
