"""Run history: the measurements of past runs, and the list of all known runs.

Holds: the history file (`History`), what a run teaches of its platform (act.py), and the runs that
are known to the store or to the history (known_runs.py).
May import: storage, protocol, trace, planning, graph, errors, units.
Must not know: sessions, launchers, the process that recorded a span.
Start at: history.py.
"""
