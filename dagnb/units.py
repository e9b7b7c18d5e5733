"""Names for numbers that carry a unit: every time is float seconds, every size is int bytes."""

from typing import TypeAlias

Seconds: TypeAlias = float
Bytes: TypeAlias = int
EpochSeconds: TypeAlias = float

KB: Bytes = 1_000
MB: Bytes = 1_000_000
KIB: Bytes = 1024
MIB: Bytes = 1024 * 1024
