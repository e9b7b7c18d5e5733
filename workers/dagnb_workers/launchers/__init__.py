"""Launchers: where instances are started, one platform a file.

Holds: frozen classes that are a launcher's settings and fulfil dagnb.protocol.launcher.Launcher.
May import: dagnb_workers, the hub, and each file its own platform.
Must not know: what a run computes.
Start at: process.py.
"""
