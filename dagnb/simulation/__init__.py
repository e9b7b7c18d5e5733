"""Simulation: the real worker in virtual time.

Holds: the kernel of virtual time, the virtual world, `simulate`.
May import: protocol, trace, planning, graph, errors, units.
Must not know: asyncio, real clocks, stores.
Start at: simulate.py.
"""
