"""The record of a failed attempt, written and read."""

from __future__ import annotations

import json
from importlib.resources import files

from dagnb.failure import Cause, Frame, TaskError
from dagnb.protocol.machine import LEASE_LOST_JSON

FRAME = Frame(file="Cell In[4]", line=3, function="f", source="1 / 0", before=("x = 1",), times=2)
CAUSE = Cause(how="context", type="KeyError", message="'x'", frames=(FRAME,), notes=("first",))
ERROR = TaskError(
    task="f-0",
    attempt=2,
    worker="w1",
    type="ValueError",
    message="no rows",
    mro=("builtins:ValueError",),
    frames=(FRAME,),
    notes=("in row 7",),
    causes=(Cause(how="cause", type="OSError", message="", causes=(CAUSE,)),),
    traceback=("Traceback",),
    stderr_tail="warning",
    exit_code=0,
    at=12.5,
    final=True,
)


def test_an_error_comes_back_from_its_json_with_every_field() -> None:
    assert TaskError.from_json(ERROR.to_json(), task="f-0", attempt=2, final=True) == ERROR


def test_the_json_leaves_out_what_the_key_says_and_what_is_empty() -> None:
    written = json.loads(ERROR.to_json())

    assert not {"task", "attempt", "final", "stdout_tail", "signal"} & written.keys()
    assert written["exit_code"] == 0  # a process that exits with 0 in a task is a failure, too


def test_the_scripts_of_redis_write_a_lost_lease_as_the_state_machine_does() -> None:
    scripts = [
        path.read_text()
        for path in (files("dagnb.storage") / "scripts").iterdir()
        if path.name.endswith(".lua")
    ]

    assert f"'{LEASE_LOST_JSON}'" in "".join(scripts)
