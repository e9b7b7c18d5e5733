"""Simulation: the worker's own code in virtual time.

Holds: virtual time (environment.py), the virtual world, containers, scenarios, replays, `simulate`.
May import: protocol, trace, planning, graph, errors, units.
Must not know: asyncio, real clocks, stores.
Start at: simulate.py.
"""
