"""Run history: the measurements of past runs, and the list of all known runs.

Holds: the history file (`History`), the acts of a platform (`Act`), the record of a run that is
over, and the runs that are known to the store or to the history.
May import: prediction, storage, protocol, trace, planning, graph, errors, units.
Must not know: sessions, launchers, the process that recorded a span.
Start at: history.py.
"""
