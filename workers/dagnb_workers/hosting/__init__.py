"""Hosting: how worker processes come to be, are watched, and end.

Holds: the fork server, the supervisor of a run, locks of runs, reports of deaths, the first process of a container.
May import: worker and surroundings.
Must not know: the agent and launchers, which use it.
Start at: run_host.py, then supervisor.py.
"""
