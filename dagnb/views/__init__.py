"""Views: what people look at, from graphs, plans, traces and errors.

Holds: pictures as SVG, reports as HTML, text for terminals, the one layout that all pictures share, and the view of a
run: what a browser is told (view_updates.py) and how it shows it (static/), the same live and in a page that stays.
May import: forecast, simulation, protocol, trace, planning, graph, errors, units; Graphviz in dot.py only.
Must not know: clocks, stores, notebooks, where a number came from.
Start at: layout.py, then graph.py; show.py chooses the picture of a thing.
"""
