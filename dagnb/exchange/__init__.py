"""Exchange: workflows and traces in the formats of others, text in, text out.

Holds: `Workflow` (a DAG with what is known of its runs), WfFormat both ways, the trace event format of Chrome.
May import: trace, planning, graph, errors, units.
Must not know: files, clocks, stores, who asks.
Start at: workflow.py.
"""
