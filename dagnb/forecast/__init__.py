"""Forecasts: what is to be expected of a run, from what past runs taught, and how it came out.

Holds: `expected_costs` (history to costs), the `PlanForecast` of a plan, the three `Makespans` of a run, `compare`.
May import: simulation, run_history, prediction, storage, protocol, trace, planning, graph, registry, errors, units.
Must not know: sessions, launchers, pictures.
Start at: costs.py.
"""
