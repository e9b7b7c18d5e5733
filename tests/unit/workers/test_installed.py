"""Workers that share this interpreter have what it has, and say what it lacks."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from dagnb_workers.launchers.inline import Inline
from dagnb_workers.launchers.installed import absent
from dagnb_workers.launchers.process import Processes

import dagnb
from dagnb.errors import ConfigError
from dagnb.graph.task import task


@pytest.mark.parametrize(
    ("requirement", "is_absent"),
    [
        ("cloudpickle", False),
        ("cloudpickle>=3", False),
        (f"cloudpickle=={version('cloudpickle')}", False),
        ("cloudpickle<1", True),
        ("no-such-package", True),
        ("no-such-package; python_version < '3'", False),
        ("Cloud_Pickle", True),
        ("CloudPickle", False),
    ],
)
def test_a_requirement_is_met_by_name_version_and_marker(requirement: str, is_absent: bool) -> None:
    assert absent([requirement]) == ((requirement,) if is_absent else ())


def test_each_that_is_absent_is_named_once_in_order() -> None:
    assert absent(["zz-none", "cloudpickle", "aa-none>=1", "zz-none"]) == ("zz-none", "aa-none>=1")


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (
            Processes(n=1),
            (
                "processes have the packages of this environment, "
                "and no-such-package>=2 is not among them. "
                "Install it here, or take workers='docker', which makes an image with it."
            ),
        ),
        (
            Inline(n=1),
            "no-such-package>=2 is not installed here. Install it, or take workers='docker'.",
        ),
    ],
    ids=["process", "inline"],
)
def test_a_run_that_needs_what_is_not_here_is_refused_before_anything_starts(
    launcher: Processes | Inline, message: str
) -> None:
    @task(requirements=["No.Such.Package >= 2"])
    def needy() -> int:
        return 1

    with pytest.raises(ConfigError) as caught:
        dagnb.run(needy(), workers=launcher)

    assert str(caught.value) == message


def test_a_run_that_needs_what_is_here_runs() -> None:
    @task(requirements=["cloudpickle>=3"])
    def modest() -> int:
        return 1

    assert dagnb.run(modest(), workers=Inline(n=1)).result() == 1
