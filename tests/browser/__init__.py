"""Browser: notebooks in a real JupyterLab, looked at with a real Chromium.

Holds: the server, the browser, a notebook as its user handles it, the view as its user sees it;
then tests. May import: the public names of dagnb; playwright. Must not know: how the view is made.
Its selectors stand in view.py and nowhere else. Start at: conftest.py, then notebook.py.
DAGNB_SCREENSHOTS=folder keeps pictures.
"""
