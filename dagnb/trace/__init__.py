"""Trace: the acts of the workers of a run, real or simulated.

Holds: `Span` (one act), `Trace` (all spans of a run), strategies for the upload of spans.
May import: planning, graph, errors, units.
Must not know: whether a span is real or simulated.
Start at: trace.py.
"""
