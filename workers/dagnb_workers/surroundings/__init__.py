"""The surroundings of a task: what its code sees of the process in which it runs.

Holds: the client's settings and how a worker takes them on; the undoing of a task's changes;
standard streams; the main module; the shell.
May import: nothing of the other rooms.
Must not know: stores, runs, how processes are started.
Start at: surroundings.py, then isolation.py.
"""
