"""Workers: doing it for real, as processes, in containers, elsewhere.

Holds: the real world of the worker, its executor, supervisor, agent, fork server, and the launchers.
May import: the hub (dagnb), never another arm.
Must not know: notebooks, planners; a platform is known by its launcher only.
Start at: main.py (one worker), then supervisor.py (the workers of one run), then agent.py (what a user has of them).
"""
