"""Protocol: how workers coordinate without a scheduler, and the worker itself, written once.

Holds: the messages, the state machine (pure, executable), the worker and the `World` it may ask, launchers' contract.
May import: trace, planning, graph, registry, errors, units.
Must not know: Redis, asyncio, clocks, which world it runs in.
Start at: worker.py, then machine.py.
"""
