"""Storage: where runs live, and the only import of redis.

Holds: the `Blobs` and `Coordinator` interfaces with their laws, the memory and Redis stores, the embedded server.
May import: protocol, graph, errors, units.
Must not know: workers, launchers, notebooks.
Start at: interface.py.
"""
