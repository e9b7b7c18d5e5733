"""Metrics: what becomes of spans.

Holds: when workers upload them (`AtExit`, `EachTask`, `Every`, `WhenFull`), and where runs are kept (`History`).
May import: storage, protocol, trace, planning, graph, errors, units.
Must not know: sessions, launchers, who wrote a span.
Start at: upload.py.
"""
