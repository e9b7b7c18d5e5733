"""`%%dag` and `%dag`: parse, call dagnb, show; nothing else."""

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
        """Nothing was run yet."""
        super().__init__(shell)
        self.intake = CellTransformer(shell)
        self.desk = CommandContext(shell, live_views)
        self._of = shell
        self._space = shell.user_ns
        self._live_views = live_views
        self._cells: dict[str, tuple[Any, Flags]] = {}
        self.desk.cells = self._cells.keys()

    @no_var_expand
    @line_cell_magic
    def dag(self, line: str, cell: str | None = None) -> object:  # noqa: D102  # what users see is set below
        __tracebackhide__ = True
        with ShortTraceback(self._of):
            return self._command(line) if cell is None else self._cell(line, cell)

    dag.__doc__ = help_text.TEXT

    def _cell(self, line: str, cell: str) -> Awaitable[None] | None:
        """Run it; a cell that awaits is run by whoever awaits what is returned."""
        __tracebackhide__ = True
        flags = parse(line)
        if flags.wants_help:
            say(help_text.TEXT)
            return None
        body = compiled(self._of, line, cell)
        if body.is_awaiting:
            return interruptible(self._awaited(body, flags))
        found = run_body(body, self._space)
        run = self._begun(found, flags)
        if run is not None:
            self._space[flags.name] = value(run, self._live_views)
        return None

    async def _awaited(self, body: CellBody, flags: Flags) -> None:
        """As a cell that does not await, but the loop goes on meanwhile."""
        __tracebackhide__ = True
        with ShortTraceback(self._of):
            found = await await_body(body, self._space)
            run = self._begun(found, flags)
            if run is not None:
                self._space[flags.name] = await awaited_value(run, self._live_views)

    def _begun(self, found: Any, flags: Flags) -> Run[Any] | None:
        """The run that must be waited for, if any; the name is bound to what is known already."""
        __tracebackhide__ = True
        self._cells[flags.name] = (found, flags)
        self._space.pop(
            flags.name, None
        )  # an old value must not pass for this cell's when it fails
        if flags.plan:
            put(bundle(dagnb.plan(found, **_chosen(flags))))
            self._space[flags.name] = found
            return None
        run = _started(found, flags)
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
            raise UsageError(
                f"%dag: {unknown_text('subcommand', words[0], list(help_text.SUBCOMMANDS))}"
            )
        if words[0] == "run":
            return self._run(words[1:])
        return COMMANDS[words[0]](self.desk, words[1:])

    def _run(self, words: list[str]) -> object:
        """The value of a node, or of the last %%dag cell of that name, which it is bound to again."""
        __tracebackhide__ = True
        if len(words) != 1:
            raise UsageError("%dag run: it takes one NAME, of a node or of a %%dag cell.")
        name = words[0]
        if name in self._space and holds_nodes(self._space[name]):
            return value(_started(self._space[name], Flags(name=name)), self._live_views)
        if name in self._cells:
            found, flags = self._cells[name]
            self._space[name] = value(_started(found, flags), self._live_views)
            return self._space[name]
        nodes = [
            known for known, one in self._space.items() if is_runnable(one) and known[0] != "_"
        ]
        raise UsageError(
            f"%dag run: {unknown_text('node', name, list(dict.fromkeys([*nodes, *self._cells])))}"
        )


def _started(found: Any, flags: Flags) -> Run[Any]:
    __tracebackhide__ = True
    return dagnb.run(
        found, name=flags.name, deadline_s=flags.timeout_s, metrics=flags.metrics, **_chosen(flags)
    )


def _chosen(flags: Flags) -> dict[str, Any]:
    percentile = None if flags.percentile is None else flags.percentile / 100
    return {"planner": flags.planner, "workers": flags.workers, "percentile": percentile}
