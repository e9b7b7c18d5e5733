"""Docker: workers in containers.

Holds: the engine (engine.py); the images of workers (images.py), what one is made of (context.py, prepare.py, pins.py,
pip_settings.py) and how it is built (build.py); a base without a registry (offline.py); `dagnb image` (program.py).
May import: dagnb_workers, the hub, and docker.
Must not know: what a run computes.
Start at: images.py.
"""
