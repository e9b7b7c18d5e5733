"""The error tree: one of each class, its message, its fields, and its way through pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import replace

import pytest

from dagnb import errors
from dagnb.errors import DagnbError, Frame, TaskError
from dagnb.failure import reason_of
from dagnb.graph.payload import encode_value

FRAME = Frame(file="cell 3", line=2, function="resize", source="1 / 0", column=4, end_column=9)
FIRST = TaskError(
    task="resize-3",
    attempt=3,
    worker="w2",
    type="MemoryError",
    message="no room",
    frames=(FRAME,),
    traceback=("Traceback (most recent call last):\n", "MemoryError: no room\n"),
    exit_code=1,
)
SECOND = TaskError(
    task="merge-0", attempt=1, worker="w1", type="WorkerDied", message="SIGKILL", signal=9
)

ONE_OF_EACH: list[DagnbError] = [
    errors.DagnbError("something"),
    errors.GraphError("a graph"),
    errors.CycleError(["a-0", "b-0"]),
    errors.ArgumentChangedError("merge-0", "parts", "ndarray"),
    errors.NoNodeError("int", "3"),
    errors.UnserialisableError(
        "merge-0", "argument 'file'", "cannot pickle '_io.TextIOWrapper' object"
    ),
    errors.PlanError("a plan"),
    errors.UnknownNameError("planner", "hefd", ["one_pass", "heft"]),
    errors.InvalidPlanError("mine", ["first", "second"]),
    errors.ChainRuleError("mine", "w0", ["a-0", "b-0", "c-0"], "first. Cure.", 1),
    errors.ConfigError("a setting"),
    errors.RequirementError(
        "requirements.txt", 3, "-r more.txt", "has the option -r", "Leave it out."
    ),
    errors.StorageError("the store"),
    errors.StorageUnavailableError("redis://here", "refused"),
    errors.StorageLostError("unix:/here", "refused"),
    errors.StorageFullError(512, "maxmemory"),
    errors.StorageLimitError("redis://here", 600, 512),
    errors.SharedMemoryError(512, "Cannot allocate memory"),
    errors.BlobMissingError(["a", "b", "c", "d"]),
    errors.SignatureError("the result of 'merge-0'"),
    errors.RunMissingError("01RUN"),
    errors.RunNotStoredError("01RUN", "01OLD"),
    errors.UnknownRunError("totel", ["total"]),
    errors.UnknownTaskError("merg", ["merge-0"]),
    errors.AmbiguousNameError(
        "task", "count", "'count' is called 2 times:", ["count-0", "count-1"], "Give one."
    ),
    errors.HistoryError("a file"),
    errors.LaunchError("no workers"),
    errors.VersionMismatchError("dagnb 2", "dagnb 1"),
    errors.ImageBuildError(
        "python:3.11-slim", ["pandas==99"], ["ERROR: none such"], "Correct the version."
    ),
    errors.RunError("a run"),
    errors.TaskFailedError("01RUN", [FIRST, SECOND]),
    errors.RunTimeoutError("01RUN", 2.5),
    errors.RunCancelledError("01RUN", "Ctrl-C"),
    errors.ValueUnreadableError(
        "01RUN", "TypeError: body", {"a-0": (b"pickle", (b"buffer",))}, {"b-0": 1}
    ),
    errors.OriginalError("KeyError", "'left'", ["KeyError: 'left'\n"]),
    errors.ProtocolError("our fault"),
]
IDS = [type(error).__name__ for error in ONE_OF_EACH]


def test_there_is_one_of_each_class_here() -> None:
    classes = [
        thing
        for _, thing in inspect.getmembers(errors, inspect.isclass)
        if issubclass(thing, errors.DagnbError)
    ]

    assert sorted(IDS) == sorted(thing.__name__ for thing in classes)


def test_the_tree_is_the_one_the_module_draws() -> None:
    parents = {
        name: parent.__name__
        for name, parent in ((type(e).__name__, type(e).__bases__[0]) for e in ONE_OF_EACH)
    }
    by_parent: dict[str, set[str]] = {}
    for name, parent in parents.items():
        by_parent.setdefault(parent, set()).add(name)

    assert by_parent == {
        "Exception": {"DagnbError"},
        "DagnbError": {
            "GraphError", "PlanError", "ConfigError", "StorageError", "HistoryError", "LaunchError",
            "RunError", "OriginalError", "ProtocolError",
        },
        "GraphError": {"ArgumentChangedError", "CycleError", "NoNodeError", "UnserialisableError"},
        "PlanError": {"UnknownNameError", "InvalidPlanError"},
        "UnknownNameError": {"UnknownTaskError"},
        "InvalidPlanError": {"ChainRuleError"},
        "StorageError": {
            "BlobMissingError", "StorageUnavailableError", "StorageFullError", "StorageLimitError",
            "SharedMemoryError", "SignatureError", "RunMissingError",
        },
        "StorageUnavailableError": {"StorageLostError"},
        "RunMissingError": {"RunNotStoredError", "UnknownRunError"},
        "ConfigError": {"RequirementError", "AmbiguousNameError"},
        "LaunchError": {"VersionMismatchError", "ImageBuildError"},
        "RunError": {
            "TaskFailedError", "RunTimeoutError", "RunCancelledError", "ValueUnreadableError",
        },
    }  # fmt: skip
    assert all(name in (errors.__doc__ or "") for name in parents)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=IDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_comes_through_pickle_with_its_message_and_fields(
    error: DagnbError, protocol: int
) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=IDS)
def test_an_error_can_be_copied(error: DagnbError) -> None:
    again = copy.copy(error)

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_note_comes_through_pickle() -> None:
    error = errors.ConfigError("a setting")
    error.add_note("in cell 3")

    assert pickle.loads(pickle.dumps(error)).__notes__ == ["in cell 3"]


def test_a_timeout_is_pythons_own_timeout_too() -> None:
    error = errors.RunTimeoutError("01RUN", 2.5)

    assert isinstance(error, TimeoutError)
    assert (error.run, error.limit_s, error.errno) == ("01RUN", 2.5, None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.CycleError(["a-0", "b-0"]),
            (
                "the graph has a cycle: a-0 -> b-0 -> a-0. "
                "A task cannot wait for itself: break one of these edges."
            ),
        ),
        (
            errors.InvalidPlanError("mine", list("abcdefg")),
            (
                "the plan of 'mine' does not fit its graph: a; b; c; d; e; .... "
                "Correct the planner, or take planner='flexible'."
            ),
        ),
        (
            errors.BlobMissingError(["a", "b", "c", "d"]),
            "4 value(s) are missing from the store: a, b, c, .... Run the DAG again.",
        ),
        (
            errors.RunTimeoutError("01RUN", 2.5),
            "run 01RUN gave no result within 2.5 s: the run goes on; wait again with run.result().",
        ),
        (
            errors.RequirementError("", 3, "-r more.txt", "has the option -r", "Leave it out."),
            "requirement 3: '-r more.txt' has the option -r. Leave it out.",
        ),
        (
            errors.ImageBuildError(
                "slim", ["a", "b"], ["ERROR: one", "ERROR: two"], "Correct them."
            ),
            (
                "the image of workers on slim with a, b could not be built:\n"
                "    ERROR: one\n    ERROR: two\nCorrect them."
            ),
        ),
        (
            errors.RunCancelledError("01RUN", "Ctrl-C"),
            "run 01RUN was cancelled (Ctrl-C). Start it again with .run().",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_message_says_what_happened_and_ends_with_the_cure(
    error: DagnbError, message: str
) -> None:
    assert str(error) == message


def test_one_failed_task_is_told_with_the_users_own_traceback_and_what_it_printed() -> None:
    error = errors.TaskFailedError(
        "01RUN", [replace(FIRST, stderr_tail="low on memory\n", stdout_tail=" \n")]
    )

    assert str(error) == (
        "task 'resize-3' failed after 3 attempt(s) on w2: MemoryError: no room. "
        "`dagnb errors 01RUN` shows everything.\n\n"
        "Traceback (most recent call last):\nMemoryError: no room\n"
        "stderr:\nlow on memory"
    )


def test_of_several_failed_tasks_each_is_told_with_its_own_lines() -> None:
    error = errors.TaskFailedError("01RUN", [FIRST, SECOND])

    assert str(error) == (
        "task 'resize-3' failed after 3 attempt(s) on w2: MemoryError: no room (and 1 more). "
        "This is the first that failed. "
        "`dagnb errors 01RUN` shows everything.\n\n"
        "task 'resize-3' attempt 3 on w2: MemoryError: no room\n"
        "Traceback (most recent call last):\nMemoryError: no room\n\n"
        "task 'merge-0' attempt 1 on w1: WorkerDied: SIGKILL"
    )


def test_of_many_failed_tasks_with_much_to_say_the_first_five_are_told_by_their_ends() -> None:
    huge = replace(
        FIRST,
        message="m" * 10_000,
        traceback=("Traceback (\n" + "t" * 60_000, "the end"),
        stderr_tail="e" * 60_000,
    )
    text = str(errors.TaskFailedError("01RUN", [huge] * 12))

    assert len(text) < 2_500 + 5 * (8_000 + 2_000 + 2_000 + 100)
    assert text.count("the end") == 5
    assert text.endswith("and 7 more failed")


def test_a_failed_task_without_a_traceback_shows_one_line() -> None:
    repeated = replace(SECOND, traceback=("WorkerDied: SIGKILL\n",))

    for only in (SECOND, repeated):
        assert str(errors.TaskFailedError("01RUN", [only])) == (
            "task 'merge-0' failed after 1 attempt(s) on w1: WorkerDied: SIGKILL. "
            "`dagnb errors 01RUN` shows everything."
        )


def test_a_result_that_cannot_travel_has_a_cure_of_its_own() -> None:
    given = errors.UnserialisableError("f-0", "argument 'file'", "TypeError: a file")
    returned = errors.UnserialisableError("f-0", "the result", "TypeError: a lock")

    assert str(given).endswith(
        "Pass plain data (a path instead of an open file) or create the object inside the task."
    )
    assert str(returned) == (
        "the result of task 'f-0' cannot be pickled: TypeError: a lock. "
        "Return plain data (a path, a list) instead, and open or create the object inside the task that needs it."
    )


def test_the_line_of_a_task_error_names_task_attempt_worker_and_cause() -> None:
    assert SECOND.line() == "task 'merge-0' attempt 1 on w1: WorkerDied: SIGKILL"


@pytest.mark.parametrize(
    ("name", "nearest", "hint"),
    [
        ("hefd", "heft", "Did you mean 'heft'?"),
        ("one-pass", "one_pass", "Did you mean 'one_pass'?"),
        ("xyz", None, "Known: heft, one_pass."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_with_all(
    name: str, nearest: str | None, hint: str
) -> None:
    error = errors.UnknownNameError("planner", name, {"one_pass", "heft"})

    assert error.nearest == nearest
    assert error.known == ("heft", "one_pass")
    assert str(error) == f"unknown planner '{name}'. {hint}"


def test_an_unknown_name_where_nothing_is_known_says_so() -> None:
    assert (
        str(errors.UnknownNameError("launcher", "docker", []))
        == "unknown launcher 'docker'. Known: none."
    )


def failed(kind: str, message: str) -> str:
    error = errors.TaskError(task="f-0", attempt=1, worker="w1", type=kind, message=message)
    return str(errors.TaskFailedError("01RUN", [error]).args[0])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", "on w1: KeyboardInterrupt. `dagnb errors"),
        ("   ", "on w1: KeyboardInterrupt. `dagnb errors"),
        ("no rows.", "on w1: KeyboardInterrupt: no rows. `dagnb errors"),
        ("write timeout_s=...", "on w1: KeyboardInterrupt: write timeout_s=... `dagnb errors"),
    ],
)
def test_a_failure_reads_as_a_sentence_whatever_the_exception_said(
    message: str, expected: str
) -> None:
    assert expected in failed("KeyboardInterrupt", message)


def test_a_failed_attempt_without_a_message_is_told_by_its_type_alone() -> None:
    error = errors.TaskError(task="f-0", attempt=1, worker="w1", type="KeyError", message="")

    assert error.line() == "task 'f-0' attempt 1 on w1: KeyError"


def test_a_run_that_was_cancelled_for_no_reason_names_none() -> None:
    assert (
        str(errors.RunCancelledError("01RUN"))
        == "run 01RUN was cancelled. Start it again with .run()."
    )
    assert (
        str(errors.RunCancelledError("01RUN", ""))
        == "run 01RUN was cancelled. Start it again with .run()."
    )


class UnspeakableError(Exception):
    """Has no message, and says so badly."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no rows."), "no rows"),
        (TimeoutError(), "TimeoutError"),
        (ValueError(" "), "ValueError"),
        (UnspeakableError(), "UnspeakableError"),
    ],
)
def test_the_reason_of_an_exception_is_never_empty(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


class Mute:
    """Refuses to be pickled without a word."""

    def __reduce__(self) -> str:
        raise ValueError


def test_what_refuses_to_be_pickled_without_a_word_is_told_by_the_type_it_raised() -> None:
    with pytest.raises(
        errors.UnserialisableError, match=r"the result of task 'f' cannot be pickled: ValueError\. "
    ):
        encode_value(Mute(), "f")
