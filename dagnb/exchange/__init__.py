"""Exchange: workflows and traces in formats of other systems, from text and to text.

Holds: `Workflow` (a DAG with durations and sizes), WfFormat, the trace event format of Chrome.
May import: trace, planning, graph, errors, units.
Must not know: files, clocks, stores, the command line.
Start at: workflow.py.
"""
