"""Prediction: what a task will cost, of what tasks cost before.

Holds: `Predictor` (learns runs, gives estimates), `Estimate` (a distribution), transfers, starts of workers.
May import: trace, planning, graph, errors, units.
Must not know: stores, clocks, the simulation, how samples were measured.
Start at: predictor.py, then function_model.py.
"""
