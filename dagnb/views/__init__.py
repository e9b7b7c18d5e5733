"""Views: pictures, pages and texts made from graphs, plans, traces and errors.

Holds: pictures as SVG, reports as HTML, text for terminals, the one layout that all pictures share,
and the view of a run, live and in a page: its messages (view_updates.py), its script (static/).
May import: forecast, simulation, protocol, trace, planning, graph, errors, units; Graphviz only in
layout.py.
Must not know: clocks, stores, notebooks, where a number came from.
Start at: layout.py, then graph.py; show.py chooses the picture of a thing.
"""
