"""Conformance: the same plans through the simulator and through real workers tell the same story.

Holds: `worlds` (one case, played in both), then the comparisons; `programs` of a notebook `cell`,
run by plain Python (`serial`) and where a launcher places them (`lived`). May import: everything.
Must not know: how either world does it. Start at: worlds.py.
"""
