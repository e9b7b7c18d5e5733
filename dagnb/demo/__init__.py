"""`dagnb demo`: the main job on real input, checked against the same job done without dagnb.

Holds: the tasks (identifiers.py), which travel to workers by name; what is done with them and shown (job.py); where
their workers were, and how they started (worker_log.py).
May import: the hub below it.
Must not know: the arms, the command line.
Start at: job.py.
"""
