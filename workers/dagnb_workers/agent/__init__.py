"""The agent: one detached process per user, which owns the embedded server and worker hosts.

Holds: the agent, its client, and the host processes that it starts.
May import: hosting and below.
Must not know: launchers, which start it.
Start at: agent.py.
"""
