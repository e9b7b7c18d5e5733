"""Planners: who runs what, decided before the run.

Holds: one planner a file, each a frozen dataclass whose fields are its settings.
May import: dagnb.
Must not know: clocks, stores, workers, chance: equal problems give equal plans.
Start at: flexible.py, the default; ../README.md says which planner decides what.
"""
