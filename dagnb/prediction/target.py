"""What can be predicted of a task."""

from __future__ import annotations

from enum import Enum

from dagnb.trace.sample import Sample


class Target(Enum):
    """The quantities; the value is the word in messages and in saved state."""

    RUN = "run"
    OUTPUT = "output"
    LOAD = "load"
    DUMP = "dump"

    @property
    def plus(self) -> float:
        """Added before the logarithm: sizes may be 0."""
        return 1.0 if self is Target.OUTPUT else 0.0

    @property
    def floor(self) -> float:
        """Smaller values are not told apart: a microsecond, no byte."""
        return 1.0 if self is Target.OUTPUT else 1e-6

    @property
    def default(self) -> tuple[float, float]:
        """(median, spread) when nothing at all is known; the spread is of the logarithm: a guess of two orders."""
        return {
            Target.RUN: (0.1, 2.5),
            Target.OUTPUT: (1_000.0, 3.0),
            Target.LOAD: (0.0003, 2.0),
            Target.DUMP: (0.0003, 2.0),
        }[self]

    def read(self, sample: Sample) -> tuple[int, float | None]:
        """(bytes it depends on, value) of a sample; None where it was not measured."""
        return {
            Target.RUN: (sample.input_bytes, sample.run_s),
            Target.OUTPUT: (sample.input_bytes, float(sample.output_bytes)),
            Target.LOAD: (sample.input_bytes, sample.load_s),
            Target.DUMP: (sample.output_bytes, sample.dump_s),
        }[self]
