"""The same graphs on several systems, one process a system, for `overhead.py` and `everyday.py`.

Holds: the graphs, one adapter a system, the clock, the process that measures, and its parent.
May import: dagnb and the arm of its workers; each peer only in its own adapter.
Must not know: the tables that the programs print.
Start at: system.py.
"""
