"""Model: the state machine of a run, explored exhaustively on small DAGs; and its mutants.

Holds: configurations, the world around the machine, its invariants, the explorer, mutants.
May import: dagnb.protocol.
Must not know: Redis, clocks, the worker's code.
Start at: explorer.py, then world.py. `python -m tests.model` prints what was explored.
"""
