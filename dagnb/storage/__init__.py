"""Storage: where runs live, and the only import of redis.

Holds: the interfaces `Blobs` and `Coordinator`, two stores (memory, Redis), the embedded server,
    and large values in shared memory (segments.py, broker.py).
May import: protocol, graph, errors, units.
Must not know: workers, launchers, notebooks.
Start at: interface.py.
"""
