"""Metrics: what becomes of spans.

Holds: when workers upload them (`AtExit`, `EachTask`, `Every`, `WhenFull`), where runs are kept (`History`), and the
runs that are known to the store or to the history (known.py).
May import: storage, protocol, trace, planning, graph, errors, units.
Must not know: sessions, launchers, who wrote a span.
Start at: upload.py.
"""
