"""Prediction: the costs of tasks, learnt from the costs of earlier tasks.

Holds: `Predictor` (learns runs, gives estimates), `Estimate` (a distribution), transfers, starts of
workers.
May import: trace, planning, graph, errors, units.
Must not know: stores, clocks, the simulation, how samples were measured.
Start at: predictor.py, then experts.py.
"""
