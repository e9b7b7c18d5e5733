"""Prediction: the costs of tasks, learnt from the costs of earlier tasks.

Holds: `Sample` (what a run measured of a task), `Predictor` (learns runs, gives estimates),
`Estimate` (a distribution), transfers, starts of workers.
May import: trace, planning, graph, errors, units.
Must not know: stores, clocks, the simulation, whether a span is real or simulated.
Start at: predictor.py, then experts.py.
"""
