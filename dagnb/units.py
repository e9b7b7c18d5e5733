"""Types of numbers with a unit: times are float seconds, sizes int bytes."""

from datetime import UTC, datetime, tzinfo
from typing import TypeAlias

Seconds: TypeAlias = float
Bytes: TypeAlias = int
EpochSeconds: TypeAlias = float

# Decimal for sizes of values and memory; binary where the kernel and Docker count so.
KB: Bytes = 1_000
MB: Bytes = 1_000_000
MIB: Bytes = 1024 * 1024


def moment_text(epoch_s: EpochSeconds, zone: tzinfo | None = None) -> str:
    """Returns a moment as text, in this machine's time zone unless another is given.

    >>> moment_text(1.8e9, UTC)
    '2027-01-15 08:00:00'
    """
    return datetime.fromtimestamp(epoch_s, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
