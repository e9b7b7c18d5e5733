"""Graph: what the user drew.

Holds: tasks, nodes, the frozen `Dag`, its shape, and how functions and arguments become bytes.
May import: errors, registry, units.
Must not know: plans, workers, stores, clocks.
Start at: task.py, then dag.py.
"""
