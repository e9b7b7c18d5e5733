"""The command line: `dagnb demo`, `dagnb runs`, ... Each command is a few calls of what is below, and prints.

Holds: what every command has in common (program.py), their options (parser.py); the commands on runs (runs.py), on what
past runs taught (past.py), on this machine (here.py), and the execution of scripts and notebooks (script.py).
May import: the hub below it.
Must not know: the arms; the agent is found by name.
Start at: program.py.
"""

from dagnb.cli.program import main

__all__ = ["main"]
