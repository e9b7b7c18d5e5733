"""What is held of a function before it is measured: the hints of @task, or what other functions are like."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dagnb.graph.options import TaskOptions
from dagnb.prediction.target import Target

COUNT = 5.0
"""samples a hint is worth"""


@dataclass(frozen=True, slots=True)
class Prior:
    """relation: family of the growth with input size, '' if nobody said; slope: exponent, with its doubt.

    level: log of the value at a usual size, None if unknown; count: samples this is worth.
    """

    relation: str = ""
    slope: float = 0.5
    slope_sd: float = 0.5
    level: float | None = None
    count: float = 0.0


VAGUE = Prior()
_SLOPES = {"constant": 0.0, "linear": 1.0, "affine": 1.0}


def hinted(options: TaskOptions, target: Target) -> Prior:
    """The prior of the decorator's hints. They speak of run time and output size, not of pickling."""
    if target not in {Target.RUN, Target.OUTPUT}:
        return VAGUE
    said = options.time_s if target is Target.RUN else options.output_bytes
    level = None if said is None else math.log(max(said + target.plus, target.floor))
    relation, slope, doubt = "", VAGUE.slope, VAGUE.slope_sd
    if options.io is not None:
        relation, _, exponent = options.io.partition(":")
        slope, doubt = float(exponent) if exponent else _SLOPES[relation], 0.1
    if level is None and not relation:
        return VAGUE
    return Prior(relation, slope, doubt, level, COUNT if level is not None else 0.0)
