"""Planning: what a plan is, what it costs, and how a planner is asked.

Holds: `Plan` (the execution graph), `Costs` (the price list), `Problem`, the `Planner` protocol,
`check`.
May import: graph, errors, units.
Must not know: stores, workers, clocks, any particular planner.
Start at: plan.py.
"""
