"""Docker: workers in containers.

Holds: the settings (launcher.py, settings.py), what a container is (spec.py, container.py, wire.py), who gets which
(allocation.py), the process that owns them (host.py, fleet.py, containers.py, run_driver.py, container_exits.py), images (image/).
May import: dagnb_workers, the hub, and docker.
Must not know: what a run computes.
Start at: launcher.py, then fleet.py.
"""
