"""Forecasts: what past runs lead to expect of a run, and how the run came out.

Holds: `expected_costs` (history to costs), `PlanForecast`, the three `Makespans` of a run,
`compare`.
May import: simulation, run_history, prediction, storage, protocol, trace, planning, graph,
registry, errors, units.
Must not know: sessions, launchers, pictures.
Start at: costs.py.
"""
