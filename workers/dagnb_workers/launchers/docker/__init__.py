"""Docker: workers in containers.

Holds: the settings (launcher.py, settings.py), what a container is (spec.py, box.py, wire.py), who gets which
(allotment.py), the process that owns them (host.py, fleet.py, yard.py, follower.py, obituaries.py), images (image/).
May import: dagnb_workers, the hub, and docker.
Must not know: what a run computes.
Start at: launcher.py, then fleet.py.
"""
