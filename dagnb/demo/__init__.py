"""`dagnb demo`: an example job on real input, checked against the same job without dagnb.

Holds: the tasks (identifiers.py), which workers import by name; the job (job.py); the workers of
its run and their starts (worker_log.py).
May import: the hub below it.
Must not know: the arms, the command line.
Start at: job.py.
"""
