"""Trace: what happened, or what would.

Holds: `Span` (one act of a worker) and `Trace` (all spans of a run, real or simulated).
May import: planning, graph, errors, units.
Must not know: where a span came from.
Start at: span.py, then trace.py.
"""
