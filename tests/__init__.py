"""Tests: what dagnb promises, tried.

Holds: `graphs` (named shapes), `strategies` (random DAGs and plans), then one folder a kind of
test: unit, property, contract, conformance, services, notebooks, browser. May import: everything.
Must not know: private names, where a public one shows the same. Start at: graphs.py.
"""
