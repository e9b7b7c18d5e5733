"""The images of Docker workers.

Holds: images by what is in them (images.py), what one is made of (context.py, prepare.py, pins.py,
pip_settings.py), how it is built (build.py, archive.py), a base without a registry (offline.py),
`dagnb image` (program.py).
May import: the engine (launchers/docker/engine.py), dagnb.
Must not know: containers, runs.
Start at: images.py.
"""
