"""CPUs and memory of a worker."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dagnb.errors import ConfigError
from dagnb.graph.resources import DEFAULT, Resources


@pytest.mark.parametrize(
    ("resources", "label"),
    [
        (DEFAULT, ""),
        (Resources(cpus=2), "2cpu"),
        (Resources(cpus=0.5), "0.5cpu"),
        (Resources(memory_mb=512), "512mb"),
        (Resources(cpus=2.0, memory_mb=512), "2cpu-512mb"),
    ],
)
def test_the_label_names_what_was_asked_for(resources: Resources, label: str) -> None:
    assert resources.label() == label


@pytest.mark.parametrize(
    "wrong",
    [{"cpus": 0}, {"cpus": -1}, {"cpus": math.nan}, {"memory_mb": 15}, {"memory_mb": 0}],
    ids=repr,
)
def test_what_no_worker_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a worker needs"):
        Resources(**wrong)


def test_equal_resources_are_one_pool() -> None:
    assert len({Resources(cpus=1), Resources(cpus=1.0), Resources(cpus=2)}) == 2
