"""Docker: workers in containers.

Holds: the launcher (launcher.py, settings.py), one container (spec.py, container.py, wire.py), the
  process that owns all of them (host.py, fleet.py, containers.py, container_exits.py), a run
  (run_driver.py), the decision which run gets which container (allocation.py), images (image/).
May import: dagnb_workers, dagnb, and docker.
Must not know: what a run computes.
Start at: launcher.py, then allocation.py and fleet.py.
"""
