"""The notebook arm: magics, the live view of a run, the picture that stays.

Holds: what needs IPython or a browser: magics, live views, errors as IPython shows them.
May import: dagnb; IPython, anywidget, traitlets.
Must not know: workers, planners, Redis; it sees a run through `Run.snapshot`.
Start at: extension.py, then magics.py; for the live view widgets.py.
"""
