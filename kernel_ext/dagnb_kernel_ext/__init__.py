"""The extension of IPython: magics, the live view of a run, and its final picture.

Holds: what needs IPython or a browser: magics, live views, errors as IPython shows them.
May import: dagnb; IPython, anywidget, traitlets.
Must not know: workers, planners, Redis; it reads the state of a run from `Run.snapshot`.
Start at: extension.py, then magics.py; for the live view widgets.py.
"""
