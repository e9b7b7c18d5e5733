"""Trace: what happened, or what would.

Holds: `Span` (one act of a worker), `Trace` (all spans of a run, real or simulated), the strategies that say when
workers upload spans (upload.py).
May import: planning, graph, errors, units.
Must not know: where a span came from.
Start at: span.py, then trace.py.
"""
