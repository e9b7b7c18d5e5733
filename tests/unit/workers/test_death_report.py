"""Reports of deaths name the cause, the cure and the budget that is charged."""

from __future__ import annotations

import json
import signal

import pytest
from dagnb_workers.hosting.crash import DeathFacts, cause, loss, report
from dagnb_workers.worker.shared_status import Running

from dagnb.failure import Frame, TaskError
from dagnb.protocol.messages import Charge

RUNNING = Running(4, 2, 1.5, 0.0, 0)


def facts(code: int, **changes: object) -> DeathFacts:
    known: dict[str, object] = {
        "instance": "i1", "worker": "~/1", "code": code, "running": RUNNING, "was_overtime": False,
        "ran_out_of_memory": False, "memory_bytes": None, "printed": ("out", "err"), "at": 12.0,
    }  # fmt: skip
    return DeathFacts(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (7, "ended itself with exit code 7 while running this task"),
        (0, "ended itself with exit code 0 while running this task"),
        (
            -signal.SIGKILL,
            "killed by SIGKILL (9) while running this task: by another process, or by the system",
        ),
        (
            -signal.SIGSEGV,
            "killed by SIGSEGV (11) while running this task: a crash in compiled code",
        ),
        (-signal.SIGABRT, "compiled code gave up (abort)"),
        (-signal.SIGTERM, "killed by SIGTERM (15) while running this task"),
        (-99, "killed by signal 99"),
    ],
)
def test_every_end_is_named(code: int, said: str) -> None:
    assert said in cause(facts(code))


def test_a_crash_names_the_users_line_that_called_into_compiled_code() -> None:
    own = Frame(file="Cell In[4]", line=3, function="resize")
    installed = Frame(file="/lib/numpy.py", line=9, function="dot", is_library=True)

    assert cause(facts(-11, frames=(own, installed))).endswith(
        "a crash in compiled code, called from resize at Cell In[4], line 3"
    )
    assert json.loads(report(facts(-11, frames=(own,))).error)["frames"][0]["function"] == "resize"


def test_out_of_memory_is_reported_when_the_kernel_killed_for_it() -> None:
    assert "the machine ran out of memory" in cause(facts(-9, ran_out_of_memory=True))
    assert "of memory" not in cause(facts(-11, ran_out_of_memory=True))


def test_out_of_memory_in_a_container_is_reported_with_its_limit_and_the_cure() -> None:
    assert cause(facts(-9, ran_out_of_memory=True, memory_bytes=256 << 20)) == (
        "the worker process was killed by SIGKILL (9) while running this task: out of memory, "
        "its container may use 256 MB. Give it more with resources=Resources(memory_mb=...)"
    )
    assert "256 MB" not in cause(facts(-9, memory_bytes=256 << 20))


def test_a_worker_that_was_ended_because_it_was_idle_is_charged_nothing() -> None:
    death = loss("i1")

    assert (death.instance, death.task, death.charge, death.error) == (
        "i1",
        None,
        Charge.LOSS,
        "{}",
    )


def test_a_death_between_tasks_charges_no_task() -> None:
    death = report(facts(-9, running=None))

    assert death.task is None
    assert "between tasks" in json.loads(death.error)["message"]


def test_a_crash_is_charged_to_crashes_and_carries_the_last_words() -> None:
    death = report(facts(-9))

    assert (death.instance, death.task, death.charge, death.delay_s) == ("i1", 4, Charge.CRASH, 0.0)
    error = TaskError.from_json(death.error, task="f-0", attempt=1)
    assert (error.stdout_tail, error.stderr_tail, error.signal, error.exit_code) == (
        "out",
        "err",
        9,
        None,
    )


def test_a_time_limit_is_charged_to_the_users_retries() -> None:
    death = report(facts(-15, was_overtime=True))

    assert death.charge is Charge.EXCEPTION
    assert json.loads(death.error)["type"] == "TimeLimit"
    assert "its time limit of 1.5 s" in json.loads(death.error)["message"]


def test_the_error_names_the_worker_and_before_there_is_one_the_instance() -> None:
    assert json.loads(report(facts(3)).error)["worker"] == "~/1"
    assert json.loads(report(facts(3, worker="")).error)["worker"] == "i1"
