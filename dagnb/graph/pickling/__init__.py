"""Pickling: arguments, functions and results of tasks as bytes, beyond what cloudpickle can take.

Holds: picklers and reductions; packed arguments; stand-ins for objects of the notebook; the search
for the part that cannot be pickled.
May import: the leaves of dagnb.
Must not know: nodes, tasks, stores.
Start at: packing.py.
"""
