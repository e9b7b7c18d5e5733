"""The random things of dagnb.testing.

Importing this loads the profile of the whole suite: the same examples every time, no limit on the
time of one.
"""

from hypothesis import settings

from dagnb.testing.strategies import *  # noqa: F403  # all of them

settings.register_profile("dagnb", derandomize=True, deadline=None, database=None)
settings.load_profile("dagnb")
