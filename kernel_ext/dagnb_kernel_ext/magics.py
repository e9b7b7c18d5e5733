"""`%%dag` and `%dag`: parse, call dagnb, show; nothing else."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

import dagnb
from dagnb import progress, registry
from dagnb.handle import Run
from dagnb.views.show import bundle
from dagnb_kernel_ext import manual
from dagnb_kernel_ext.cell import Targets, run_body, targets
from dagnb_kernel_ext.commands import COMMANDS, Desk
from dagnb_kernel_ext.flags import Flags, parse, unknown_text
from dagnb_kernel_ext.output import put, say
from dagnb_kernel_ext.widgets import Gallery


@magics_class
class DagMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell, gallery: Gallery) -> None:
        """Nothing was run yet."""
        super().__init__(shell)
        self._space = shell.user_ns
        self._of = shell
        self._gallery = gallery
        self._desk = Desk(shell, gallery)
        self._cells: dict[str, tuple[Targets, Flags]] = {}

    def remember(self, run: Run[Any]) -> None:
        """Take the run for the latest: what `%dag status` and the like mean when they are given none."""
        self._desk.latest = run

    @no_var_expand
    @line_cell_magic
    def dag(self, line: str, cell: str | None = None) -> object:  # noqa: D102  # what users see is set below
        __tracebackhide__ = True
        if cell is None:
            return self._command(line)
        self._cell(line, cell)
        return None

    dag.__doc__ = manual.TEXT

    def _cell(self, line: str, cell: str) -> None:
        __tracebackhide__ = True
        flags = parse(line)
        if flags.wants_help:
            say(manual.TEXT)
            return
        found = run_body(self._of, line, cell)
        self._cells[flags.name] = (found, flags)
        self._space.pop(flags.name, None)  # an old value must not pass for this cell's when it fails
        self._space[flags.name] = self._act(found, flags)

    def _act(self, found: Targets, flags: Flags) -> object:
        """What the name is bound to: the value, the run, or what would be run."""
        __tracebackhide__ = True
        chosen: dict[str, Any] = {"planner": _planner(flags), "workers": flags.workers}
        if flags.plan:
            put(bundle(dagnb.plan(*found.nodes, **chosen)))
            return found.nodes[0] if found.is_single else found.nodes
        run = dagnb.run(*found.nodes, name=flags.name, deadline_s=flags.timeout_s, **chosen)
        return run if flags.detach else self._value(run, found)

    def _value(self, run: Run[Any], found: Targets) -> object:
        """The value of the run; the cell ends with the last picture, whatever came of it."""
        __tracebackhide__ = True
        try:
            if not self._gallery.is_notebook:
                progress.watch(run)
            value = run.result()
        finally:
            self._gallery.settle(run)
        return value if found.is_single or len(found.nodes) > 1 else (value,)

    def _command(self, line: str) -> object:
        __tracebackhide__ = True
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%dag: {error} in {line!r}.") from None
        if not words or words[0] in {"-h", "--help", "help"}:
            say(manual.TEXT)
            return None
        if words[0] not in manual.SUBCOMMANDS:
            raise UsageError(f"%dag: {unknown_text('subcommand', words[0], list(manual.SUBCOMMANDS))}")
        if words[0] == "run":
            return self._run(words[1:])
        return COMMANDS[words[0]](self._desk, words[1:])

    def _run(self, words: list[str]) -> object:
        """The value of a node, or of the last %%dag cell of that name, which it is bound to again."""
        __tracebackhide__ = True
        if len(words) != 1:
            raise UsageError("%dag run: it takes one NAME, of a node or of a %%dag cell.")
        name = words[0]
        held = self._space.get(name)
        if _is_runnable(held):
            return self._act(targets(held), Flags(name=name))
        if name in self._cells:
            found, flags = self._cells[name]
            value = self._act(found, dataclasses.replace(flags, plan=False, detach=False))
            self._space[name] = value
            return value
        nodes = [known for known, value in self._space.items() if _is_runnable(value) and known[0] != "_"]
        raise UsageError(f"%dag run: {unknown_text('node', name, [*nodes, *self._cells])}")


def _is_runnable(value: object) -> bool:
    try:
        targets(value)
    except dagnb.errors.GraphError:
        return False
    return True


def _planner(flags: Flags) -> Any:
    """The planner meant; its name alone, when nothing is asked of it."""
    if flags.percentile is None:
        return flags.planner
    name = flags.planner or dagnb.session.settings().planner
    planner: Any = registry.find("planner", name)() if isinstance(name, str) else name
    if not hasattr(planner, "percentile"):
        raise UsageError(f"%%dag: planner '{planner.name}' makes no use of --percentile; leave it out.")
    return dataclasses.replace(planner, percentile=flags.percentile)
