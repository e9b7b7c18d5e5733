"""The surroundings of a task: what its code sees of the process it runs in.

Holds: the client's settings and how a worker enters them; what a task changed, put back; standard
streams; the main module; the shell.
May import: nothing of the other rooms.
Must not know: stores, runs, how processes are started.
Start at: surroundings.py, then isolation.py.
"""
