"""Run history: what past runs taught, and which runs are known.

Holds: the history file (`History`), what a run teaches of its platform, and the runs that are known to the store or to
the history (known_runs.py).
May import: storage, protocol, trace, planning, graph, errors, units.
Must not know: sessions, launchers, who wrote a span.
Start at: history.py.
"""
