"""Protocol: how workers coordinate without a scheduler, and the worker itself, written once.

Holds: messages, the state machine (pure, executable), the worker and its `World`, the launchers.
May import: trace, planning, graph, registry, errors, units.
Must not know: Redis, asyncio, clocks, which world it runs in.
Start at: states.py for the theory, then worker.py and machine.py.
"""
