"""Launchers: each starts instances on one platform.

Holds: frozen classes that hold the settings and fulfil dagnb.protocol.launcher.Launcher.
May import: dagnb_workers, dagnb, and each file its own platform.
Must not know: what a run computes.
Start at: process.py.
"""
