"""Files as people call them, in errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from dagnb.errors import TaskError

Label: TypeAlias = Callable[[str], str]
"""file -> how people call it: a cell's file is 'Cell In[3]'"""


def labelled(error: TaskError, label: Label) -> TaskError:
    """The error with the names of files as people know them."""
    return replace(error, frames=tuple(replace(frame, file=label(frame.file)) for frame in error.frames))
