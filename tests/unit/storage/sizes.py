"""Sizes that tests of shared memory use."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagnb.storage.segments import SEGMENT_BYTES

LIMIT = 64 * SEGMENT_BYTES
"""bytes of shared memory that a run may take"""


def big(n_bytes: int = SEGMENT_BYTES) -> np.ndarray[Any, Any]:
    """Returns an array of so many bytes."""
    return np.arange(n_bytes // 8, dtype=np.int64)
