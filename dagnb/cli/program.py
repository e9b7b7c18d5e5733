"""The entry point of `dagnb COMMAND ...`.

Programs of other packages, such as the agent, are found by name and parse their own arguments. The
first run of a user waits for the agent to start, so nothing of the other commands is imported
before.
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
    """Runs one command and returns its exit code.

    0: success. 1: failure, with its message printed. 2: wrong arguments. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        is_program = bool(arguments) and arguments[0] in registry.names("program")
        return _program(*arguments) if is_program else _command(arguments)
    except DagnbError as error:
        sys.stderr.write(f"dagnb: {plain(str(error))}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has ended, as in `dagnb runs | head`
        # Python flushes stdout when it ends, and would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _program(name: str, *arguments: str) -> int:
    run: Callable[[Sequence[str]], int] = registry.find("program", name)
    return run(list(arguments))


def _command(arguments: Sequence[str]) -> int:
    from dagnb.cli.parser import parser  # noqa: PLC0415  # see above

    options = parser().parse_args(arguments)
    code: int = options.act(options)
    return code
