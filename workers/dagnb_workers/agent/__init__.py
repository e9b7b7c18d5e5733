"""The agent: one detached process per user, which owns the embedded server and the processes that have workers.

Holds: the agent, how it is asked, and the processes that it keeps.
May import: hosting and below.
Must not know: launchers, which start it.
Start at: agent.py.
"""
