"""What pytest does not look into here."""

collect_ignore = ["probes.py"]
"""a script, which imports what lies beside it: it has no examples, and is no module"""
