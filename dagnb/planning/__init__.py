"""Planning: plans, the costs that they are made from, and the interface of planners.

Holds: `Plan` (the execution graph) and its `check`, `Problem` with its `Costs` and `Pool`, the
`Planner` protocol.
May import: graph, errors, units.
Must not know: stores, workers, clocks, any particular planner.
Start at: plan.py.
"""
