"""The worker process: joins a run, then fetches, calls and commits until the run is over.

Holds: the real world of dagnb.protocol.worker (asyncio and a store), calls of the user's functions,
and the records of their errors.
May import: surroundings.
Must not know: what started the process.
Start at: main.py, then runtime.py.
"""
