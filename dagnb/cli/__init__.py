"""The command line: `dagnb demo`, `dagnb runs`, ... A command calls other rooms and prints.

Holds: the entry point (program.py), options (parser.py), commands on runs (runs.py), on past runs
(past.py) and on this machine (machine.py), the execution of scripts and notebooks (script.py).
May import: the hub below it.
Must not know: the arms; the agent is found by its name.
Start at: program.py.
"""

from dagnb.cli.program import main

__all__ = ["main"]
