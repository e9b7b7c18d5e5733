"""The notebook arm: magics, the live view of a run, the picture that stays.

Holds: what needs IPython or a browser; pure parts (moment, sketching, frozen), and doing ones (feed, widgets, magics).
May import: dagnb; IPython, anywidget, traitlets.
Must not know: workers, planners, Redis; it sees a run through `Run.look`.
Start at: extension.py, then magics.py; for the live view widgets.py.
"""
