"""All the laws of a store. A test class of a store inherits them and gives the fixture `subject`."""

from __future__ import annotations

import pytest

from dagnb.testing.content_laws import ContentLaws
from dagnb.testing.run_laws import KindLaws, RoomLaws, TimeLaws
from dagnb.testing.start_laws import StartLaws
from dagnb.testing.step_laws import StepLaws
from dagnb.testing.step_laws import Subject as Subject  # noqa: PLC0414  # part of what is given here


@pytest.mark.asyncio
class StoreLaws(StepLaws, TimeLaws, StartLaws, KindLaws, RoomLaws, ContentLaws):
    """Derive, and give a fixture `subject`: a store with a clock and a hand, see Subject."""
