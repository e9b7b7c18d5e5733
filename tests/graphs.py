"""The named shapes of dagnb.testing."""

from dagnb.testing.graphs import *  # noqa: F403  # all of them
