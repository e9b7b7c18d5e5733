"""Hosting: how worker processes are started, watched and ended.

Holds: fork server, supervisor of a run, locks of runs, death reports, a container's first process.
May import: worker and surroundings.
Must not know: the agent and launchers, which use it.
Start at: run_host.py, then fork_server.py and supervisor.py.
"""
