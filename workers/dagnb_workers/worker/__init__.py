"""The worker process: joins a run, fetches, calls, commits, until the run is over.

Holds: the real world of dagnb.protocol.worker (asyncio and a store), calls of the user's functions,
their errors.
May import: surroundings.
Must not know: what started the process.
Start at: main.py, then runtime.py.
"""
