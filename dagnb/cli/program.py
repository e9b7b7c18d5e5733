"""`dagnb COMMAND ...`: hand over to the command, and say how it ended.

Programs of the arms, such as the agent, are found by name and parse their own arguments. The agent is waited for and
needs nothing of the other commands, so nothing of them is imported before it starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from dagnb import registry
from dagnb.errors import DagnbError
from dagnb.views.markup import plain

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 after an error that was printed, 130 after an interrupt."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        is_program = bool(arguments) and arguments[0] in registry.names("program")
        return _program(*arguments) if is_program else _command(arguments)
    except DagnbError as error:
        sys.stderr.write(f"dagnb: {plain(str(error))}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python complains while it ends
        return FAILED


def _program(name: str, *arguments: str) -> int:
    run: Callable[[Sequence[str]], int] = registry.find("program", name)
    return run(list(arguments))


def _command(arguments: Sequence[str]) -> int:
    from dagnb.cli.parser import parser  # noqa: PLC0415  # see above

    options = parser().parse_args(arguments)
    done: int = options.act(options)
    return done
