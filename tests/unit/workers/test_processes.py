"""The settings of process workers that are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from dagnb_workers.launchers.process import Processes

from dagnb.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, r"Processes\(n=0\): at least one worker is needed\."),
        ({"preload": ["json", "no_such_pack.sub"]}, "there is no module 'no_such_pack.sub'"),
        ({"preload": [""]}, "there is no module ''"),
        ({"preload": "json"}, "a list of names is needed, not a text"),
        ({"idle_s": -1.0}, "seconds cannot be negative"),
    ],
)
def test_settings_with_which_nothing_could_run_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Processes(**settings)


def test_modules_to_preload_may_be_a_list_and_compare_and_hash_as_values() -> None:
    made = Processes(n=2, preload=["json", "numbers"])

    assert made.preload == ("json", "numbers")
    assert made == Processes(n=2, preload=("json", "numbers"))
    assert len({made, Processes(n=2, preload=["json", "numbers"]), Processes(n=2)}) == 2
